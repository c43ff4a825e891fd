/*
 * file_threads.c: requests that threads do: see file_impl.h.
 *
 * A file system takes writes to the page cache of one file one after another, and who comes second waits for the
 * lock, most of the time spinning: one thread at a time does those that have gathered.
 *
 * Locking: `lock` guards the lists; it is not held while a request is done or completed.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/workq.h"
#include "block/file_impl.h"

enum {
    THREADS_MAX = 8,
    THREADS_LARGE = 64 * KIB, /* bytes to copy, beside which it is nothing to wake a thread */
    THREADS_PROBE = 32,
};
/* Writes to the page cache that do not block, as io_uring asks for them: ext4 does not know them. */
enum threads_nowait { NOWAIT_UNTRIED, NOWAIT_REFUSED, NOWAIT_TAKEN };

struct file_threads {
    struct file_at *at;
    int event_fd; /* the file's owner's */
    struct workq *workq;
    struct file_uring *uring; /* for reads that the page cache has not, or NULL */
    atomic_uint in_flight;    /* here */
    atomic_uint overlap;      /* large requests that still count as overlapping */
    atomic_uint probe;        /* those since the last trial */
    _Atomic enum threads_nowait nowait;

    atomic_uint elsewhere; /* times that something was completed off the loop thread */
    unsigned seen;         /* of these, by file_threads_wait() */
    atomic_bool waiting;

    pthread_mutex_t lock;
    struct blk_req *finished; /* to be completed on the loop thread */
    struct blk_req *writes, **writes_tail;
    bool writing;
    struct work writer; /* queued or running while `writing` */
};

/* A request on its way through the threads, kept in its own priv[]. */
struct file_job {
    struct work work;
    struct file_threads *t;
    int err;
    bool try_cached; /* what the page cache has not is io_uring's */
};
_Static_assert(sizeof(struct file_job) <= sizeof(((struct blk_req *)0)->priv), "job fits");

static struct file_job *threads_job(struct blk_req *r)
{
    return (struct file_job *)(void *)r->priv;
}

/* --- the end --- */

/* May r be completed on this thread? It pays for what is large or alone; others are the loop thread's to gather. */
static bool threads_ends_here(const struct file_threads *t, struct blk_req *r, bool batch)
{
    return blk_may_end_here(r, threads_job(r)->err) &&
           (batch || r->len >= THREADS_LARGE || atomic_load(&t->in_flight) == 1);
}

static void threads_to_loop(struct file_threads *t, struct blk_req *r)
{
    pthread_mutex_lock(&t->lock);
    r->next = t->finished;
    t->finished = r;
    pthread_mutex_unlock(&t->lock);
}

/* Completes a list of requests that have been done. */
static void threads_end(struct file_threads *t, struct blk_req *list, bool batch)
{
    unsigned here = 0, loop = 0;

    while (list) {
        struct blk_req *r = list;

        list = r->next;
        if (threads_ends_here(t, r, batch)) {
            bool more = list && list->top == r->top && threads_ends_here(t, list, batch);

            blk_done_here(r, more ? BLK_F_MORE : 0);
            here++;
        } else {
            threads_to_loop(t, r);
            loop++;
        }
    }
    atomic_fetch_sub(&t->in_flight, here + loop);
    if (here)
        file_threads_elsewhere(t);
    if (loop)
        eventfd_write(t->event_fd, 1);
}

void file_threads_elsewhere(struct file_threads *t)
{
    atomic_fetch_add(&t->elsewhere, 1);
    if (atomic_load(&t->waiting)) /* see file_threads_wait() */
        eventfd_write(t->event_fd, 1);
}

void file_threads_complete(struct file_threads *t)
{
    struct blk_req *r;

    pthread_mutex_lock(&t->lock);
    r = t->finished;
    t->finished = NULL;
    pthread_mutex_unlock(&t->lock);
    while (r) {
        struct blk_req *next = r->next;

        blk_done(r, threads_job(r)->err);
        r = next;
    }
}

bool file_threads_wait(struct file_threads *t, bool on)
{
    unsigned now;
    bool news;

    atomic_store(&t->waiting,
                 on); /* before the look, as threads_end() does it the other way round */
    now = atomic_load(&t->elsewhere);
    news = now != t->seen;
    t->seen = now;
    return on && !news;
}

/* --- one of many --- */

static void threads_run(struct work *w)
{
    struct file_job *job = container_of(w, struct file_job, work);
    struct blk_req *r = container_of((void **)(void *)job, struct blk_req, priv[0]);
    struct file_threads *t = job->t;

    if (job->try_cached && !file_sync_cached(t->at, r)) {
        atomic_fetch_sub(&t->in_flight, 1);
        r->flags &= ~(unsigned)BLK_F_MORE;
        file_uring_submit(t->uring, r);
        return;
    }
    job->err = file_sync(t->at, r);
    r->next = NULL;
    threads_end(t, r, false);
}

/* --- buffered writes --- */

