/* command_line.h - the commands and flags that there are, from which parsing, help, completion and the manual page are made.
 *
 * Owner:   the program; constants.
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/options.h"

#include <stddef.h>

struct flag {
    const char *name;
    const char *argument; /* what follows, for the help; NULL: nothing, it is a switch */
    const char *values;   /* all that may follow, by spaces; NULL: anything */
    size_t offset;        /* of a const char * in struct options, or of a switch's bool */
    const char *help;
};

struct command_name {
    const char *name;
    enum command command;
    const char *help;
};

/* Both end with one that has no name. */
extern const struct flag command_flags[];
extern const struct command_name command_names[];

/* "" for none. */
const char *command_name(enum command command);

/* What can stand behind a command, by spaces; NULL: it takes no word. */
const char *command_words(enum command command);

/* Whether a flag is for this command, by its help. */
bool command_takes(const char *command, const struct flag *flag);
