/*
 * file.c: a regular file or block device of the host. Requests go to io_uring; where that is not to be
 * had, and for what it does no better, to threads. Both signal one eventfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "block/file_impl.h"
#include "block/file_lock.h"
#include "block/formats.h"

enum { FILE_AT_COMMIT = 64 * KIB };

struct file {
    struct file_at at;
    int event_fd;
    struct loop_fd watch;     /* of event_fd; unused without a loop */
    struct file_uring *uring; /* NULL: threads only */
    struct file_threads *threads;

    pthread_mutex_t lock;
    struct blk_req *reads, **reads_tail; /* that blk_commit() tries to do by itself */
};

static void file_pass(struct file *f, struct blk_req *r)
{
    if (f->uring && r->op <= BLK_FLUSH && !(r->op < BLK_FLUSH && file_bounce_needed(&f->at, r)) &&
        !file_threads_better(f->threads, r))
        file_uring_submit(f->uring, r);
    else
        file_threads_submit(f->threads, r);
}

/* What the page cache has is there sooner than anybody could be woken for it. */
static bool file_at_commit(const struct file *f, const struct blk_req *r)
{
    const unsigned asked = BLK_F_MORE | BLK_F_AT_COMMIT;

    return r->op == BLK_READ && (r->flags & asked) == asked && r->len <= FILE_AT_COMMIT &&
           !f->at.direct && blk_may_end_here(r, 0);
}

static void file_submit(struct blk *b, struct blk_req *r)
{
    struct file *f = b->priv;

    if (!file_at_commit(f, r)) {
        file_pass(f, r);
        return;
    }
    r->next = NULL;
    pthread_mutex_lock(&f->lock);
    *f->reads_tail = r;
    f->reads_tail = &r->next;
    pthread_mutex_unlock(&f->lock);
}

static struct blk_req *file_take_reads(struct file *f)
{
    struct blk_req *r;

    pthread_mutex_lock(&f->lock);
    r = f->reads;
    f->reads = NULL;
    f->reads_tail = &f->reads;
    pthread_mutex_unlock(&f->lock);
    return r;
}

/* Of the reads that wait for it, does what it can; a list of those. What is not in the page cache is passed on. */
static struct blk_req *file_try_reads(struct file *f)
{
    struct blk_req *r = file_take_reads(f), *done = NULL, **tail = &done;

    while (r) {
        struct blk_req *next = r->next;

        if (file_sync_cached(&f->at, r)) {
            *tail = r;
            tail = &r->next;
        } else {
            file_pass(f, r);
        }
        r = next;
    }
    *tail = NULL;
    return done;
}

static void file_commit(struct blk *b)
{
    struct file *f = b->priv;
    struct blk_req *r = file_try_reads(f);
    bool any = r;

    if (f->uring)
        file_uring_commit(f->uring);
    while (r) {
        struct blk_req *next = r->next;

        blk_done_here(r, BLK_F_AT_COMMIT | (next && next->top == r->top ? BLK_F_MORE : 0u));
        r = next;
    }
    if (any)
        file_threads_elsewhere(f->threads);
}

static void file_ready(struct loop_fd *w, uint32_t events)
{
    struct file *f = container_of(w, struct file, watch);
    eventfd_t count;

    (void)events;
    eventfd_read(f->event_fd, &count);
    file_threads_complete(f->threads);
    if (f->uring)
        file_uring_reap(f->uring, file_threads_redo, f->threads);
}

static void file_wait(struct blk *b)
{
    struct file *f = b->priv;
    struct pollfd p = { .fd = f->event_fd, .events = POLLIN };

    for (struct blk_req *r = file_take_reads(f), *next; r; r = next) {
        next = r->next;
        file_pass(f, r);
    }
    if (f->uring)
        file_uring_commit(f->uring);
    if (file_threads_wait(f->threads, true))
        while (poll(&p, 1, -1) < 0 && errno == EINTR)
            ;
    file_threads_wait(f->threads, false);
    file_ready(&f->watch, EPOLLIN);
}

