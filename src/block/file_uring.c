/*
 * file_uring.c: see file_impl.h. Locking: `lock` guards the submission side; the completion queue is the
 * loop thread's alone. There are never more in the ring than it has room to complete, so that it cannot
 * overflow; others wait in `pending`.
 *
 * The file is registered, opened a second time for that: the lock belongs to what was opened first, and would
 * outlive a VMM that is killed until the kernel has taken down the ring in the background. Buffers are not: only
 * O_DIRECT would gain, 0.3 of the 30 us that a guest's request takes, at the price of pinning all of the guest's memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "block/file_impl.h"

enum { URING_DEPTH = 128, URING_BATCH = 32 };

struct file_uring {
    int fd, event_fd; /* the file's owner's */
    struct io_uring ring;
    bool registered; /* the file is number 0 of the ring's */

    pthread_mutex_t lock;
    unsigned in_ring;
    struct blk_req *pending, **pending_tail;
};

/* Saves the kernel looking it up for each request. Where it cannot be opened again, it is used as it is. */
static bool file_uring_register(struct file_uring *u)
{
    char path[64];
    int flags = fcntl(u->fd, F_GETFL), again, rc;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", u->fd);
    again = open(path, (flags & (O_ACCMODE | O_DIRECT)) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (again < 0)
        return false;
    rc = io_uring_register_files(&u->ring, &again, 1);
    close(again); /* the ring has it */
    return !rc;
}

struct file_uring *file_uring_create(int fd, int event_fd)
{
    struct file_uring *u = calloc(1, sizeof(*u));
    int rc;

    if (!u)
        return NULL;
    u->fd = fd;
    u->event_fd = event_fd;
    u->pending_tail = &u->pending;
    rc = io_uring_queue_init(URING_DEPTH, &u->ring, 0);
    if (rc) {
        free(u);
        errno = -rc;
        return NULL;
    }
    rc = io_uring_register_eventfd(&u->ring, event_fd);
    if (rc) {
        io_uring_queue_exit(&u->ring);
        free(u);
        errno = -rc;
        return NULL;
    }
    u->registered = file_uring_register(u);
    pthread_mutex_init(&u->lock, NULL);
    return u;
}

void file_uring_destroy(struct file_uring *u)
{
    if (!u)
        return;
    io_uring_queue_exit(&u->ring);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

static void file_uring_prepare(struct file_uring *u, struct io_uring_sqe *sqe, struct blk_req *r)
{
    int fd = u->registered ? 0 : u->fd;

    if (r->op == BLK_READ)
        io_uring_prep_readv(sqe, fd, r->iov, (unsigned)r->niov, r->off);
    else if (r->op == BLK_WRITE)
        io_uring_prep_writev2(sqe, fd, r->iov, (unsigned)r->niov, r->off,
                              r->flags & BLK_F_FUA ? RWF_DSYNC : 0);
    else
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
    if (u->registered)
        io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data(sqe, r);
}

/* Fills the ring from `pending` and tells the kernel. Lock held. */
static void file_uring_push(struct file_uring *u)
{
    struct io_uring_sqe *sqe;
    int rc;

    while (u->pending && u->in_ring < URING_DEPTH && (sqe = io_uring_get_sqe(&u->ring))) {
        struct blk_req *r = u->pending;

        u->pending = r->next;
        if (!u->pending)
            u->pending_tail = &u->pending;
        file_uring_prepare(u, sqe, r);
        u->in_ring++;
    }
    if (!io_uring_sq_ready(&u->ring))
        return;
    do {
        rc = io_uring_submit(&u->ring);
    } while (rc == -EINTR);
    if (rc < 0) /* short of memory for the moment: the loop comes by and tries again */
        eventfd_write(u->event_fd, 1);
}

void file_uring_submit(struct file_uring *u, struct blk_req *r)
{
    pthread_mutex_lock(&u->lock);
    r->next = NULL;
    *u->pending_tail = r;
    u->pending_tail = &r->next;
    if (!(r->flags & BLK_F_MORE))
        file_uring_push(u);
    pthread_mutex_unlock(&u->lock);
}

void file_uring_commit(struct file_uring *u)
{
    pthread_mutex_lock(&u->lock);
    if (u->pending)
        file_uring_push(u);
    pthread_mutex_unlock(&u->lock);
}

/*
 * Was all of it done? A short transfer, or an error that another way may not meet, is not. -ECANCELED: the
 * thread that submitted it has ended.
 */
static bool file_uring_final(const struct blk_req *r, int res)
{
    if (res < 0)
        return res != -EAGAIN && res != -EINTR && res != -EINVAL && res != -EOPNOTSUPP &&
               res != -ECANCELED;
    return r->op == BLK_FLUSH || (uint64_t)res == r->len;
}

/* Completes some of what is there; how many. */
static unsigned file_uring_take(struct file_uring *u, void (*redo)(void *opaque, struct blk_req *r),
                                void *opaque)
{
    struct io_uring_cqe *cqe[URING_BATCH];
    struct blk_req *r[URING_BATCH];
    int res[URING_BATCH];
    unsigned n = io_uring_peek_batch_cqe(&u->ring, cqe, URING_BATCH);

    for (unsigned i = 0; i < n; i++) {
        r[i] = io_uring_cqe_get_data(cqe[i]);
        res[i] = cqe[i]->res;
    }
    io_uring_cq_advance(&u->ring, n);
    pthread_mutex_lock(&u->lock);
    u->in_ring -= n;
    if (u->pending)
        file_uring_push(u);
    pthread_mutex_unlock(&u->lock);
    for (unsigned i = 0; i < n; i++) {
        if (file_uring_final(r[i], res[i]))
            blk_done(r[i], res[i] < 0 ? res[i] : 0);
        else
            redo(opaque, r[i]);
    }
    return n;
}

void file_uring_reap(struct file_uring *u, void (*redo)(void *opaque, struct blk_req *r),
                     void *opaque)
{
    while (file_uring_take(u, redo, opaque))
        ;
    file_uring_commit(u);
}
