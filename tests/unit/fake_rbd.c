/*
 * librbd.so.1 for test_rbd: an image is the file $FAKE_RBD/NAME; each request is done by a thread of its own. Holes
 * of the file are objects that are not there.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <rbd/librbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FAKE_OBJECT = 64 * 1024 };
struct fake_image {
    int fd;
};
enum fake_op { FAKE_READ, FAKE_WRITE, FAKE_PUNCH, FAKE_FLUSH };
struct fake_completion {
    rbd_callback_t call;
    void *arg;
    ssize_t value;

    enum fake_op op;
    int fd, niov;
    const struct iovec *iov;
    off_t off;
    size_t len;
};

static int fake_open(const char *name, int flags, rbd_image_t *image)
{
    struct fake_image *i = calloc(1, sizeof(*i));
    char path[256];

    if (!i)
        return -ENOMEM;
    snprintf(path, sizeof(path), "%s/%s", getenv("FAKE_RBD"), name);
    i->fd = open(path, flags | O_CLOEXEC);
    if (i->fd < 0) {
        free(i);
        return -errno;
    }
    *image = i;
    return 0;
}

int rbd_open(rados_ioctx_t io, const char *name, rbd_image_t *image, const char *snap)
{
    const char *patience = getenv("FAKE_OSD_TIMEOUT");

    (void)io;
    (void)snap;
    if (!strcmp(name, "stuck")) /* the OSDs do not answer: for ever, if that was asked for */
        return patience && strtol(patience, NULL, 10) > 0 ? -ETIMEDOUT : -EINVAL;
    return fake_open(name, O_RDWR, image);
}

int rbd_open_read_only(rados_ioctx_t io, const char *name, rbd_image_t *image, const char *snap)
{
    (void)io;
    return snap && strcmp(snap, "snap") ? -ENOENT : fake_open(name, O_RDONLY, image);
}

int rbd_close(rbd_image_t image)
{
    close(((struct fake_image *)image)->fd);
    free(image);
    return 0;
}

int rbd_get_size(rbd_image_t image, uint64_t *size)
{
    struct stat st;

    if (fstat(((struct fake_image *)image)->fd, &st))
        return -errno;
    *size = (uint64_t)st.st_size;
    return 0;
}

/* --- new images, sizes, the map of objects --- */

void rbd_image_options_create(rbd_image_options_t *options)
{
    *options = NULL;
}

void rbd_image_options_destroy(rbd_image_options_t options)
{
    (void)options;
}

int rbd_create4(rados_ioctx_t io, const char *name, uint64_t size, rbd_image_options_t options)
{
    struct fake_image *i;
    rbd_image_t image;
    int rc = fake_open(name, O_RDWR | O_CREAT | O_EXCL, &image);

    (void)io;
    (void)options;
    if (rc)
        return rc;
    i = image;
    rc = ftruncate(i->fd, (off_t)size) ? -errno : 0;
    rbd_close(image);
    return rc;
}

int rbd_resize(rbd_image_t image, uint64_t size)
{
    return ftruncate(((struct fake_image *)image)->fd, (off_t)size) ? -errno : 0;
}

int rbd_get_features(rbd_image_t image, uint64_t *features)
{
    (void)image;
    *features = RBD_FEATURE_FAST_DIFF;
    return 0;
}

int rbd_get_flags(rbd_image_t image, uint64_t *flags)
{
    (void)image;
    *flags = 0;
    return 0;
}

int rbd_stat(rbd_image_t image, rbd_image_info_t *info, size_t size)
{
    memset(info, 0, size);
    info->obj_size = FAKE_OBJECT;
    return rbd_get_size(image, &info->size);
}

/* As the real one before 2022: only questions that begin with an object are answered right. */
int rbd_diff_iterate2(rbd_image_t image, const char *from, uint64_t off, uint64_t len,
                      uint8_t parent, uint8_t whole, int (*cb)(uint64_t, size_t, int, void *),
                      void *arg)
{
    const struct fake_image *i = image;
    off_t end = (off_t)(off + len);

    (void)parent;
    if (from || !whole || off % FAKE_OBJECT)
        return -EINVAL;
    for (off_t at = (off_t)off; at < end; at += FAKE_OBJECT) {
        off_t data = lseek(i->fd, at, SEEK_DATA),
              n = end - at < FAKE_OBJECT ? end - at : FAKE_OBJECT;
        int rc;

        if (data < 0 || data >= at + n)
            continue;
        rc = cb((uint64_t)at, (size_t)n, 1, arg);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- requests --- */

int rbd_aio_create_completion(void *arg, rbd_callback_t call, rbd_completion_t *c)
{
    struct fake_completion *f = calloc(1, sizeof(*f));

    if (!f)
        return -ENOMEM;
    f->call = call;
    f->arg = arg;
    *c = f;
    return 0;
}

ssize_t rbd_aio_get_return_value(rbd_completion_t c)
{
    return ((struct fake_completion *)c)->value;
}

void rbd_aio_release(rbd_completion_t c)
{
    free(c);
}

static void *fake_run(void *opaque)
{
    struct fake_completion *f = opaque;
    ssize_t n = 0;

    if (f->op == FAKE_READ)
        n = preadv(f->fd, f->iov, f->niov, f->off);
    else if (f->op == FAKE_WRITE)
        n = pwritev(f->fd, f->iov, f->niov, f->off);
    else if (f->op == FAKE_PUNCH)
        n = fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, f->off, (off_t)f->len);
    else
        n = fdatasync(f->fd);
    f->value = n < 0 ? -errno : f->op == FAKE_READ ? n : 0;
    f->call(f, f->arg);
    return NULL;
}

static int fake_start(rbd_image_t image, struct fake_completion *f, enum fake_op op)
{
    pthread_t t;
    int rc;

    f->fd = ((struct fake_image *)image)->fd;
    f->op = op;
    rc = pthread_create(&t, NULL, fake_run, f);
    if (!rc)
        pthread_detach(t);
    return -rc;
}

static int fake_vector(rbd_image_t image, const struct iovec *iov, int niov, uint64_t off,
                       struct fake_completion *f, enum fake_op op)
{
    f->iov = iov;
    f->niov = niov;
    f->off = (off_t)off;
    return fake_start(image, f, op);
}

int rbd_aio_readv(rbd_image_t image, const struct iovec *iov, int niov, uint64_t off,
                  rbd_completion_t c)
{
    return fake_vector(image, iov, niov, off, c, FAKE_READ);
}

int rbd_aio_writev(rbd_image_t image, const struct iovec *iov, int niov, uint64_t off,
                   rbd_completion_t c)
{
    return fake_vector(image, iov, niov, off, c, FAKE_WRITE);
}

static int fake_punch(rbd_image_t image, uint64_t off, uint64_t len, struct fake_completion *f)
{
    f->off = (off_t)off;
    f->len = len;
    return fake_start(image, f, FAKE_PUNCH);
}

int rbd_aio_discard(rbd_image_t image, uint64_t off, uint64_t len, rbd_completion_t c)
{
    return fake_punch(image, off, len, c);
}

int rbd_aio_write_zeroes(rbd_image_t image, uint64_t off, size_t len, rbd_completion_t c,
                         int zero_flags, int op_flags)
{
    (void)zero_flags;
    (void)op_flags;
    return fake_punch(image, off, len, c);
}

int rbd_aio_flush(rbd_image_t image, rbd_completion_t c)
{
    return fake_start(image, c, FAKE_FLUSH);
}