/* --- opening --- */

static int file_refuse_kind(const struct stat *st, const char *path, struct err *e)
{
    if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
        return 0;
    if (S_ISDIR(st->st_mode))
        return err_set(e, EISDIR, "disk '%s' is a directory: name an image file in it", path);
    return err_set(e, EINVAL, "disk '%s' is neither a file nor a block device", path);
}

static int file_open_error(int error, const struct blk_opts *o, struct err *e)
{
    switch (error) {
    case ENOENT:
        return err_set(e, error,
                       "disk '%s' does not exist; `truncate -s 10G %s` makes an empty one", o->path,
                       o->path);
    case EACCES:
    case EPERM:
        if (!o->readonly && !access(o->path, R_OK))
            return err_set(e, error,
                           "disk '%s' may be read but not written by you: add ,readonly, or change "
                           "its owner or mode",
                           o->path);
        return err_set(
            e, error,
            "disk '%s' may not be opened by you: change its owner or mode, or run as one "
            "who may",
            o->path);
    case EROFS:
        return err_set(e, error, "disk '%s' is on a read-only file system: add ,readonly", o->path);
    case EINVAL:
        if (o->cache != BLK_CACHE_WRITEBACK)
            return err_set(
                e, error,
                "disk '%s': its file system cannot go past the host's cache (O_DIRECT): use "
                "cache=writeback or writethrough",
                o->path);
        fallthrough;
    default:
        return err_set(e, error, "disk '%s' cannot be opened: %s", o->path, strerror(error));
    }
}

