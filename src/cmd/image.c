/*
 * image.c: `ruche image`: finds the subcommand, and what several of them share.
 */
#include "cmd/image.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int image_list(FILE *f)
{
    fprintf(f, "ruche image works on disk images; names and options are those of qemu-img.\n\n");
    for (size_t i = 0; i < IMAGE_COMMANDS; i++)
        fprintf(f, "  ruche image %s\n        %s\n", image_command_list[i].synopsis,
                image_command_list[i].text);
    fprintf(f, "\n`ruche image COMMAND --help` lists the options.\n");
    return f == stdout ? CMD_OK : CMD_USAGE;
}

int cmd_image(int argc, char **argv)
{
    const char *names[IMAGE_COMMANDS], *near;

    if (argc < 2)
        return image_list(stderr);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return image_list(stdout);
    for (size_t i = 0; i < IMAGE_COMMANDS; i++) {
        names[i] = image_command_list[i].name;
        if (!strcmp(argv[1], names[i]))
            return image_command_list[i].run(argc - 1, argv + 1);
    }
    near = cmd_suggest(argv[1], names, IMAGE_COMMANDS);
    if (near)
        fprintf(stderr, "ruche: there is no command image %s; did you mean `ruche image %s`?\n",
                argv[1], near);
    else
        fprintf(stderr, "ruche: there is no command image %s; `ruche image` lists them\n", argv[1]);
    return CMD_USAGE;
}

static int image_session_keys(struct image_session *s, const struct image_args *a, struct err *e)
{
    int rc = a->key_file ? image_key_read(&s->key, a->key_file, e) : 0;

    if (!rc && a->target_key_file)
        rc = image_key_read(&s->target_key, a->target_key_file, e);
    return rc;
}

const char *image_session_target_key(const struct image_session *s)
{
    if (s->target_key.known)
        return s->target_key.text;
    return s->key.known ? s->key.text : NULL;
}

int image_session_new_key(struct image_session *s, const char *path, const char *format,
                          const char *const *options, const char **key, struct err *e)
{
    bool encrypt = format && !strcmp(format, "luks");

    *key = image_session_target_key(s);
    for (; options && *options; options++)
        encrypt = encrypt || !strncmp(*options, "encrypt.format=", 15);
    if (!encrypt || *key)
        return 0;
    if (!image_key_ask(&s->target_key, path, true))
        return err_set(e, ENOKEY,
                       "an encrypted image needs a passphrase: --key-file FILE (- for stdin)");
    *key = s->target_key.text;
    return 0;
}

int image_run(enum image_command command, int argc, char **argv, int min, int max,
              image_function run)
{
    struct image_session s = { 0 };
    struct err e = { 0 };
    struct image_args a;
    int status;

    if (image_args_parse(&a, command, argc, argv, min, max, &status)) {
        s.loop = image_session_keys(&s, &a, &e) ? NULL : loop_create(&e);
        status = s.loop ? run(&a, &s, &e) : e.code ? CMD_OK : CMD_HOST;
        if (e.code) {
            int failed = cmd_fail(&e);

            status = status ? status : failed;
        }
    }
    for (unsigned i = s.n_disks; i-- > 0;)
        blk_close(s.disk[i]);
    if (s.loop)
        loop_destroy(s.loop);
    image_key_forget(&s.key);
    image_key_forget(&s.target_key);
    image_args_fini(&a);
    return status;
}

/*
 * What lies at an offset (from the end, if negative) of a file whose name ends in `suffix`. The marks of some formats are
 * where a guest can write one into its raw disk too: they count only if the file's name says the same.
 */
static bool image_is_named(const char *path, const char *suffix, long off, const char *mark)
{
    size_t n = strlen(path), k = strlen(suffix), len = strlen(mark);
    char head[8] = "";
    FILE *f;

    if (n < k || strcasecmp(path + n - k, suffix))
        return false;
    f = fopen(path, "re");
    if (!f)
        return false;
    if (fseek(f, off, off < 0 ? SEEK_END : SEEK_SET) || fread(head, len, 1, f) != 1)
        head[0] = '\0';
    fclose(f);
    return !memcmp(head, mark, len);
}

struct blk *image_session_disk(struct image_session *s, const struct blk_opts *o, struct err *e)
{
    struct blk_opts with_loop = *o;
    struct blk *b;

    BUG_ON(s->n_disks == IMAGE_SESSION_DISKS);
    with_loop.loop = s->loop;
    if (!o->format && o->readonly && image_is_named(o->path, ".vhd", -512, "conectix"))
        with_loop.format = "vhd";
    if (!o->format && image_is_named(o->path, ".luks", 0, "LUKS\xba\xbe"))
        with_loop.format = "luks";
    if (!with_loop.passphrase && s->key.known)
        with_loop.passphrase = s->key.text;
    b = blk_open(&with_loop, e);
    if (!b && e->code == ENOKEY && image_key_ask(&s->key, o->path, false)) {
        *e = (struct err){ 0 };
        with_loop.passphrase = s->key.text;
        b = blk_open(&with_loop, e);
    }
    if (b)
        s->disk[s->n_disks++] = b;
    return b;
}

bool image_same_file(const char *a, const char *b)
{
    struct stat sa, sb;

    return !strcmp(a, b) ||
           (!stat(a, &sa) && !stat(b, &sb) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino);
}

int image_print_json(json_t *json)
{
    char *text = json ? json_dumps(json, JSON_INDENT(4)) : NULL;

    json_decref(json);
    if (!text) {
        fprintf(stderr, "ruche: out of memory\n");
        return CMD_HOST;
    }
    puts(text);
    free(text);
    return CMD_OK;
}

void image_human_size(uint64_t bytes, char *text, size_t len)
{
    static const char units[] = " KMGTPE";
    double value = (double)bytes;
    size_t u = 0;

    while (value >= 1024 && u < sizeof(units) - 2) {
        value /= 1024;
        u++;
    }
    if (u)
        snprintf(text, len, "%.3g %ciB", value, units[u]);
    else
        snprintf(text, len, "%llu B", (unsigned long long)bytes);
}

const char **image_new_options(const struct image_args *a)
{
    static const char luks[] = "encrypt.format=luks";
    const char *given = a->options ? a->options : "";
    size_t n = strlen(given) + sizeof(luks) + 2;
    const char **list;
    char *text;

    if (!a->encrypt)
        return image_split_options(a->options);
    text = malloc(n);
    if (!text)
        return NULL;
    snprintf(text, n, "%s%s%s", given, *given ? "," : "", luks);
    list = image_split_options(text);
    free(text);
    return list;
}

const char **image_split_options(const char *text)
{
    size_t len = text ? strlen(text) : 0, n = 0;
    const char **list;
    char *copy, *in, *out;

    if (!text)
        return NULL;
    list = malloc((len + 2) * sizeof(*list) + len + 1); /* no more items than characters */
    if (!list)
        return NULL;
    copy = (char *)(list + len + 2);
    memcpy(copy, text, len + 1);
    for (in = out = copy; *in; n += *list[n] != '\0') {
        list[n] = out;
        while (*in && (*in != ',' || in[1] == ',')) {
            if (*in == ',')
                in++;
            *out++ = *in++;
        }
        if (*in)
            in++;
        *out++ = '\0';
    }
    list[n] = NULL;
    return list;
}
