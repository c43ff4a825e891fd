/*
 * image_store.c: `ruche image list`, `rm` and `pull`: the images that VMs are made of.
 */
#include "cmd/image_store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "block/formats.h"
#include "cmd/args.h"
#include "cmd/cmd.h"
#include "cmd/image.h"
#include "cmd/program.h"

/* What a download leaves free: a part of the file system, but not more than that. */
#define STORE_KEPT_MAX GIB
enum { STORE_KEPT_PART = 20 };
enum { STORE_DISK_MIN = 64 * KIB, STORE_TEXT = 32, STORE_SHORT_SUM = 12, STORE_WORDS_MAX = 1024 };

int image_store_seal(struct store_entry *s, struct err *e)
{
    char disk[PATH_MAX], sum[STORE_SHA256_LEN + 1], date[STORE_TEXT] = "";
    time_t now = time(NULL);
    struct tm tm;
    int rc;

    store_disk(s, disk, sizeof(disk));
    rc = store_sha256(disk, sum, e);
    if (rc)
        return rc;
    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_object_set_new(s->meta, "sha256", json_string(sum));
    json_object_set_new(s->meta, "created", json_string(date));
    return store_commit(s, STORE_IMAGES, e);
}

static const char *image_store_text(const json_t *o, const char *member)
{
    const char *text = json_string_value(json_object_get(o, member));

    return text ? text : "-";
}

/* --- who stands on it --- */

/* An array of the names of the VMs with an overlay of that image. */
static json_t *image_store_users(const char *image)
{
    json_t *users = json_array();
    struct store_names l;

    if (store_list(STORE_VMS, &l))
        return users;
    for (size_t i = 0; i < l.n; i++) {
        struct store_entry vm;
        struct err e = { 0 };

        if (store_open(&vm, STORE_VMS, l.name[i], &e))
            continue;
        if (!strcmp(image_store_text(vm.meta, "image"), image))
            json_array_append_new(users, json_string(vm.name));
        store_close(&vm);
    }
    store_names_free(&l);
    return users;
}

static void image_store_join(const json_t *names, char *text, size_t len)
{
    const json_t *name;
    size_t i, at = 0;

    snprintf(text, len, "-");
    json_array_foreach(names, i, name)
    {
        if (at < len)
            at += (size_t)snprintf(text + at, len - at, "%s%s", i ? ", " : "",
                                   json_string_value(name));
    }
}

/* --- list --- */

/* What is known of it, for --json. */
static json_t *image_store_describe(const struct store_entry *s, bool check)
{
    char path[PATH_MAX], sum[STORE_SHA256_LEN + 1];
    json_t *o = json_pack("{s:s}", "name", s->name);
    struct err e = { 0 };
    struct stat st;

    json_object_update(o, s->meta);
    store_disk(s, path, sizeof(path));
    json_object_set_new(o, "disk", json_string(path));
    if (json_object_get(s->meta, "kernel")) {
        store_file(s, "vmlinuz", path, sizeof(path));
        json_object_set_new(o, "kernel", json_string(path));
        store_file(s, "initrd.img", path, sizeof(path));
        json_object_set_new(o, "initrd", json_string(path));
        store_disk(s, path, sizeof(path));
    }
    if (!stat(path, &st))
        json_object_set_new(o, "actual_size", json_integer((json_int_t)st.st_blocks * 512));
    json_object_set_new(o, "used_by", image_store_users(s->name));
    if (check)
        json_object_set_new(o, "intact",
                            json_boolean(!store_sha256(path, sum, &e) &&
                                         !strcmp(sum, image_store_text(s->meta, "sha256"))));
    return o;
}

static json_t *image_store_collect(bool check, struct err *e)
{
    json_t *list = json_array();
    struct store_names l;
    int rc = store_list(STORE_IMAGES, &l);

    if (rc) {
        err_set(e, -rc, "cannot read the folder of the images: %s", strerror(-rc));
        json_decref(list);
        return NULL;
    }
    for (size_t i = 0; i < l.n; i++) {
        struct store_entry s;

        if (store_open(&s, STORE_IMAGES, l.name[i], e)) {
            json_array_append_new(list,
                                  json_pack("{s:s, s:s}", "name", l.name[i], "error", e->msg));
            *e = (struct err){ 0 };
            continue;
        }
        json_array_append_new(list, image_store_describe(&s, check));
        store_close(&s);
    }
    store_names_free(&l);
    return list;
}

