/*
 * image_args.c: see image_args.h.
 */
#include "cmd/image_args.h"

#include <errno.h>
#include <string.h>

#define C(id) BIT(IMAGE_##id)
const struct image_arg image_arg_list[] = {
#define ARG(commands, letter, name, kind, field, arg, completion, help)                            \
    { commands, letter,     name, IMAGE_ARG_##kind, offsetof(struct image_args, field),            \
      arg,      completion, help },
#include "cmd/image_args.def"
#undef ARG
};
#undef C
const size_t image_arg_count = ARRAY_SIZE(image_arg_list);
_Static_assert(IMAGE_COMMANDS <= 32, "a command is a bit of a word");

const struct image_command_spec image_command_list[IMAGE_COMMANDS] = {
#define IMAGE(id, name, function, synopsis, text) { name, synopsis, text, function },
#include "cmd/image.def"
#undef IMAGE
};

static bool image_args_usage(const struct image_args *a, const char *what, const char *word)
{
    fprintf(stderr, "ruche: image %s: %s%s; `ruche image %s --help` lists what there is\n",
            image_command_list[a->command].name, what, word, image_command_list[a->command].name);
    return false;
}

static const struct image_arg *image_args_find(const struct image_args *a, char letter,
                                               const char *name, size_t len)
{
    for (size_t i = 0; i < image_arg_count; i++) {
        const struct image_arg *s = &image_arg_list[i];

        if (!(s->commands & BIT(a->command)))
            continue;
        if (name ? strlen(s->name) == len && !strncmp(s->name, name, len) : s->letter == letter)
            return s;
    }
    return NULL;
}

/* qemu-img's sizes may end in b; ours may end in B too. */
static int image_args_size(const char *text, uint64_t *size)
{
    size_t n = strlen(text);
    char copy[32];

    if (n && n < sizeof(copy) && text[n - 1] == 'b') {
        memcpy(copy, text, n - 1);
        copy[n - 1] = '\0';
        return util_parse_size(copy, size);
    }
    return util_parse_size(text, size);
}

static int image_args_number(const char *text, uint64_t *n)
{
    char *end;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    *n = strtoull(text, &end, 0);
    return errno || *end ? -EINVAL : 0;
}

static bool image_args_text(const struct image_args *a, char **field, const char *value, bool list)
{
    size_t n = strlen(value) + (list && *field ? strlen(*field) + 1 : 0) + 1;
    char *text = malloc(n);

    if (!text)
        return image_args_usage(a, "out of memory", "");
    snprintf(text, n, "%s%s%s", list && *field ? *field : "", list && *field ? "," : "", value);
    free(*field);
    *field = text;
    return true;
}

static bool image_args_refuse(const struct image_args *a, const struct image_arg *s)
{
    fprintf(stderr, "ruche: image %s: there is no --%s: %s\n", image_command_list[a->command].name,
            s->name, s->help);
    return false;
}

static bool image_args_set(struct image_args *a, const struct image_arg *s, const char *value)
{
    void *field = (char *)a + s->field;

    switch (s->kind) {
    case IMAGE_ARG_FLAG:
        *(bool *)field = true;
        return true;
    case IMAGE_ARG_TEXT:
    case IMAGE_ARG_LIST:
        return image_args_text(a, field, value, s->kind == IMAGE_ARG_LIST);
    case IMAGE_ARG_SIZE:
        return !image_args_size(value, field) || image_args_usage(a, "no size is ", value);
    case IMAGE_ARG_REFUSED:
        return image_args_refuse(a, s);
    case IMAGE_ARG_NUMBER:
        return !image_args_number(value, field) || image_args_usage(a, "no number is ", value);
    }
    return false;
}

/* "--name", "--name=value", "--name value". Moves *i to the last word it used. */
static bool image_args_long(struct image_args *a, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *value = strchr(name, '=');
    const struct image_arg *s =
        image_args_find(a, 0, name, value ? (size_t)(value - name) : strlen(name));

    if (!s)
        return image_args_usage(a, "there is no option ", argv[*i]);
    if (s->kind == IMAGE_ARG_REFUSED)
        return image_args_refuse(a, s);
    if (s->kind == IMAGE_ARG_FLAG)
        return value ? image_args_usage(a, "takes no value: ", argv[*i])
                     : image_args_set(a, s, NULL);
    if (value)
        return image_args_set(a, s, value + 1);
    if (*i + 1 >= argc)
        return image_args_usage(a, "needs a value: ", argv[*i]);
    return image_args_set(a, s, argv[++*i]);
}

/* "-p", "-pW", "-f raw", "-fraw" */
static bool image_args_short(struct image_args *a, int argc, char **argv, int *i)
{
    for (const char *c = argv[*i] + 1; *c; c++) {
        const struct image_arg *s = image_args_find(a, *c, NULL, 0);

        if (!s)
            return image_args_usage(a, "there is no option ", argv[*i]);
        if (s->kind == IMAGE_ARG_REFUSED)
            return image_args_refuse(a, s);
        if (s->kind == IMAGE_ARG_FLAG) {
            image_args_set(a, s, NULL);
            continue;
        }
        if (c[1])
            return image_args_set(a, s, c + 1);
        if (*i + 1 >= argc)
            return image_args_usage(a, "needs a value: ", argv[*i]);
        return image_args_set(a, s, argv[++*i]);
    }
    return true;
}

/* "-" and, for `resize`, "-5G" are no options. */
static bool image_args_is_option(const char *word)
{
    return word[0] == '-' && word[1] && !(word[1] >= '0' && word[1] <= '9');
}

