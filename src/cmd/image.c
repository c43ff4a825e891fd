/*
 * image.c: `ruche image`: finds the subcommand, and what several of them share.
 */
#include "cmd/image.h"

#include <errno.h>
#include <string.h>

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

int image_run(enum image_command command, int argc, char **argv, int min, int max,
              image_function run)
{
    struct image_session s = { 0 };
    struct err e = { 0 };
    struct image_args a;
    int status;

    if (image_args_parse(&a, command, argc, argv, min, max, &status)) {
        s.loop = loop_create(&e);
        status = s.loop ? run(&a, &s, &e) : CMD_HOST;
        if (e.code) {
            int failed = cmd_fail(&e);

            status = status ? status : failed;
        }
    }
    for (unsigned i = s.n_disks; i-- > 0;)
        blk_close(s.disk[i]);
    if (s.loop)
        loop_destroy(s.loop);
    image_args_fini(&a);
    return status;
}

/*
 * A fixed VHD has its mark at the end, where a guest can write one into a raw disk too: it counts only if
 * the file's name says the same.
 */
static bool image_is_fixed_vhd(const char *path)
{
    size_t n = strlen(path);
    char mark[8] = "";
    FILE *f;

    if (n < 4 || strcasecmp(path + n - 4, ".vhd"))
        return false;
    f = fopen(path, "re");
    if (!f)
        return false;
    if (fseek(f, -512, SEEK_END) || fread(mark, sizeof(mark), 1, f) != 1)
        mark[0] = '\0';
    fclose(f);
    return !memcmp(mark, "conectix", sizeof(mark));
}

struct blk *image_session_disk(struct image_session *s, const struct blk_opts *o, struct err *e)
{
    struct blk_opts with_loop = *o;
    struct blk *b;

    BUG_ON(s->n_disks == IMAGE_SESSION_DISKS);
    with_loop.loop = s->loop;
    if (!o->format && o->readonly && image_is_fixed_vhd(o->path))
        with_loop.format = "vhd";
    b = blk_open(&with_loop, e);
    if (b)
        s->disk[s->n_disks++] = b;
    return b;
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