static void image_store_print(const json_t *list)
{
    const json_t *o;
    int width = 4;
    size_t i;

    json_array_foreach(list, i, o)
    {
        int len = (int)strlen(image_store_text(o, "name"));

        width = len > width ? len : width;
    }
    printf("%-*s  %-6s  %8s  %8s  %-12s  %-20s  %s\n", width, "NAME", "FORMAT", "SIZE", "ON DISK",
           "SHA256", "USED BY", "SOURCE");
    json_array_foreach(list, i, o)
    {
        const json_t *intact = json_object_get(o, "intact");
        char size[STORE_TEXT], actual[STORE_TEXT], users[128];

        image_human_size((uint64_t)json_integer_value(json_object_get(o, "size")), size,
                         sizeof(size));
        image_human_size((uint64_t)json_integer_value(json_object_get(o, "actual_size")), actual,
                         sizeof(actual));
        image_store_join(json_object_get(o, "used_by"), users, sizeof(users));
        printf("%-*s  %-6s  %8s  %8s  %-12.*s  %-20s  %s%s\n", width, image_store_text(o, "name"),
               image_store_text(o, "format"), size, actual, STORE_SHORT_SUM,
               image_store_text(o, "sha256"), users, image_store_text(o, "source"),
               !intact                ? ""
               : json_is_true(intact) ? "  (intact)"
                                      : "  (CHANGED: not what the checksum says)");
    }
}

static bool image_store_all_intact(const json_t *list)
{
    const json_t *o;
    size_t i;

    json_array_foreach(list, i, o)
    {
        if (json_is_false(json_object_get(o, "intact")) || json_object_get(o, "error"))
            return false;
    }
    return true;
}

int cmd_image_list(int argc, char **argv)
{
    static char usage[] = "image list";
    bool json = false, check = false, intact;
    const struct arg_option options[] = { { "--json", .given = &json },
                                          { "--check", .given = &check } };
    struct err e = { 0 };
    json_t *list;
    int n, rc;

    argv[0] = usage;
    rc = args_words(argc, argv, options, ARRAY_SIZE(options), 0, 0, &n, &e);
    if (rc)
        return args_failed(rc, &e);
    list = image_store_collect(check, &e);
    if (!list)
        return cmd_fail(&e);
    intact = !check || image_store_all_intact(list);
    if (json) {
        rc = image_print_json(list);
        return rc ? rc : intact ? CMD_OK : CMD_BAD_INPUT;
    }
    image_store_print(list);
    json_decref(list);
    return intact ? CMD_OK : CMD_BAD_INPUT;
}

/* --- rm --- */

static int image_store_rm(const char *name, struct err *e)
{
    json_t *users = image_store_users(name);
    char text[256];
    int rc;

    image_store_join(users, text, sizeof(text));
    if (json_array_size(users))
        rc = err_set(e, EBUSY,
                     "the image %s is what these VMs stand on: %s; `ruche rm` removes a VM and its "
                     "disk",
                     name, text);
    else
        rc = store_remove(STORE_IMAGES, name, e);
    json_decref(users);
    return rc;
}

int cmd_image_rm(int argc, char **argv)
{
    static char usage[] = "image rm";
    struct err e = { 0 };
    int n, rc;

    argv[0] = usage;
    rc = args_words(argc, argv, NULL, 0, 1, STORE_WORDS_MAX, &n, &e);
    if (rc)
        return args_failed(rc, &e);
    for (int i = 1; !rc && i <= n; i++)
        rc = image_store_rm(argv[i], &e);
    return rc ? cmd_fail(&e) : CMD_OK;
}

/* --- pull --- */

struct pull {
    char *source;    /* file or URL */
    const char *sum; /* NULL: any will do */
    const char *name;
    char made_name[STORE_NAME_MAX + 1];
};

/* "SOURCE,sha256=SUM" or "SOURCE,SUM". */
static int image_pull_sum(struct pull *p, struct err *e)
{
    char *comma = strrchr(p->source, ',');
    const char *sum = comma ? comma + 1 : "";

    if (!strncmp(sum, "sha256=", 7) || !strncmp(sum, "sha256:", 7))
        sum += 7;
    else if (strlen(sum) != STORE_SHA256_LEN)
        return 0; /* a part of the name */
    if (strlen(sum) != STORE_SHA256_LEN ||
        strspn(sum, "0123456789abcdefABCDEF") != STORE_SHA256_LEN)
        return err_set(e, EINVAL, "%s is no SHA-256: it has 64 hexadecimal digits", sum);
    *comma = '\0';
    p->sum = sum;
    return 0;
}

