/*
 * foreign_io.c: reading from images that are only read. A request is cut into pieces, one an extent; each
 * is a request to a file of the image or to the backing disk. What is compressed is read into a buffer and
 * unpacked on a thread. submit() holds a count on the request too, so that pieces may end at once meanwhile.
 * Locking: `lock` guards the lists of what the loop thread has to finish.
 */
#include <errno.h>
#include <string.h>

#include "base/iov.h"
#include "base/workq.h"
#include "block/foreign.h"

enum { FOREIGN_THREADS = 8 };

struct foreign_io {
    struct blk *b;
    struct workq *workq; /* for unpacking; NULL: nothing is packed */

    pthread_mutex_t lock;
    pthread_cond_t ready;
    struct foreign_piece *unpacked;
    struct blk_req *ended; /* all of their pieces were there when submit() returned */
    unsigned unpacking;
    struct loop_work finish;
};

/* A request on its way, kept in its own priv[]. */
struct foreign_job {
    atomic_uint pieces; /* and one for submit() */
    atomic_int err;
};
_Static_assert(sizeof(struct foreign_job) <= sizeof(((struct blk_req *)0)->priv), "job fits");

struct foreign_piece {
    struct foreign_piece *next;
    struct blk_req *of;
    struct foreign_io *io;
    struct blk_req req;
    int err;

    /* of what is packed */
    struct work work;
    struct foreign_extent x;
    uint8_t *packed;
    struct iovec packed_iov;

    int niov;
    struct iovec iov[]; /* where the data belong */
};

static void foreign_iov_zero(const struct iovec *iov, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        memset(iov[i].iov_base, 0, iov[i].iov_len);
}

static struct foreign_job *foreign_job_of(struct blk_req *r)
{
    return (struct foreign_job *)(void *)r->priv;
}

/* One piece less; true: it was the last one. */
static bool foreign_job_put(struct blk_req *r, int err)
{
    struct foreign_job *job = foreign_job_of(r);
    int none = 0;

    if (err)
        atomic_compare_exchange_strong(&job->err, &none, err);
    return atomic_fetch_sub(&job->pieces, 1) == 1;
}

/* Loop thread, or inside submit(), where it is never the last. */
static void foreign_piece_end(struct foreign_piece *p, int err)
{
    struct blk_req *r = p->of;

    free(p->packed);
    free(p);
    if (foreign_job_put(r, err))
        blk_done(r, foreign_job_of(r)->err);
}

/* Wakes the loop thread for the lists. Lock held: foreign_io_destroy() may follow at once. */
static void foreign_wake(struct foreign_io *io)
{
    if (io->b->loop)
        loop_post(io->b->loop, &io->finish);
    pthread_cond_signal(&io->ready);
}

static bool foreign_finish_all(struct foreign_io *io)
{
    struct foreign_piece *p;
    struct blk_req *r;
    bool any;

    pthread_mutex_lock(&io->lock);
    p = io->unpacked;
    io->unpacked = NULL;
    r = io->ended;
    io->ended = NULL;
    pthread_mutex_unlock(&io->lock);
    any = p || r;
    while (p) {
        struct foreign_piece *next = p->next;

        foreign_piece_end(p, p->err);
        p = next;
    }
    while (r) {
        struct blk_req *next = r->next;

        blk_done(r, foreign_job_of(r)->err);
        r = next;
    }
    return any;
}

static void foreign_finish(struct loop_work *w)
{
    foreign_finish_all(container_of(w, struct foreign_io, finish));
}

/* --- what is packed --- */

static void foreign_piece_unpack(struct work *w)
{
    struct foreign_piece *p = container_of(w, struct foreign_piece, work);
    struct foreign_io *io = p->io; /* p is the loop thread's once it is in the list */
    const struct foreign *f = io->b->priv;
    const struct foreign_format *format = container_of(io->b->ops, struct foreign_format, blk);
    uint8_t *unit = malloc(f->unit);
    int rc = unit ? format->unpack(f, &p->x, p->packed, p->packed_iov.iov_len, unit) : -ENOMEM;

    if (!rc)
        iov_copy_to(p->iov, (unsigned)p->niov, 0, unit + p->x.skip, p->x.len);
    free(unit);
    p->err = rc;
    pthread_mutex_lock(&io->lock);
    p->next = io->unpacked;
    io->unpacked = p;
    io->unpacking--;
    foreign_wake(io);
    pthread_mutex_unlock(&io->lock);
}

static void foreign_packed_done(struct blk_req *r, int err)
{
    struct foreign_piece *p = container_of(r, struct foreign_piece, req);

    if (err) {
        foreign_piece_end(p, err);
        return;
    }
    pthread_mutex_lock(&p->io->lock);
    p->io->unpacking++;
    pthread_mutex_unlock(&p->io->lock);
    p->work.run = foreign_piece_unpack;
    workq_submit(p->io->workq, &p->work);
}

static int foreign_read_packed(struct foreign_piece *p, const struct foreign *f)
{
    struct blk *file = f->file[p->x.file];
    uint64_t len;

    if (p->x.host_off >= file->size)
        return -EIO;
    len = min_u64(p->x.host_len, file->size - p->x.host_off);
    p->packed = malloc(len);
    if (!p->packed)
        return -ENOMEM;
    p->packed_iov = (struct iovec){ p->packed, len };
    p->req = (struct blk_req){ .op = BLK_READ,
                               .off = p->x.host_off,
                               .len = len,
                               .iov = &p->packed_iov,
                               .niov = 1,
                               .done = foreign_packed_done };
    blk_submit(file, &p->req);
    return 0;
}