/* Somebody else has opened it: what they may do with it counts. */
static int file_take_fd(const struct blk_opts *o, struct stat *st, struct err *e)
{
    int flags = fcntl(o->fd, F_GETFL), fd, rc;

    if (flags < 0 || fstat(o->fd, st))
        return file_open_error(errno, o, e);
    rc = file_refuse_kind(st, o->path, e);
    if (rc)
        return rc;
    if ((flags & (O_PATH | O_APPEND | O_DIRECT)) || (flags & O_ACCMODE) == O_WRONLY ||
        (!o->readonly && (flags & O_ACCMODE) != O_RDWR))
        return err_set(e, EBADF, "disk '%s' has not been opened for reading%s", o->path,
                       o->readonly ? "" : " and writing");
    fd = fcntl(o->fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return fd < 0 ? file_open_error(errno, o, e) : fd;
}

/* stat first: opening a pipe or a terminal would wait or do something. */
static int file_open_fd(const struct blk_opts *o, struct stat *st, struct err *e)
{
    bool direct = o->cache == BLK_CACHE_NONE || o->cache == BLK_CACHE_DIRECTSYNC;
    int flags = (o->readonly ? O_RDONLY : O_RDWR) | (direct ? O_DIRECT : 0) | O_CLOEXEC | O_NOCTTY;
    int fd, rc;

    if (o->fd)
        return file_take_fd(o, st, e);
    if (stat(o->path, st))
        return file_open_error(errno, o, e);
    rc = file_refuse_kind(st, o->path, e);
    if (rc)
        return rc;
    fd = open(o->path, flags | O_NONBLOCK);
    if (fd < 0)
        return file_open_error(errno, o, e);
    if (fstat(fd, st)) {
        rc = file_open_error(errno, o, e);
        close(fd);
        return rc;
    }
    return fd;
}

static int file_size(int fd, const struct stat *st, const char *path, uint64_t *size, struct err *e)
{
    *size = (uint64_t)st->st_size;
    if (S_ISBLK(st->st_mode) && ioctl(fd, BLKGETSIZE64, size))
        return err_set(e, errno, "disk '%s': its size cannot be found out: %s", path,
                       strerror(errno));
    if (!*size)
        return err_set(e, EINVAL, "disk '%s' is empty; `truncate -s 10G %s` gives it a size", path,
                       path);
    if (*size > INT64_MAX - BLK_SECTOR)
        return err_set(e, EFBIG, "disk '%s' is too large", path);
    return 0;
}

static void file_free(struct file *f)
{
    if (f->watch.loop)
        loop_fd_del(&f->watch);
    file_threads_destroy(f->threads); /* first: they use the ring */
    file_uring_destroy(f->uring);
    util_close(&f->event_fd);
    util_close(&f->at.fd); /* and with it the lock */
    pthread_mutex_destroy(&f->at.edges);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static int file_start(struct file *f, const struct blk_opts *o, struct err *e)
{
    int rc = 0;

    f->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (f->event_fd < 0)
        return err_set(e, errno, "disk '%s': no eventfd: %s", o->path, strerror(errno));
    if (!o->no_uring) {
        f->uring = file_uring_create(f->at.fd, f->event_fd);
        if (!f->uring)
            log_info("block", "disk '%s' uses threads, because io_uring is not to be had: %s",
                     o->path, strerror(errno));
    }
    f->threads = file_threads_create(&f->at, f->uring, f->event_fd, e);
    if (!f->threads)
        return -ENOMEM;
    if (o->loop)
        rc = loop_fd_add(o->loop, &f->watch, f->event_fd, EPOLLIN, file_ready);
    return rc ? err_set(e, -rc, "disk '%s': no event: %s", o->path, strerror(-rc)) : 0;
}

/* What requests need to know of the file that has just been opened. */
static int file_look_at(struct file *f, const struct blk_opts *o, const struct stat *st,
                        uint64_t size, struct err *e)
{
    int rc = 0;

    f->at.device = S_ISBLK(st->st_mode);
    f->at.floor = size;
    f->at.align = f->at.mem_align = 1;
    f->at.direct = o->cache == BLK_CACHE_NONE || o->cache == BLK_CACHE_DIRECTSYNC;
    if (f->at.direct)
        rc = file_bounce_probe(&f->at);
    return rc ? err_set(e, -rc,
                        "disk '%s' cannot be read past the host's cache: use cache=writeback",
                        o->path)
              : 0;
}

static int file_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    struct file *f = calloc(1, sizeof(*f));
    struct stat st;
    uint64_t size = 0;
    int rc;

    if (!f)
        return err_set(e, ENOMEM, "out of memory");
    pthread_mutex_init(&f->at.edges, NULL);
    pthread_mutex_init(&f->lock, NULL);
    f->reads_tail = &f->reads;
    f->event_fd = -1;
    f->at.fd = file_open_fd(o, &st, e);
    rc = f->at.fd < 0 ? f->at.fd : file_size(f->at.fd, &st, o->path, &size, e);
    if (!rc)
        rc = file_look_at(f, o, &st, size, e);
    if (!rc && !o->share)
        rc = file_lock(f->at.fd, o->path, !o->readonly, e);
    if (!rc)
        rc = file_start(f, o, e);
    if (rc) {
        file_free(f);
        return rc;
    }
    b->size = size;
    b->grows = S_ISREG(st.st_mode);
    b->priv = f;
    return 0;
}

static void file_close(struct blk *b)
{
    file_free(b->priv);
}

static int file_status(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *x)
{
    x->layer = b;
    return file_map_status(((struct file *)b->priv)->at.fd, off, len, x);
}

static int file_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *e)
{
    struct file *f = b->priv;
    int rc;

    f->at.floor = min_u64(f->at.floor, size);
    rc = file_map_resize(f->at.fd, b->size, size, prealloc);

    if (rc)
        return err_set(e, -rc, "disk '%s' cannot become %llu bytes long: %s", b->path,
                       (unsigned long long)size, strerror(-rc));
    b->size = size;
    return 0;
}

const struct blk_ops blk_file_ops = {
    .format = "file",
    .open = file_open,
    .close = file_close,
    .submit = file_submit,
    .commit = file_commit,
    .wait = file_wait,
    .status = file_status,
    .truncate = file_truncate,
};