/* The source's last part without its ending, in letters that a name may have. */
static void image_pull_name(struct pull *p)
{
    static const char *const endings[] = { ".qcow2", ".img", ".raw", ".vmdk",
                                           ".vdi",   ".vhd", ".vhdx" };
    const char *last = strrchr(p->source, '/');
    size_t len;

    if (p->name)
        return;
    snprintf(p->made_name, sizeof(p->made_name), "%s", last ? last + 1 : p->source);
    p->made_name[strcspn(p->made_name, "?#")] = '\0';
    len = strlen(p->made_name);
    for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
        size_t n = strlen(endings[i]);

        if (len > n && !strcasecmp(p->made_name + len - n, endings[i]))
            p->made_name[len - n] = '\0';
    }
    for (char *c = p->made_name; *c; c++) {
        const char one[2] = { *c, '\0' };

        if (!store_name_ok(one) && (c == p->made_name || !strchr(".-", *c)))
            *c = c == p->made_name ? 'x' : '-';
    }
    p->name = p->made_name;
}

static bool image_pull_is_url(const char *source)
{
    return !strncmp(source, "http://", 7) || !strncmp(source, "https://", 8);
}

/* How many bytes a server may send us: others need room too on that file system. */
static int image_pull_room(const char *dir, uint64_t *room, uint64_t *kept, struct err *e)
{
    uint64_t all, avail;
    struct statvfs fs;

    if (statvfs(dir, &fs))
        return err_set(e, errno, "%s: %s", dir, strerror(errno));
    all = (uint64_t)fs.f_blocks * fs.f_frsize;
    avail = (uint64_t)fs.f_bavail * fs.f_frsize;
    *kept = min_u64(STORE_KEPT_MAX, all / STORE_KEPT_PART);
    *room = avail - min_u64(avail, *kept);
    return 0;
}

static int image_pull_no_room(const struct pull *p, const char *dir, uint64_t room, uint64_t kept,
                              struct err *e)
{
    char room_text[STORE_TEXT], kept_text[STORE_TEXT];

    image_human_size(room, room_text, sizeof(room_text));
    image_human_size(kept, kept_text, sizeof(kept_text));
    return err_set(e, ENOSPC,
                   "%s is larger than what there is room for in %.*s: %s (%s are kept free); make "
                   "room, or set RUCHE_DATA_DIR to a place that has more",
                   p->source, (int)(strrchr(dir, '/') - dir), dir, room_text, kept_text);
}

static int image_pull_download(const struct pull *p, const char *dir, const char *to, struct err *e)
{
    enum { CURL_TOO_LARGE = 63 };
    char max[STORE_TEXT];
    const char *const curl[] = { "curl",
                                 "--fail",
                                 "--location",
                                 "--proto",
                                 "=http,https",
                                 "--connect-timeout",
                                 "30",
                                 "--speed-limit",
                                 "1000", /* bytes a second, ... */
                                 "--speed-time",
                                 "60",             /* ... or it is given up */
                                 "--max-filesize", /* if the server says how large it is */
                                 max,
                                 "--show-error",
                                 isatty(STDERR_FILENO) ? "--progress-bar" : "--silent",
                                 "--output",
                                 to,
                                 p->source,
                                 NULL };

    uint64_t room = 0, kept = 0;
    struct stat st;
    int rc = image_pull_room(dir, &room, &kept, e);

    if (rc)
        return rc;
    snprintf(max, sizeof(max), "%llu", (unsigned long long)room);
    rc = room ? program_status(curl, room, e) : CURL_TOO_LARGE;
    if (rc <= 0)
        return rc;
    if (rc == CURL_TOO_LARGE || (!stat(to, &st) && (uint64_t)st.st_size >= room))
        return image_pull_no_room(p, dir, room, kept, e);
    return err_set(e, EIO, "%s was not got: curl says why, above", p->source);
}

static int image_pull_fetch(const struct pull *p, const char *dir, const char *to, struct err *e)
{
    return image_pull_is_url(p->source) ? image_pull_download(p, dir, to, e)
                                        : store_copy(p->source, to, e);
}

static int image_pull_check_sum(const struct pull *p, const char *disk, struct err *e)
{
    char sum[STORE_SHA256_LEN + 1];
    int rc = p->sum ? store_sha256(disk, sum, e) : 0;

    if (p->sum && !rc && strcasecmp(sum, p->sum))
        return err_set(e, EILSEQ, "%s is not what was asked for: its SHA-256 is %s, not %s",
                       p->source, sum, p->sum);
    return rc;
}

