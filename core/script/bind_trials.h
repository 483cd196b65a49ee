/* bind_trials.h - what a trial may do, for the scripts of control.
 *
 *     core.trials.state(name)        { value, stable, on_trial }; nil: there is nothing of this name
 *     core.trials.try(name, value, canary_only)   true; or nil and why: out of bounds, not live, not for the engine
 *                                    to change, not for some workers alone
 *     core.trials.restore(name)      the stable value is in force again
 *     core.trials.canary(workers)    a list of workers, from 0: they read what is for the canary only
 *     core.trials.arms(workers)      measures them apart from the others (watch.span); without: no longer
 *     core.trials.renew(seconds)     what is on trial stays for so long; again and again, or it is let go
 *     core.trials.expired()          how often that has happened
 *     core.trials.now_ms()           unix time
 *
 * Names are those of settings, and pool.<id>.max and pool.<id>.min. Values of
 * booleans are booleans.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "stats/arms.h"

#include <lua.h>

/* Sets the field `trials` of the table on top. */
void bind_trials_open(lua_State *L, struct board *board, struct arms *arms);
