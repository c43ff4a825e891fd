/* image_build.c: `ruche image build`: a script makes the disk, the store keeps it. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/cmd.h"
#include "cmd/image_store.h"
#include "cmd/program.h"
#include "cmd/text_file.h"

enum { BUILD_ARGS_MAX = 24 };
#define BUILD_SIZE_MIN (GIB)
#define BUILD_SIZE     (8 * GIB)

struct build {
    const char *what; /* debian[:release] */
    const char *name, *size, *package, *hostname, *user, *ssh_key;
    char *packages;
    const char *release;
    uint64_t bytes;
};

/* --- what is asked for --- */

/* Debian's releases also have numbers. */
static const char *build_release(const char *text)
{
    static const struct {
        const char *number, *name;
    } numbers[] = {
        { "11", "bullseye" }, { "12", "bookworm" }, { "13", "trixie" }, { "unstable", "sid" }
    };

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        if (!strcmp(numbers[i].number, text))
            return numbers[i].name;
    return text;
}

static bool build_is_word(const char *text, const char *more)
{
    size_t len = strlen(text);

    if (!len || len > 255 || !isalnum((unsigned char)text[0]))
        return false;
    for (const char *p = text; *p; p++)
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && !strchr(more, *p))
            return false;
    return true;
}

static int build_check(struct build *b, struct err *e)
{
    if (strncmp(b->what, "debian", 6) || (b->what[6] && b->what[6] != ':'))
        return err_set(e, EINVAL,
                       "%s: only debian can be built here, or debian:RELEASE; `ruche image pull` "
                       "takes images of others",
                       b->what);
    b->release = build_release(b->what[6] ? b->what + 7 : "bookworm");
    if (!build_is_word(b->release, "-"))
        return err_set(e, EINVAL, "%s is no release of Debian; try debian:trixie", b->what);
    if (!b->name)
        b->name = b->what;
    b->bytes = BUILD_SIZE;
    if (b->size && (util_parse_size(b->size, &b->bytes) || b->bytes < BUILD_SIZE_MIN))
        return err_set(e, EINVAL, "--size %s: a size of at least 1G, like 8G", b->size);
    b->bytes = align_up(b->bytes, MIB);
    if (b->packages && !build_is_word(b->packages, "+-.,"))
        return err_set(e, EINVAL, "--package %s: names of packages with commas between",
                       b->packages);
    if (b->hostname && !build_is_word(b->hostname, "-."))
        return err_set(e, EINVAL, "--hostname %s: small letters, digits, - and .", b->hostname);
    if (b->user && (!build_is_word(b->user, "-_") || strlen(b->user) > 31))
        return err_set(e, EINVAL, "--user %s: up to 31 small letters, digits, - and _", b->user);
    return b->ssh_key ? text_file_check_key("--ssh-key", b->ssh_key, e) : 0;
}

/* --- making it --- */

static int build_run(const struct build *b, const char *out, struct err *e)
{
    const char *argv[BUILD_ARGS_MAX];
    char tool[PATH_MAX], bytes[24];
    size_t n = 0;

    if (program_find("image-debian", tool, sizeof(tool), e))
        return -e->code;
    snprintf(bytes, sizeof(bytes), "%" PRIu64, b->bytes);
    argv[n++] = tool;
    argv[n++] = "--out";
    argv[n++] = out;
    argv[n++] = "--release";
    argv[n++] = b->release;
    argv[n++] = "--size";
    argv[n++] = bytes;
    argv[n++] = "--hostname";
    argv[n++] = b->hostname ? b->hostname : "debian";
    if (b->packages) {
        argv[n++] = "--with";
        argv[n++] = b->packages;
    }
    if (b->user) {
        argv[n++] = "--user";
        argv[n++] = b->user;
    }
    if (b->ssh_key) {
        argv[n++] = "--ssh-key";
        argv[n++] = b->ssh_key;
    }
    argv[n] = NULL;
    return program_run(argv, e);
}

