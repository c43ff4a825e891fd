/*
 * image_args.h: the options of `ruche image ...` (the lists: image.def, image_args.def). Single thread.
 */
#ifndef CMD_IMAGE_ARGS_H
#define CMD_IMAGE_ARGS_H

#include <stdio.h>

#include "cmd/cmd.h"

enum image_command {
#define IMAGE(id, name, function, synopsis, text) IMAGE_##id,
#include "cmd/image.def"
#undef IMAGE
    IMAGE_COMMANDS,
};

struct image_args {
    enum image_command command;
    char *format, *out_format, *options, *backing, *backing_format, *snapshot, *output, *repair;
    char *prealloc, *apply, *create, *remove, *aio, *cache, *source_cache, *merge;
    char *key_file, *target_key_file;
    uint64_t sparse, workers, rate, offset, length, count, depth, size, step, flush, pattern;
    uint64_t granularity, new_size;
    bool compress, unordered, no_create, target_is_zero, salvage, progress, quiet, share, json;
    bool chain, unsafe, keep, strict, shrink, list, write, random, no_drain, help;
    bool bitmap_add, bitmap_remove, bitmap_clear, bitmap_enable, bitmap_disable, bitmaps,
        skip_broken, encrypt;

    char **operands; /* argv's, NULL at the end */
    int n_operands;
};

enum image_arg_kind {
    IMAGE_ARG_FLAG,
    IMAGE_ARG_TEXT,
    IMAGE_ARG_SIZE,
    IMAGE_ARG_NUMBER,
    IMAGE_ARG_LIST,
    IMAGE_ARG_REFUSED /* one of qemu-img's that is not here: the help says what to do instead */
};
struct image_arg {
    unsigned commands; /* bits of enum image_command */
    char letter;       /* 0: none */
    const char *name;
    enum image_arg_kind kind;
    size_t field; /* its offset in struct image_args */
    const char *arg, *completion, *help;
};
extern const struct image_arg image_arg_list[];
extern const size_t image_arg_count;

/* What a subcommand is called, and how. */
struct image_command_spec {
    const char *name, *synopsis, *text;
    int (*run)(int argc, char **argv);
};
extern const struct image_command_spec image_command_list[IMAGE_COMMANDS];

/*
 * Reads argv[1..]; operands stay argv's. false: the command ends with *status, having printed help or what
 * is wrong; min and max are how many operands there may be. image_args_fini() is due in both cases.
 */
must_check bool image_args_parse(struct image_args *a, enum image_command command, int argc,
                                 char **argv, int min, int max, int *status);
void image_args_fini(struct image_args *a);
void image_args_help(enum image_command command, FILE *f);

/* The functions of image.def: argv[0] is the subcommand's name; the exit status. */
#define IMAGE(id, name, function, synopsis, text) int function(int argc, char **argv);
#include "cmd/image.def"
#undef IMAGE

#endif
