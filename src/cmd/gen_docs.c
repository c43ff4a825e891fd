/*
 * gen_docs.c: writes what is made from the tables of this folder: the lists in ruche(1) and the shell
 * completion. A program of the build, not installed. usage: gen_docs man TEMPLATE, gen_docs bash
 */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/options.h"

/* scdoc's own characters lose their meaning. */
static void gen_docs_escaped(const char *text)
{
    for (; *text; text++) {
        if (strchr("_*#\\<>~[]", *text))
            putchar('\\');
        putchar(*text);
    }
}

static void gen_docs_man_options(void)
{
    printf("# OPTIONS OF RUN\n\n");
    for (size_t i = 0; i < options_count; i++) {
        const struct option_spec *s = &options_list[i];

        printf("*--%s*", s->name);
        if (*s->alias)
            printf(", *-%s*", s->alias);
        if (*s->arg) {
            printf(" ");
            gen_docs_escaped(s->arg);
        }
        printf("\n\t");
        gen_docs_escaped(s->help);
        printf("\n\n");
    }
}

static void gen_docs_man(void)
{
    printf("# COMMANDS\n\n");
#define COMMAND(name, function, synopsis, text)                                                    \
    printf("*ruche* ");                                                                            \
    gen_docs_escaped(synopsis);                                                                    \
    printf("\n\t");                                                                                \
    gen_docs_escaped(text);                                                                        \
    printf("\n\n");
#include "cmd/commands.def"
#undef COMMAND
    gen_docs_man_options();
    printf("# EXIT STATUS\n\n");
#define STATUS(name, value, text)                                                                  \
    printf("*%d*\n\t", value);                                                                     \
    gen_docs_escaped(text);                                                                        \
    printf("\n\n");
#include "cmd/status.def"
#undef STATUS
    printf("*odd*\n\tthe guest wrote v to the port of --debug-exit: (v << 1) | 1\n\n"
           "*128+N*\n\tRuche was ended by signal N\n\n");
}

/* Copies the template; its line @TABLES@ becomes the lists. */
static int gen_docs_man_page(const char *template)
{
    FILE *f = fopen(template, "re");
    char line[512];

    if (!f)
        return 1;
    while (fgets(line, sizeof(line), f)) {
        if (!strcmp(line, "@TABLES@\n"))
            gen_docs_man();
        else
            fputs(line, stdout);
    }
    fclose(f);
    return 0;
}

static void gen_docs_bash(void)
{
    printf("# bash completion of ruche; made from src/cmd/options.def and commands.def\n"
           "_ruche() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    if [ \"$COMP_CWORD\" = 1 ]; then\n        COMPREPLY=($(compgen -W '");
#define COMMAND(name, function, synopsis, text) printf("%s ", name);
#include "cmd/commands.def"
#undef COMMAND
    printf("' -- \"$cur\"))\n        return\n    fi\n    [ \"${COMP_WORDS[1]}\" = run ] || return\n"
           "    case $prev in\n");
    for (size_t i = 0; i < options_count; i++) {
        const struct option_spec *s = &options_list[i];

        if (!*s->arg)
            continue;
        printf("    --%s%s%s)\n", s->name, *s->alias ? "|-" : "", s->alias);
        if (!strcmp(s->completion, "@file"))
            printf("        COMPREPLY=($(compgen -f -- \"$cur\"))\n");
        else if (*s->completion)
            printf("        COMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n", s->completion);
        printf("        return ;;\n");
    }
    printf("    esac\n    COMPREPLY=($(compgen -W '");
    for (size_t i = 0; i < options_count; i++)
        printf("--%s ", options_list[i].name);
    printf("' -- \"$cur\"))\n}\ncomplete -o filenames -F _ruche ruche\n");
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "man")) {
        if (gen_docs_man_page(argv[2]))
            return 1;
    } else if (argc == 2 && !strcmp(argv[1], "bash")) {
        gen_docs_bash();
    } else {
        fprintf(stderr, "usage: gen_docs man TEMPLATE | gen_docs bash\n");
        return 2;
    }
    return fflush(stdout) ? 1 : 0;
}