static bool image_args_words(struct image_args *a, int argc, char **argv)
{
    bool options = true;

    for (int i = 1; i < argc; i++) {
        if (!options || !image_args_is_option(argv[i])) {
            a->operands[a->n_operands++] = argv[i];
        } else if (!strcmp(argv[i], "--")) {
            options = false;
        } else if (argv[i][1] == '-') {
            if (!image_args_long(a, argc, argv, &i))
                return false;
        } else if (!image_args_short(a, argc, argv, &i)) {
            return false;
        }
    }
    return true;
}

static void image_args_defaults(struct image_args *a, enum image_command command)
{
    *a = (struct image_args){ .command = command,
                              .sparse = 4 * KIB,
                              .workers = 8,
                              .count = 75000,
                              .depth = 64,
                              .size = 4 * KIB,
                              .length = UINT64_MAX,
                              .new_size = UINT64_MAX };
}

/* Prints the options of new images of a format, if that is what text asks for: "help", "?". */
static bool image_args_option_help(const char *text, const char *format)
{
    static const struct {
        const char *format, *options;
    } known[] = {
        { "raw", "  preallocation=off|falloc|full\n" },
        { "qcow2",
          "  cluster_size=SIZE (64k), compat=1.1|0.10, compression_type=zlib|zstd,\n"
          "  lazy_refcounts=on|off, extended_l2=on|off, refcount_bits=1..64,\n"
          "  preallocation=off|metadata|falloc|full, data_file=FILE, data_file_raw=on|off,\n"
          "  backing_file=FILE, backing_fmt=FORMAT, encrypt.format=luks,\n"
          "  encrypt.cipher-alg=aes-256|aes-128, encrypt.hash-alg=sha256|sha1|sha512,\n"
          "  encrypt.iter-time=MILLISECONDS (2000)\n" },
        { "luks", "  cipher-alg=aes-256|aes-128, hash-alg=sha256|sha1|sha512,\n"
                  "  iter-time=MILLISECONDS (2000)\n" },
        { "vmdk", "  subformat=monolithicSparse|monolithicFlat|twoGbMaxExtentSparse|\n"
                  "    twoGbMaxExtentFlat|streamOptimized, hwversion=N (4),\n"
                  "  adapter_type=ide|buslogic|lsilogic|legacyESX\n" },
        { "vdi", "  static=on|off\n" },
        { "vhd", "  subformat=dynamic|fixed\n" },
        { "vpc", "  subformat=dynamic|fixed\n" },
        { "vhdx", "  subformat=dynamic|fixed, block_size=SIZE (8M to 32M by the disk's size)\n" },
    };

    if (!text || (strcmp(text, "help") && strcmp(text, "?")))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (!format || !strcmp(known[i].format, format))
            printf("Options of %s images (-o NAME=VALUE,...):\n%s", known[i].format,
                   known[i].options);
    return true;
}

/* Many are taken for qemu-img's sake; a word that means nothing is a mistake all the same. */
static bool image_args_cache(const struct image_args *a, const char *mode)
{
    static const char *const modes[] = { "writeback", "none", "writethrough", "directsync",
                                         "unsafe" };

    for (size_t i = 0; mode && i < ARRAY_SIZE(modes); i++)
        if (!strcmp(mode, modes[i]))
            return true;
    return !mode || image_args_usage(a,
                                     "known cache modes are writeback, none, writethrough, "
                                     "directsync and unsafe, not ",
                                     mode);
}

bool image_args_parse(struct image_args *a, enum image_command command, int argc, char **argv,
                      int min, int max, int *status)
{
    *status = CMD_USAGE;
    image_args_defaults(a, command);
    a->operands = calloc((size_t)argc + 1, sizeof(*a->operands));
    if (!a->operands)
        return image_args_usage(a, "out of memory", "");
    if (!image_args_words(a, argc, argv))
        return false;
    if (a->help) {
        image_args_help(command, stdout);
        *status = CMD_OK;
        return false;
    }
    if (image_args_option_help(a->options, command == IMAGE_CONVERT ? a->out_format : a->format)) {
        *status = CMD_OK;
        return false;
    }
    if (a->output && strcmp(a->output, "human") && strcmp(a->output, "json"))
        return image_args_usage(a, "--output is human or json, not ", a->output);
    if (a->output)
        a->json = !strcmp(a->output, "json");
    if (!image_args_cache(a, a->cache) || !image_args_cache(a, a->source_cache))
        return false;
    if (a->n_operands > max)
        return image_args_usage(a, "one operand too many: ", a->operands[max]);
    if (a->n_operands < min)
        return image_args_usage(a, "usage: ruche image ", image_command_list[command].synopsis);
    return true;
}

void image_args_fini(struct image_args *a)
{
    for (size_t i = 0; i < image_arg_count; i++) {
        const struct image_arg *s = &image_arg_list[i];
        char **field = (char **)(void *)((char *)a + s->field);

        if (s->kind != IMAGE_ARG_TEXT && s->kind != IMAGE_ARG_LIST)
            continue;
        free(*field);
        *field = NULL; /* several options may have the same field */
    }
    free(a->operands);
}

void image_args_help(enum image_command command, FILE *f)
{
    const struct image_command_spec *c = &image_command_list[command];

    fprintf(f, "ruche image %s\n        %s\n\nOptions:\n", c->synopsis, c->text);
    for (size_t i = 0; i < image_arg_count; i++) {
        const struct image_arg *s = &image_arg_list[i];

        if (!(s->commands & BIT(command)) || s->kind == IMAGE_ARG_REFUSED)
            continue;
        fprintf(f, "  ");
        if (s->letter)
            fprintf(f, "-%c, ", s->letter);
        fprintf(f, "--%s%s%s\n        %s\n", s->name, *s->arg ? " " : "", s->arg, s->help);
    }
}