/* Finds out once, with a request at hand. */
static int threads_try_nowait(struct file_threads *t, struct blk_req *r)
{
    ssize_t n = pwritev2(t->at->fd, r->iov, r->niov, (off_t)r->off, RWF_NOWAIT);
    bool refused = n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL);

    atomic_store(&t->nowait, refused ? NOWAIT_REFUSED : NOWAIT_TAKEN);
    return n == (ssize_t)r->len ? 0 : file_sync(t->at, r);
}

/* The next one; NULL: there are none, and this was it. */
static struct blk_req *threads_next_write(struct file_threads *t)
{
    struct blk_req *r;

    pthread_mutex_lock(&t->lock);
    r = t->writes;
    if (!r)
        t->writing = false;
    else if (!(t->writes = r->next))
        t->writes_tail = &t->writes;
    pthread_mutex_unlock(&t->lock);
    return r;
}

static bool threads_has_writes(struct file_threads *t)
{
    bool any;

    pthread_mutex_lock(&t->lock);
    any = t->writes;
    pthread_mutex_unlock(&t->lock);
    return any;
}

/* Small ones are completed together, so that the guest is interrupted once for many. */
static void threads_write(struct work *w)
{
    struct file_threads *t = container_of(w, struct file_threads, writer);
    struct blk_req *list = NULL, **tail = &list, *r;
    uint64_t done = 0;

    while ((r = threads_next_write(t))) {
        struct file_job *job = threads_job(r);

        job->err = atomic_load(&t->nowait) == NOWAIT_UNTRIED ? threads_try_nowait(t, r)
                                                             : file_sync(t->at, r);
        done += r->len;
        r->next = NULL;
        *tail = r;
        tail = &r->next;
        if (done < THREADS_LARGE && threads_has_writes(t))
            continue;
        threads_end(t, list, true);
        list = NULL;
        tail = &list;
        done = 0;
    }
}

static void threads_queue_write(struct file_threads *t, struct blk_req *r)
{
    bool start;

    r->next = NULL;
    pthread_mutex_lock(&t->lock);
    *t->writes_tail = r;
    t->writes_tail = &r->next;
    start = !t->writing;
    t->writing = true;
    pthread_mutex_unlock(&t->lock);
    if (start)
        workq_submit(t->workq, &t->writer);
}

/* --- submitting --- */

/* Writes that wait for the disk give the file's lock back meanwhile: these may be several at a time. */
static bool threads_one_by_one(const struct file_threads *t, const struct blk_req *r)
{
    return r->op == BLK_WRITE && !(r->flags & BLK_F_FUA) && !t->at->direct && !t->at->device;
}

/*
 * Large transfers from and to the page cache are mostly copying. A guest that has something to do meanwhile,
 * which shows in its sending the next one, is better off without them on its vCPU's thread; one that waits for
 * each is served sooner there. One in THREADS_PROBE goes elsewhere to find that out.
 */
static bool threads_overlap(struct file_threads *t)
{
    unsigned left = atomic_load_explicit(&t->overlap, memory_order_relaxed);

    if (atomic_load(&t->in_flight))
        left = THREADS_PROBE;
    else if (left)
        left--;
    atomic_store_explicit(&t->overlap, left, memory_order_relaxed);
    return left ||
           atomic_fetch_add_explicit(&t->probe, 1, memory_order_relaxed) % THREADS_PROBE == 0;
}

bool file_threads_better(struct file_threads *t, const struct blk_req *r)
{
    if (r->op > BLK_WRITE || t->at->direct || (r->flags & BLK_F_FUA))
        return false;
    if (threads_one_by_one(t, r) && atomic_load(&t->nowait) != NOWAIT_TAKEN)
        return true;
    return r->len >= THREADS_LARGE && threads_overlap(t);
}

static void threads_start(struct file_threads *t, struct blk_req *r, bool try_cached)
{
    struct file_job *job = threads_job(r);

    atomic_fetch_add(&t->in_flight, 1);
    *job = (struct file_job){ .work.run = threads_run, .t = t, .try_cached = try_cached };
    if (threads_one_by_one(t, r))
        threads_queue_write(t, r);
    else
        workq_submit(t->workq, &job->work);
}

void file_threads_submit(struct file_threads *t, struct blk_req *r)
{
    threads_start(t, r, t->uring && r->op == BLK_READ);
}

void file_threads_redo(void *threads, struct blk_req *r)
{
    threads_start(threads, r, false);
}

/* --- life --- */

struct file_threads *file_threads_create(struct file_at *at, struct file_uring *uring, int event_fd,
                                         struct err *e)
{
    struct file_threads *t = calloc(1, sizeof(*t));

    if (!t) {
        err_oom(e);
        return NULL;
    }
    t->at = at;
    t->uring = uring;
    t->event_fd = event_fd;
    t->writes_tail = &t->writes;
    t->writer.run = threads_write;
    pthread_mutex_init(&t->lock, NULL);
    t->workq = workq_create(THREADS_MAX, e);
    if (t->workq)
        return t;
    file_threads_destroy(t);
    return NULL;
}

void file_threads_destroy(struct file_threads *t)
{
    if (!t)
        return;
    workq_destroy(t->workq);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
