/*
 * gen_docs.c: writes what is made from the tables of this folder: the lists in ruche(1) and the shell
 * completion. A program of the build, not installed. usage: gen_docs man TEMPLATE, gen_docs bash
 */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/image_args.h"
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

static void gen_docs_man_image(void)
{
    printf("# IMAGE COMMANDS\n\n");
    for (unsigned c = 0; c < IMAGE_COMMANDS; c++) {
        printf("*ruche image* ");
        gen_docs_escaped(image_command_list[c].synopsis);
        printf("\n\t");
        gen_docs_escaped(image_command_list[c].text);
        printf("\n\n");
        for (size_t i = 0; i < image_arg_count; i++) {
            const struct image_arg *s = &image_arg_list[i];

            if (!(s->commands & BIT(c)) || !strcmp(s->name, "help") || s->kind == IMAGE_ARG_REFUSED)
                continue;
            printf("\t");
            if (s->letter)
                printf("*-%c*, ", s->letter);
            printf("*--%s*%s", s->name, *s->arg ? " " : "");
            gen_docs_escaped(s->arg);
            printf(": ");
            gen_docs_escaped(s->help);
            printf("\n\n");
        }
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
    gen_docs_man_image();
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

static const char *gen_docs_bash_words(const char *completion)
{
    return strcmp(completion, "@format") ? completion : "raw qcow2 luks vmdk vdi vhd vhdx";
}

/* The words that begin with a dash in "stop NAME [--now] [-f]". */
static void gen_docs_bash_flags(const char *synopsis)
{
    for (const char *p = synopsis; (p = strchr(p, '[')); p++)
        if (p[1] == '-')
            printf("%.*s ", (int)strcspn(p + 1, "] "), p + 1);
}

/* `ruche image ...`: the subcommand, then its options; everything else is a file. */
static void gen_docs_bash_image(void)
{
    printf("_ruche_image() {\n    local cur=${COMP_WORDS[COMP_CWORD]} "
           "prev=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    if [ \"$COMP_CWORD\" = 2 ]; then\n        COMPREPLY=($(compgen -W '");
    for (unsigned c = 0; c < IMAGE_COMMANDS; c++)
        printf("%s ", image_command_list[c].name);
    printf("' -- \"$cur\"))\n        return\n    fi\n    case ${COMP_WORDS[2]}$prev in\n");
    for (unsigned c = 0; c < IMAGE_COMMANDS; c++)
        for (size_t i = 0; i < image_arg_count; i++) {
            const struct image_arg *s = &image_arg_list[i];

            if (!(s->commands & BIT(c)) || !*s->completion || !strcmp(s->completion, "@file"))
                continue;
            printf("    %s--%s", image_command_list[c].name, s->name);
            if (s->letter)
                printf("|%s-%c", image_command_list[c].name, s->letter);
            printf(")\n        COMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n        return ;;\n",
                   gen_docs_bash_words(s->completion));
        }
    printf("    esac\n    [ \"${cur#-}\" = \"$cur\" ] && COMPREPLY=($(compgen -f -- \"$cur\")) && "
           "return\n    case ${COMP_WORDS[2]} in\n");
    for (unsigned c = 0; c < IMAGE_COMMANDS; c++) {
        printf("    %s) COMPREPLY=($(compgen -W '", image_command_list[c].name);
        for (size_t i = 0; i < image_arg_count; i++)
            if ((image_arg_list[i].commands & BIT(c)) &&
                image_arg_list[i].kind != IMAGE_ARG_REFUSED)
                printf("--%s ", image_arg_list[i].name);
        gen_docs_bash_flags(image_command_list[c].synopsis);
        printf("' -- \"$cur\")) ;;\n");
    }
    printf("    esac\n}\n");
}

/* A command other than run: the names of VMs in the place of NAME, files elsewhere, its options. */
static void gen_docs_bash_command(const char *name, const char *synopsis)
{
    if (!strcmp(name, "run") || !strcmp(name, "image") || !strchr(synopsis, ' '))
        return;
    printf("    %s)\n        if [[ $cur == -* ]]; then\n            COMPREPLY=($(compgen -W '",
           name);
    gen_docs_bash_flags(synopsis);
    printf("' -- \"$cur\"))\n");
    if (strstr(synopsis, " NAME"))
        printf("        elif [ \"$COMP_CWORD\" = 2 ]; then\n"
               "            COMPREPLY=($(compgen -W \"$(\"$1\" list -q 2>/dev/null)\" -- "
               "\"$cur\"))\n");
    printf("        else\n            COMPREPLY=($(compgen -f -- \"$cur\"))\n        fi\n        "
           "return ;;\n");
}

static void gen_docs_bash(void)
{
    gen_docs_bash_image();
    printf("# bash completion of ruche; made from src/cmd/options.def and commands.def\n"
           "_ruche() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    if [ \"$COMP_CWORD\" = 1 ]; then\n        COMPREPLY=($(compgen -W '");
#define COMMAND(name, function, synopsis, text) printf("%s ", name);
#include "cmd/commands.def"
#undef COMMAND
    printf("' -- \"$cur\"))\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n    run) ;;\n"
           "    image)\n        _ruche_image\n        return ;;\n");
#define COMMAND(name, function, synopsis, text) gen_docs_bash_command(name, synopsis);
#include "cmd/commands.def"
#undef COMMAND
    printf("    *) return ;;\n    esac\n    case $prev in\n");
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
