// SPDX-License-Identifier: MIT
#include "engine/command_line.h"

#include <stdio.h>

/* Text that troff takes as it is. */
static void roff(const char *text)
{
    for (const char *p = text; *p; p++)
        if (*p == '-' || *p == '\\')
            printf(*p == '-' ? "\\-" : "\\e");
        else if ((*p == '.' || *p == '\'') && p == text)
            printf("\\&%c", *p);
        else
            putchar(*p);
}

void options_man(void)
{
    printf(".TH PERILUNE 1 \"\" \"perilune %s\" \"User Commands\"\n.SH NAME\nperilune \\- a Lua\\-scriptable performance engine\n"
           ".SH SYNOPSIS\n.B perilune\n.I COMMAND\n[\n.I OPTIONS\n]\n.SH DESCRIPTION\n"
           "Serves, proxies and measures HTTP; says what is slow and why, what to change and what that would gain; tries it, keeps what is proven, and takes back the rest.\n"
           "Scripts, rules and policies are Lua files, read again while it runs.\n.SH COMMANDS\n", PERILUNE_VERSION);
    for (const struct command_name *c = command_names; c->name; c++) {
        printf(".TP\n.B %s\n", c->name);
        roff(c->help);
        putchar('\n');
    }
    printf(".SH OPTIONS\n");
    for (const struct flag *f = command_flags; f->name; f++) {
        printf(".TP\n.B%s \"", f->argument ? "I" : "");
        roff(f->name);
        printf(f->argument ? " \" \"%s\"\n" : "\"\n", f->argument);
        roff(f->help);
        putchar('\n');
    }
    printf(".SH EXIT STATUS\n0 done; 1 failed while running or in a test, or no engine answers; 2 wrong usage, configuration or script, or the engine refused; "
           "3 a \\-\\-fail\\-on holds or a benchmark is not valid; 4 the log has no known format.\n"
           ".SH ENVIRONMENT\nPERILUNE_LISTEN, PERILUNE_ADMIN, PERILUNE_ADMIN_TOKEN and the others that perilune config show \\-\\-origin names. "
           "An option wins over the environment, that over the API, that over the file.\n"
           ".SH FILES\n.I perilune.lua\nthe configuration;\n.I rules/\nroutes, rules and policies;\n.I .perilune/\nstate.\n");
}