/* Servers answer with a page of text too: an image has the format that its name says, and some size. */
static int image_pull_believe(const struct pull *p, const struct blk *b, struct err *e)
{
    const char *slash = strrchr(p->source, '/'), *last = slash ? slash + 1 : p->source;
    char *name = strndup(last, strcspn(last, image_pull_is_url(p->source) ? "?#" : ""));
    const char *format = name ? blk_format_by_name(name) : "raw";
    int rc = 0;

    free(name);
    if (!strcmp(b->ops->format, "raw") && strcmp(format, "raw") != 0)
        rc = err_set(e, EINVAL,
                     "%s is no %s image, though its name says so: did the server send something "
                     "else?",
                     p->source, format);
    else if (b->size < STORE_DISK_MIN)
        rc = err_set(e, EINVAL, "%s has %llu bytes: that is no disk", p->source,
                     (unsigned long long)b->size);
    return rc;
}

/* Not every server says how much there is to come. */
static int image_pull_check(const struct pull *p, struct blk *b, struct err *e)
{
    struct blk_check c = { 0 };
    int rc = b->ops->check ? b->ops->check(b, 0, &c, e) : 0;

    if (rc || !c.corruptions)
        return rc;
    return err_set(e, EINVAL, "%s is damaged: %llu mistakes in its tables; was it cut off?",
                   p->source, (unsigned long long)c.corruptions);
}

/* Opens it as a VM would: what cannot be used is refused here. */
static int image_pull_look(const struct pull *p, struct store_entry *s, const char *disk,
                           struct err *e)
{
    struct loop *loop = loop_create(e);
    struct blk_opts o = { .path = disk, .readonly = true, .no_backing = true, .loop = loop };
    struct blk *b = loop ? blk_open(&o, e) : NULL;
    struct blk_info info;
    int rc = 0;

    if (b) {
        blk_info(b, &info);
        json_decref(info.specific);
        json_decref(info.snapshots);
        if (info.backing)
            rc = err_set(e, EINVAL,
                         "%s is an overlay of %s and nothing without it: make it whole with `ruche "
                         "image convert -O qcow2 %s NEW.qcow2`",
                         p->source, info.backing, p->source);
        if (!rc)
            rc = image_pull_believe(p, b, e);
        if (!rc)
            rc = image_pull_check(p, b, e);
        json_object_set_new(s->meta, "format", json_string(b->ops->format));
        json_object_set_new(s->meta, "size", json_integer((json_int_t)b->size));
        blk_close(b);
    }
    if (loop)
        loop_destroy(loop);
    return b ? rc : -e->code;
}

static int image_pull_fill(const struct pull *p, struct store_entry *s, struct err *e)
{
    char disk[PATH_MAX];
    int rc;

    store_file(s, "disk", disk, sizeof(disk));
    rc = image_pull_fetch(p, s->dir, disk, e);
    if (!rc)
        rc = image_pull_check_sum(p, disk, e);
    if (!rc)
        rc = image_pull_look(p, s, disk, e);
    json_object_set_new(s->meta, "disk", json_string("disk"));
    json_object_set_new(s->meta, "source", json_string(p->source));
    return rc ? rc : image_store_seal(s, e);
}

static int image_pull(struct pull *p, struct err *e)
{
    struct store_entry s;
    int rc = image_pull_sum(p, e);

    if (rc)
        return rc;
    image_pull_name(p);
    rc = store_begin(&s, STORE_IMAGES, p->name, e);
    if (rc)
        return rc;
    rc = image_pull_fill(p, &s, e);
    if (rc) {
        store_abort(&s);
        return rc;
    }
    printf("%s  %s\n", p->name, image_store_text(s.meta, "sha256"));
    store_close(&s);
    return 0;
}

int cmd_image_pull(int argc, char **argv)
{
    static char usage[] = "image pull";
    struct pull p = { 0 };
    const struct arg_option options[] = { { "--name", .value = &p.name } };
    struct err e = { 0 };
    int n, rc;

    argv[0] = usage;
    rc = args_words(argc, argv, options, ARRAY_SIZE(options), 1, 1, &n, &e);
    if (rc)
        return args_failed(rc, &e);
    p.source = argv[1];
    rc = image_pull(&p, &e);
    return rc ? cmd_fail(&e) : CMD_OK;
}
