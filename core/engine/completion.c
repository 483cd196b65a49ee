// SPDX-License-Identifier: MIT
#include "engine/command_line.h"

#include <stdio.h>
#include <string.h>

static bool is_path(const struct flag *f)
{
    return strcmp(f->argument, "FILE") == 0 || strcmp(f->argument, "DIR") == 0 || strcmp(f->argument, "TEXT|@FILE") == 0;
}

static void names(void)
{
    for (const struct command_name *c = command_names; c->name; c++)
        printf("%s ", c->name);
}

/* What stands behind a flag: files, one of its values, or what only the user knows. */
static void bash_values(void)
{
    for (const struct flag *f = command_flags; f->name; f++) {
        if (!f->argument)
            continue;
        if (f->values)
            printf("    %s) COMPREPLY=($(compgen -W '%s' -- \"$word\")); return;;\n", f->name, f->values);
        else
            printf("    %s) COMPREPLY=(%s); return;;\n", f->name, is_path(f) ? "$(compgen -f -- \"$word\")" : "");
    }
}

static void complete_bash(void)
{
    printf("_perilune() {\n"
           "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} words=\n"
           "  if [ \"$COMP_CWORD\" -gt 1 ]; then case $before in\n");
    bash_values();
    printf("  esac; fi\n  case $word in -*) words='");
    for (const struct flag *f = command_flags; f->name; f++)
        printf("%s ", f->name);
    printf("';;\n  *) if [ \"$COMP_CWORD\" = 1 ]; then words='");
    names();
    printf("'; else case $command in\n    help) words='");
    names();
    printf("';;\n");
    for (const struct command_name *c = command_names; c->name; c++)
        if (command_words(c->command))
            printf("    %s) words='%s';;\n", c->name, command_words(c->command));
    printf("    replay) COMPREPLY=($(compgen -f -- \"$word\")); return;;\n"
           "    esac; fi;;\n  esac\n"
           "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -F _perilune perilune\n");
}

static void print_quoted(const char *text)
{
    putchar('\'');
    for (const char *p = text; *p; p++)
        fputs(*p == '\'' ? "\\'" : (char[]){*p, 0}, stdout);
    putchar('\'');
}

static void complete_fish(void)
{
    printf("complete -c perilune -f\n");
    for (const struct command_name *c = command_names; c->name; c++) {
        printf("complete -c perilune -n __fish_use_subcommand -a %s -d ", c->name);
        print_quoted(c->help);
        putchar('\n');
        if (command_words(c->command))
            printf("complete -c perilune -n '__fish_seen_subcommand_from %s' -a '%s'\n", c->name, command_words(c->command));
    }
    for (const struct flag *f = command_flags; f->name; f++) {
        bool is_long = f->name[1] == '-';
        printf("complete -c perilune %s %s%s", is_long ? "-l" : "-s", f->name + (is_long ? 2 : 1), f->argument ? " -r" : "");
        if (f->values)
            printf(" -a '%s'", f->values);
        printf("%s -d ", f->argument && is_path(f) ? " -F" : "");
        print_quoted(f->help);
        putchar('\n');
    }
}

void options_completion(const char *shell)
{
    if (strcmp(shell, "fish") == 0) {
        complete_fish();
        return;
    }
    if (strcmp(shell, "zsh") == 0)
        printf("autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n");
    complete_bash();
}
