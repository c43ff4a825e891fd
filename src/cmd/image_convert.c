/*
 * image_convert.c: `ruche image convert`.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/formats.h"
#include "cmd/image.h"
#include "cmd/progress.h"
#include "image/copy.h"

enum { IMAGE_SPOOL_CHUNK = MIB, IMAGE_SPARSE_MIN = 512, IMAGE_SPARSE_MAX = MIB };

/* --- sources --- */

/* A nameless file in the target's folder, or where temporary files are. */
static int image_spool_file(const char *target)
{
    const char *tmp = getenv("TMPDIR");
    char copy[PATH_MAX] = "/tmp";
    int fd;

    if (strcmp(target, "-") && !strstr(target, "://"))
        snprintf(copy, sizeof(copy), "%s", target);
    fd = open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : open(tmp ? tmp : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static bool image_all_zero(const char *p, size_t n)
{
    return !*p && !memcmp(p, p + 1, n - 1);
}

/* stdin as a file, with holes where it has zeros. */
static int image_spool_copy(int fd)
{
    char *buf = malloc(IMAGE_SPOOL_CHUNK);
    off_t pos = 0;
    ssize_t n = buf ? 1 : -1;

    while (n > 0) {
        n = read(STDIN_FILENO, buf, IMAGE_SPOOL_CHUNK);
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        if (n > 0 && !image_all_zero(buf, (size_t)n) && pwrite(fd, buf, (size_t)n, pos) != n)
            n = -1;
        pos += n > 0 ? n : 0;
    }
    free(buf);
    return n < 0 || ftruncate(fd, pos) ? -errno : 0;
}

/*
 * A pipe has no size and cannot be read twice: what comes through is put into a nameless file first. The
 * descriptor stays open until the program ends; path is what to open.
 */
static int image_spool_stdin(const char *target, char *path, size_t len, struct err *e)
{
    struct stat st;
    int fd = STDIN_FILENO, rc;

    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        fd = image_spool_file(target);
        if (fd < 0)
            return err_set(e, errno, "stdin cannot be put into a file: %s", strerror(errno));
        rc = image_spool_copy(fd);
        if (rc)
            return err_set(e, -rc, "stdin cannot be put into a file: %s", strerror(-rc));
    }
    snprintf(path, len, "/proc/self/fd/%d", fd);
    return 0;
}

/* qemu-img's long form is taken too: snapshot.id=ID, snapshot.name=NAME. */
const char *image_snapshot_name(const char *text)
{
    if (text && !strncmp(text, "snapshot.id=", 12))
        return text + 12;
    if (text && !strncmp(text, "snapshot.name=", 14))
        return text + 14;
    return text;
}

static int image_convert_source(const struct image_args *a, struct image_session *s,
                                const char *path, struct err *e)
{
    struct blk_opts o = { .path = path,
                          .format = a->format,
                          .readonly = true,
                          .share = a->share,
                          .snapshot = image_snapshot_name(a->snapshot) };
    char spooled[64];
    const struct blk *b;

    if (!strcmp(path, "-")) {
        if (image_spool_stdin(a->operands[a->n_operands - 1], spooled, sizeof(spooled), e))
            return -EINVAL;
        o.path = spooled;
        o.format = a->format ? a->format : "raw";
        o.share = true;
    }
    b = image_session_disk(s, &o, e);
    if (b && o.snapshot && strcmp(b->ops->format, "qcow2"))
        return err_set(e, EINVAL, "-l %s: '%s' is %s, and only qcow2 has snapshots inside",
                       o.snapshot, path, b->ops->format);
    return b ? 0 : -EINVAL;
}

/* --- the conversion --- */

static bool image_convert_encrypts(const char *const *options)
{
    for (; options && *options; options++)
        if (!strncmp(*options, "encrypt.format=", 15))
            return true;
    return false;
}

static int image_convert_check(const struct image_args *a, const struct out_opts *o, struct err *e)
{
    if (!a->workers || a->workers > COPY_WORKERS_MAX)
        return err_set(e, EINVAL, "-m %llu: from 1 to %d", (unsigned long long)a->workers,
                       COPY_WORKERS_MAX);
    if (a->sparse && (a->sparse % IMAGE_SPARSE_MIN || a->sparse > OUT_CHUNK_MAX))
        return err_set(e, EINVAL, "-S %llu: a multiple of 512 up to 2M, or 0",
                       (unsigned long long)a->sparse);
    if (a->target_is_zero && !a->no_create)
        return err_set(e, EINVAL, "--target-is-zero is said of a target that is there already: -n");
    if (a->key_file && !strcmp(a->key_file, "-") && !strcmp(a->operands[0], "-"))
        return err_set(e, EINVAL, "stdin cannot be both the disk and its passphrase");
    if (a->compress && image_convert_encrypts(o->options))
        return err_set(e, EINVAL, "an encrypted image cannot be compressed: leave out -c");
    if (a->backing && a->n_operands > 2)
        return err_set(e, EINVAL, "only one disk can become an overlay (-B)");
    if (a->bitmaps && (a->n_operands > 2 || a->snapshot || strcmp(o->format, "qcow2")))
        return err_set(e, EINVAL,
                       "--bitmaps copies those of one image (no snapshot) to a qcow2 image");
    if (a->skip_broken && !a->bitmaps)
        return err_set(e, EINVAL, "--skip-broken-bitmaps belongs to --bitmaps");
    return 0;
}

/* A power of two that is no more than what was asked for. */
static uint32_t image_convert_sparse(uint64_t asked)
{
    uint32_t unit = IMAGE_SPARSE_MIN;

    while (unit * 2 <= asked && unit < IMAGE_SPARSE_MAX)
        unit *= 2;
    return unit;
}

static int image_convert_run(const struct image_args *a, struct image_session *s,
                             const struct out_opts *opts, struct err *e)
{
    struct progress p;
    struct copy_opts c = { .loop = s->loop,
                           .workers = (unsigned)a->workers,
                           .rate = a->rate,
                           .salvage = a->salvage,
                           .top_only = a->backing != NULL,
                           .sparse = a->sparse != 0,
                           .progress = progress_show,
                           .opaque = &p };
    struct copy_result result;
    struct out *o = out_open(opts, s->loop, e);
    uint64_t started = util_monotonic_ns();
    int rc;

    if (!o)
        return -EINVAL;
    progress_start(&p, a->progress, a->quiet);
    rc = copy_disks(s->disk, s->n_disks, o, &c, &result, e);
    if (!rc)
        rc = out_finish(o, e);
    progress_end(&p, !rc);
    out_close(o);
    if (!rc && result.salvaged)
        fprintf(stderr, "ruche: %llu bytes could not be read and are zeros in the target\n",
                (unsigned long long)result.salvaged);
    if (!rc && a->json && strcmp(opts->path, "-"))
        image_print_json(json_pack("{s:s, s:I, s:I, s:I, s:f}", "target", opts->path,
                                   "virtual-size", (json_int_t)opts->size, "read",
                                   (json_int_t)result.read, "written", (json_int_t)result.written,
                                   "seconds", (double)(util_monotonic_ns() - started) / 1e9));
    return rc;
}

static int image_convert_bitmaps(const struct image_args *a, struct image_session *s, struct err *e)
{
    struct blk_opts o = { .path = a->operands[a->n_operands - 1],
                          .format = "qcow2",
                          .no_backing = true,
                          .passphrase = image_session_target_key(s) };
    struct blk *to = image_session_disk(s, &o, e);

    return to ? image_bitmaps_copy(s->disk[0], to, a->skip_broken, e) : -EINVAL;
}

static int image_convert(const struct image_args *a, struct image_session *s, struct err *e)
{
    const char **list = image_new_options(a);
    struct out_opts o = { .path = a->operands[a->n_operands - 1],
                          .format = a->out_format,
                          .options = list,
                          .backing = a->backing,
                          .backing_format = a->backing_format,
                          .compress = a->compress,
                          .allocate = !a->sparse,
                          .no_create = a->no_create,
                          .is_zero = a->target_is_zero,
                          .sync = a->cache && strcmp(a->cache, "unsafe"),
                          .sparse = image_convert_sparse(a->sparse) };
    int rc;

    if (!o.format)
        o.format = blk_format_by_name(o.path);
    rc = image_convert_check(a, &o, e);
    for (int i = 0; !rc && i < a->n_operands - 1; i++)
        rc = image_convert_source(a, s, a->operands[i], e);
    for (unsigned i = 0; i < s->n_disks; i++)
        o.size += s->disk[i]->size;
    if (!rc)
        rc = image_session_new_key(s, o.path, o.format, list, &o.passphrase, e);
    if (!rc)
        rc = image_convert_run(a, s, &o, e);
    if (!rc && a->bitmaps)
        rc = image_convert_bitmaps(a, s, e);
    free(list);
    return 0;
}

int cmd_image_convert(int argc, char **argv)
{
    return image_run(IMAGE_CONVERT, argc, argv, 2, IMAGE_SESSION_DISKS, image_convert);
}