/* --- the rest --- */

static void foreign_plain_done(struct blk_req *r, int err)
{
    foreign_piece_end(container_of(r, struct foreign_piece, req), err);
}

/* Reads p from `from` at off; what lies beyond its end is zeros. */
static void foreign_read_plain(struct foreign_piece *p, struct blk *from, uint64_t off)
{
    uint64_t have = off < from->size ? min_u64(from->size - off, p->x.len) : 0;

    if (have < p->x.len) {
        struct iovec *rest = malloc((size_t)p->niov * sizeof(*rest));

        if (!rest) {
            foreign_piece_end(p, -ENOMEM);
            return;
        }
        foreign_iov_zero(rest, iov_slice(rest, p->iov, (unsigned)p->niov, have, p->x.len - have));
        p->niov = (int)iov_slice(rest, p->iov, (unsigned)p->niov, 0, have);
        memcpy(p->iov, rest, (size_t)p->niov * sizeof(*rest));
        free(rest);
    }
    if (!have) {
        foreign_piece_end(p, 0);
        return;
    }
    p->req = (struct blk_req){ .op = BLK_READ,
                               .off = off,
                               .len = have,
                               .iov = p->iov,
                               .niov = p->niov,
                               .done = foreign_plain_done };
    blk_submit(from, &p->req);
}

/* Any thread; p ends some time on the loop thread. */
static void foreign_piece_start(struct foreign_piece *p, uint64_t off)
{
    struct blk *b = p->io->b;
    const struct foreign *f = b->priv;
    int rc;

    switch (p->x.kind) {
    case FOREIGN_DATA:
        foreign_read_plain(p, f->file[p->x.file], p->x.host_off);
        return;
    case FOREIGN_PACKED:
        rc = foreign_read_packed(p, f);
        if (rc)
            foreign_piece_end(p, rc);
        return;
    case FOREIGN_PARENT:
        if (b->backing) {
            foreign_read_plain(p, b->backing, off);
            return;
        }
        fallthrough;
    case FOREIGN_ZERO:
        foreign_iov_zero(p->iov, (unsigned)p->niov);
        foreign_piece_end(p, 0);
        return;
    }
}

static struct foreign_piece *foreign_piece_create(struct foreign_io *io, struct blk_req *r,
                                                  uint64_t done, const struct foreign_extent *x)
{
    struct foreign_piece *p = malloc(sizeof(*p) + (size_t)r->niov * sizeof(p->iov[0]));

    if (!p)
        return NULL;
    *p = (struct foreign_piece){ .of = r, .io = io, .x = *x };
    p->niov = (int)iov_slice(p->iov, r->iov, (unsigned)r->niov, done, x->len);
    atomic_fetch_add(&foreign_job_of(r)->pieces, 1);
    return p;
}

static int foreign_submit_pieces(struct blk *b, struct blk_req *r)
{
    const struct foreign *f = b->priv;
    struct foreign_extent x;

    for (uint64_t done = 0; r->op == BLK_READ && done < r->len; done += x.len) {
        struct foreign_piece *p;

        foreign_map(b, r->off + done, r->len - done, &x);
        p = foreign_piece_create(f->io, r, done, &x);
        if (!p)
            return -ENOMEM;
        foreign_piece_start(p, r->off + done);
    }
    return 0;
}

void foreign_submit(struct blk *b, struct blk_req *r)
{
    const struct foreign *f = b->priv;
    struct foreign_job *job = foreign_job_of(r);

    atomic_init(&job->pieces, 1);
    atomic_init(&job->err, 0);
    if (!foreign_job_put(r, foreign_submit_pieces(b, r)))
        return;
    pthread_mutex_lock(&f->io->lock);
    r->next = f->io->ended;
    f->io->ended = r;
    foreign_wake(f->io);
    pthread_mutex_unlock(&f->io->lock);
}

static void foreign_wait_unpacked(struct foreign_io *io)
{
    pthread_mutex_lock(&io->lock);
    while (io->unpacking && !io->unpacked)
        pthread_cond_wait(&io->ready, &io->lock);
    pthread_mutex_unlock(&io->lock);
}

void foreign_wait(struct blk *b)
{
    const struct foreign *f = b->priv;
    struct foreign_io *io = f->io;

    if (foreign_finish_all(io))
        return;
    for (unsigned i = 0; i < f->n_files; i++)
        if (f->file[i]->in_flight) {
            blk_wait(f->file[i]);
            return;
        }
    if (b->backing && b->backing->in_flight) {
        blk_wait(b->backing);
        return;
    }
    foreign_wait_unpacked(io);
    foreign_finish_all(io);
}

int foreign_io_create(struct blk *b, struct foreign *f, struct err *e)
{
    struct foreign_io *io = calloc(1, sizeof(*io));

    if (!io)
        return err_set(e, ENOMEM, "out of memory");
    io->b = b;
    io->finish.call = foreign_finish;
    pthread_mutex_init(&io->lock, NULL);
    pthread_cond_init(&io->ready, NULL);
    f->io = io;
    if (!f->packed)
        return 0;
    io->workq = workq_create(FOREIGN_THREADS, e);
    return io->workq ? 0 : -ENOMEM;
}

void foreign_io_destroy(struct foreign *f)
{
    struct foreign_io *io = f->io;

    if (!io)
        return;
    workq_destroy(io->workq);
    if (io->b->loop)
        loop_unpost(io->b->loop, &io->finish);
    pthread_mutex_destroy(&io->lock);
    pthread_cond_destroy(&io->ready);
    free(io);
}
