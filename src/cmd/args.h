/*
 * args.h: the arguments of the small commands: words, and a few options anywhere among them. Single thread.
 */
#ifndef CMD_ARGS_H
#define CMD_ARGS_H

#include "base/err.h"

struct arg_option {
    const char *name, *alias; /* "--now", "-n"; alias NULL: none */
    bool *given;              /* NULL, or set */
    const char **value;       /* NULL: it takes none; else the last one given */
    char **joined;            /* NULL, or: all of them, with commas between; the caller frees it */
};

/*
 * Reads argv[1..argc-1]; what is no option goes to argv[1..*n_words] in its order. After "--" all are words.
 * 0; -EINVAL with a sentence; -ECANCELED: --help was given, and has been printed.
 */
must_check int args_parse(int argc, char **argv, const struct arg_option *options, size_t n_options,
                          int *n_words, struct err *e);
/* The same for a command that wants min to max words. */
must_check int args_words(int argc, char **argv, const struct arg_option *options, size_t n_options,
                          int min, int max, int *n_words, struct err *e);
/* The status for what args_parse() returned, after its sentence was printed. */
int args_failed(int rc, const struct err *e);

#endif
