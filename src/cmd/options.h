/*
 * options.h: the options of `ruche run` (the list: options.def). Single thread.
 */
#ifndef CMD_OPTIONS_H
#define CMD_OPTIONS_H

#include <stdio.h>

#include "vm/config.h"

/* What cloud-init is told; argv's, NULL: nothing. */
struct options_seed {
    const char *user, *ssh_key, *hostname, *cloud_init;
};
struct options {
    struct vm_config config;
    bool dry_run, help;
    bool mac_given;
    struct options_seed seed;
    const char *image; /* argv's: the image or VM whose disk is the first one; NULL: none */
};

struct option_spec {
    const char *name;       /* without the dashes */
    const char *alias;      /* QEMU's or one-letter name, taken with one dash or two; "" if none */
    const char *arg;        /* "" if it takes none */
    const char *completion; /* words, "@file", or "" */
    const char *help;
    int (*set)(struct options *o, const char *value, struct err *e);
};
extern const struct option_spec options_list[];
extern const size_t options_count;

/*
 * Reads argv[1..] into *o, over the defaults, and fills in what follows from the rest (kernel command
 * line, MAC address). 0, or -EINVAL with a sentence; options_fini() is due in both cases.
 */
must_check int options_parse(struct options *o, int argc, char **argv, struct err *e);
void options_fini(struct options *o);
/* Puts a disk before the others, or a read-only one behind them. 0 or -errno with a sentence. */
must_check int options_first_disk(struct options *o, const char *path, const char *format,
                                  struct err *e);
must_check int options_last_disk(struct options *o, const char *path, const char *format,
                                 struct err *e);
/* A password, made up, in *password, which is replaced. */
must_check int options_make_password(char **password, struct err *e);
void options_print_help(FILE *f);

#endif
