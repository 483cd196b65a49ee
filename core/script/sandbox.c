/* What a script can reach: an allow-list, built anew for each file.
 *
 * lua/perilune/core/sandbox.lua makes the environment out of the opened
 * libraries; here are the parts that need C: loading text only, and the
 * trusted chunks of the program itself.
 */
// SPDX-License-Identifier: MIT
#include "script/state.h"

#include "script/load_text.h"
#include "script/pattern.h"

void sandbox_functions(struct script *s)
{
    load_text_open(s->L);
    lua_getglobal(s->L, "string");
    pattern_open(s->L, &s->board->settings.value[FOR_ALL][SETTING_SCRIPT_PATTERN_STEPS]);
    lua_pop(s->L, 1);
}
