/* args.c: see args.h. */
#include "cmd/args.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"

/* The option that text names, up to an '='. */
static const struct arg_option *args_find(const struct arg_option *options, size_t n,
                                          const char *text)
{
    size_t len = strcspn(text, "=");

    for (size_t i = 0; i < n; i++) {
        const struct arg_option *o = &options[i];

        if (strlen(o->name) == len && !strncmp(o->name, text, len))
            return o;
        if (o->alias && !strcmp(o->alias, text))
            return o;
    }
    return NULL;
}

static int args_unknown(const char *command, const struct arg_option *options, size_t n,
                        const char *text, struct err *e)
{
    char known[256] = "";
    size_t at = 0;

    for (size_t i = 0; i < n && at < sizeof(known); i++)
        at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s",
                               i ? ", " : "; known: ", options[i].name);
    return err_set(e, EINVAL, "ruche %s has no option %s%s", command, text, known);
}

static int args_join(char **joined, const char *value, struct err *e)
{
    char *both;

    if (asprintf(&both, "%s%s%s", *joined ? *joined : "", *joined ? "," : "", value) < 0)
        return err_set(e, ENOMEM, "out of memory");
    free(*joined);
    *joined = both;
    return 0;
}

/* The option at argv[*i], and its value behind it. */
static int args_option(int argc, char **argv, int *i, const struct arg_option *o, struct err *e)
{
    const char *equals = strchr(argv[*i], '=');

    if (o->given)
        *o->given = true;
    if (!o->value)
        return equals ? err_set(e, EINVAL, "%s takes no value", o->name) : 0;
    if (!equals && *i + 1 == argc)
        return err_set(e, EINVAL, "%s needs a value", o->name);
    *o->value = equals ? equals + 1 : argv[++*i];
    return o->joined ? args_join(o->joined, *o->value, e) : 0;
}

int args_parse(int argc, char **argv, const struct arg_option *options, size_t n_options,
               int *n_words, struct err *e)
{
    bool only_words = false;
    int rc = 0;

    *n_words = 0;
    for (int i = 1; !rc && i < argc; i++) {
        const struct arg_option *o;

        if (only_words || argv[i][0] != '-' || !argv[i][1]) {
            argv[++*n_words] = argv[i];
        } else if (!strcmp(argv[i], "--")) {
            only_words = true;
        } else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            return cmd_print_usage(argv[0], stdout) ? -ECANCELED : -EINVAL;
        } else {
            o = args_find(options, n_options, argv[i]);
            rc = o ? args_option(argc, argv, &i, o, e)
                   : args_unknown(argv[0], options, n_options, argv[i], e);
        }
    }
    return rc;
}

int args_words(int argc, char **argv, const struct arg_option *options, size_t n_options, int min,
               int max, int *n_words, struct err *e)
{
    int rc = args_parse(argc, argv, options, n_options, n_words, e);

    if (!rc && *n_words < min)
        return err_set(e, EINVAL, "ruche %s: something is missing; `ruche %s --help` shows what",
                       argv[0], argv[0]);
    if (!rc && *n_words > max)
        return err_set(e, EINVAL, "ruche %s: what is \"%s\"?", argv[0], argv[max + 1]);
    return rc;
}

int args_failed(int rc, const struct err *e)
{
    if (rc == -ECANCELED)
        return CMD_OK;
    fprintf(stderr, "ruche: %s\n", e->msg);
    return CMD_USAGE;
}