/* As qcow2 the file is as large as what is in it, and can be copied and checked as such. */
static int build_convert(const char *from, const char *to, struct err *e)
{
    char *argv[] = { strdup("convert"), strdup("-q"), strdup("-O"), strdup("qcow2"),
                     strdup(from),      strdup(to),   NULL };
    int status = cmd_image_convert(ARRAY_SIZE(argv) - 1, argv);

    for (size_t i = 0; argv[i]; i++)
        free(argv[i]);
    if (status)
        return err_set(e, EIO, "the disk that was made could not be converted");
    return unlink(from) ? err_set(e, errno, "%s: %s", from, strerror(errno)) : 0;
}

static int build_move(const struct store_entry *s, const char *file, struct err *e)
{
    char name[64], from[PATH_MAX], to[PATH_MAX];

    snprintf(name, sizeof(name), "out/%s", file);
    store_file(s, name, from, sizeof(from));
    store_file(s, file, to, sizeof(to));
    return rename(from, to) ? err_set(e, errno, "%s: %s", from, strerror(errno)) : 0;
}

static int build_fill(const struct build *b, struct store_entry *s, struct err *e)
{
    char out[PATH_MAX], raw[PATH_MAX], disk[PATH_MAX];
    int rc;

    store_file(s, "out", out, sizeof(out));
    store_file(s, "out/disk.raw", raw, sizeof(raw));
    store_file(s, "disk.qcow2", disk, sizeof(disk));
    rc = build_run(b, out, e);
    if (!rc)
        rc = build_convert(raw, disk, e);
    if (!rc)
        rc = build_move(s, "vmlinuz", e);
    if (!rc)
        rc = build_move(s, "initrd.img", e);
    if (rc)
        return rc;
    rmdir(out);
    json_object_set_new(s->meta, "disk", json_string("disk.qcow2"));
    json_object_set_new(s->meta, "format", json_string("qcow2"));
    json_object_set_new(s->meta, "size", json_integer((json_int_t)b->bytes));
    json_object_set_new(s->meta, "source", json_pack("s+", "built: debian ", b->release));
    json_object_set_new(s->meta, "kernel", json_string("vmlinuz"));
    json_object_set_new(s->meta, "initrd", json_string("initrd.img"));
    json_object_set_new(s->meta, "append", json_string("root=LABEL=root ro console=ttyS0"));
    return image_store_seal(s, e);
}

static int build_make(struct build *b, struct err *e)
{
    struct store_entry s;
    int rc = build_check(b, e);

    if (!rc)
        rc = store_begin(&s, STORE_IMAGES, b->name, e);
    if (rc)
        return rc;
    rc = build_fill(b, &s, e);
    if (rc) {
        store_abort(&s);
        return rc;
    }
    fprintf(stderr, "==> image %s is ready: `ruche run %s`\n", b->name, b->name);
    store_close(&s);
    return 0;
}

int image_build_default(const char *what, struct err *e)
{
    struct build b = { .what = what };

    return build_make(&b, e);
}

int cmd_image_build(int argc, char **argv)
{
    static char usage[] = "image build";
    struct build b = { 0 };
    const struct arg_option options[] = {
        { "--name", .value = &b.name },
        { "--size", .value = &b.size },
        { "--package", "--with", .value = &b.package, .joined = &b.packages },
        { "--hostname", .value = &b.hostname },
        { "--user", .value = &b.user },
        { "--ssh-key", .value = &b.ssh_key },
    };
    struct err e = { 0 };
    int n, rc;

    argv[0] = usage;
    rc = args_words(argc, argv, options, ARRAY_SIZE(options), 1, 1, &n, &e);
    if (rc) {
        free(b.packages);
        return args_failed(rc, &e);
    }
    b.what = argv[1];
    rc = build_make(&b, &e);
    free(b.packages);
    return rc ? cmd_fail(&e) : CMD_OK;
}
