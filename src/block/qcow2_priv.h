/*
 * qcow2_priv.h: between the qcow2_*.c files. The format: QEMU's docs/interop/qcow2.txt.
 *
 * Who does what. A guest request becomes an op (qcow2_op.c). Where the metadata that it needs is in memory, its
 * reads and writes of data go to the file from within submit; where an L2 slice is missing, the op waits for that
 * one read. Everything that takes several steps in order (new tables, growing the refcounts, committing metadata,
 * discarding) is a meta job: blocking code, one job at a time, on a thread of the pool (qcow2_meta.c). The same
 * blocking code serves check, snapshots and resize, which run where nothing is in flight.
 *
 * Metadata changes in memory only and reaches the file by commits, so that a cut at any write finds a sound image:
 *
 *     1. refcounts of what was allocated         (data and new tables have been written before)
 *     2. flush
 *     3. L2 slices and L1 entries, as they were at 1
 *     4. flush; now guest flushes complete, and what was freed before 1 may be punched and used again
 *
 * A cluster that lost its last reference stays taken until 4, and until the requests that may still be using it
 * have ended (epochs).
 *
 * Locking: qcow2.lock guards everything in struct qcow2 that can change; it is not held while a request is passed
 * down or completed.
 */
#ifndef BLOCK_QCOW2_PRIV_H
#define BLOCK_QCOW2_PRIV_H

#include "base/endian.h"
#include "base/log.h"
#include "base/workq.h"
#include "block/block.h"

#define QCOW2_COPIED     BIT64(63)
#define QCOW2_COMPRESSED BIT64(62)
#define QCOW2_ZERO       1ull
#define QCOW2_OFFSET     0x00fffffffffffe00ull
#define QCOW2_L1_BAD     0x7f000000000001ffull /* reserved bits */
#define QCOW2_L2_BAD     0x3f000000000001feull

enum {
    QCOW2_MAGIC = 0x514649fb,
    QCOW2_HEADER_V2 = 72,
    QCOW2_HEADER_V3 = 104,
    QCOW2_MIN_BITS = 9,
    QCOW2_MAX_BITS = 21,
    QCOW2_MIN_EXT_BITS = 14,
    QCOW2_SUBS = 32,
    QCOW2_MAX_L1 = 32 * MIB, /* bytes; QEMU's limits */
    QCOW2_MAX_RT = 8 * MIB,
    QCOW2_MAX_SNAPSHOTS = 65536,
    QCOW2_MAX_NAME = 1023,
    QCOW2_SLICE = 4096,
    QCOW2_CACHE = 32 * MIB, /* of L2: 256 GiB with clusters of 64 KiB */
    QCOW2_REF_CACHE = 4 * MIB,
};
enum { /* incompatible features */
       QCOW2_I_DIRTY = BIT(0),
       QCOW2_I_CORRUPT = BIT(1),
       QCOW2_I_DATA_FILE = BIT(2),
       QCOW2_I_COMPRESSION = BIT(3),
       QCOW2_I_EXTENDED_L2 = BIT(4),
       QCOW2_I_KNOWN = BIT(5) - 1,
};
enum { QCOW2_C_LAZY = BIT(0) };
enum { QCOW2_A_BITMAPS = BIT(0), QCOW2_A_RAW_DATA = BIT(1), QCOW2_A_KNOWN = BIT(2) - 1 };
enum { QCOW2_ZLIB, QCOW2_ZSTD };
enum {
    QCOW2_X_END = 0,
    QCOW2_X_BACKING = (int)0xe2792acau,
    QCOW2_X_FEATURES = 0x6803f857,
    QCOW2_X_BITMAPS = 0x23852875,
    QCOW2_X_LUKS = 0x0537be77,
    QCOW2_X_DATA_FILE = 0x44415441,
};

struct qcow2;
struct qcow2_bitmaps;
struct qcow2_op;
struct qcow2_alloc;

/* A header extension that is only kept. */
struct qcow2_ext {
    struct qcow2_ext *next;
    uint32_t type, len;
    uint8_t data[];
};

/* The header as it stands in the file, decoded. */
struct qcow2_header {
    uint32_t version, cluster_bits, crypt, l1_size, rt_clusters, n_snapshots;
    uint64_t size, l1_off, rt_off, snapshots_off;
    uint64_t incompat, compat, autoclear;
    uint32_t refcount_order, length;
    uint8_t compression;
    char *backing, *backing_format, *data_file;
    struct {
        uint32_t n;
        uint64_t dir_size, dir_off;
    } bitmaps;
    struct {
        uint64_t off, len;
    } luks;
    struct qcow2_ext *exts; /* the others, the feature table among them */
};

/* Something on its way down; a list of them is passed on when the lock has been let go. */
struct qcow2_io {
    struct blk_req req;
    struct blk *to;
    bool nested; /* `to` is our own disk: not counted there, completes by done() */
    struct qcow2_io *next;
};
struct qcow2_issue {
    struct qcow2_io *head, **tail;
};

/* Part of an L2 table in memory. */
struct qcow2_slice {
    struct qcow2 *q;
    struct qcow2_slice *hash_next, *newer, *older;
    uint64_t off; /* in the file */
    uint8_t *data;
    unsigned pins;
    bool loading, dirty;
    int err;                  /* of the load */
    struct qcow2_op *waiters; /* for the load */
    struct qcow2_io io;
    struct iovec iov;
};

struct qcow2_refblock {
    uint64_t index; /* in the refcount table */
    uint8_t *data;
    uint64_t used; /* when, for eviction */
    bool dirty, writing;
};

/* Host bytes that lose one reference at the next commit. */
struct qcow2_free {
    uint64_t off, len;
};
struct qcow2_frees {
    struct qcow2_free *v;
    size_t n, room;
};

enum { QCOW2_INLINE_IOV = 4 };
/* One request to a file below, part of an op. */
struct qcow2_part {
    struct qcow2_io io;
    struct qcow2_op *op;
    struct iovec *iov; /* inline_iov, allocated, or the guest's request's own */
    struct iovec inline_iov[QCOW2_INLINE_IOV];
    uint64_t pos; /* where in the op its bytes are */
};

/* A guest request, or one of our own. */
struct qcow2_op {
    struct qcow2 *q;
    struct blk_req *r;
    struct qcow2_op *next; /* in the list where it waits */
    uint64_t pos;          /* issued so far */
    atomic_uint pending;   /* parts under way, and one while it is being issued or waits */
    _Atomic int err;       /* the first one */
    unsigned epoch;
    bool nested; /* our own: completes by r->done() */
    bool zeros;  /* a write of zeros: r has no vector */
    bool commit; /* ends with a commit (flush, FUA) */
    bool pack_tried;
    bool more;       /* BLK_F_MORE goes along with its parts */
    int64_t want_l1; /* the table that has to be made its own; -1: none */
    uint8_t *packed; /* of a compressed write */
    size_t packed_len;
    struct work work;       /* compression */
    struct qcow2_part part; /* the first */
    bool part_used;
};

struct qcow2_cow {
    struct qcow2_alloc *alloc;
    struct qcow2_io read, write;
    struct iovec iov;
    uint8_t *buf;
};

/* Clusters on their way into the mapping: data is being written to them. */
struct qcow2_alloc {
    struct qcow2 *q;
    struct qcow2_alloc *next; /* of q->allocs */
    struct qcow2_op *op, *waiters;
    struct qcow2_slice *slice; /* pinned */
    uint64_t guest, host;      /* of the first cluster */
    unsigned n;
    bool reuse;      /* the host clusters are there already */
    bool fresh;      /* they read as zeros */
    uint64_t packed; /* the L2 entry of a compressed cluster, else 0 */
    uint64_t packed_len;
    uint64_t from, to; /* guest bytes that are valid in them afterwards */
    atomic_uint pending;
    _Atomic int err;
    struct qcow2_part data;
    struct qcow2_cow cow[2]; /* what is before and behind the guest's bytes */
};

enum { QCOW2_UNPACKED = 16 };
struct qcow2_unpacked { /* clusters that were compressed, as they are */
    uint64_t entry, used;
    uint8_t *data;
};

struct qcow2 {
    /* wiring */
    struct blk *b, *file;
    struct blk
        *data; /* where the clusters of the guest are: file, or the external data file (owned) */
    struct workq *workq;
    struct qcow2_luks *luks;

    /* geometry: changes only where nothing is in flight */
    struct qcow2_header h;
    unsigned cluster_bits, l2_bits, rb_bits, sub_bits, entry_size;
    uint32_t cluster_size, slice_size, slice_entries;
    bool extended, external;
    bool locked;    /* encrypted, and there is no key: only metadata can be used */
    uint8_t *zeros; /* a cluster of them; only if writable */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t cond;  /* something came to an end, or was passed down */

    /* mapping */
    uint8_t *head; /* the header cluster as it is in the file */
    uint64_t *l1;
    uint64_t *l1_dirty; /* bit per L1 entry */
    bool l1_any_dirty;
    struct qcow2_slice **hash;
    size_t hash_size;
    struct qcow2_slice *newest, *oldest;
    size_t n_slices, max_slices, n_dirty;
    struct qcow2_alloc *allocs;
    struct qcow2_unpacked unpacked[QCOW2_UNPACKED];
    uint64_t unpacked_clock;
    struct packed_job *unpacking;

    /* refcounts */
    uint64_t *rt;
    uint64_t rt_size;           /* entries */
    struct qcow2_refblock **rb; /* by table index; NULL: not in memory */
    struct qcow2_refblock **rb_list;
    size_t rb_n, rb_max, rb_room, rb_dirty;
    uint64_t rb_clock;
    uint64_t hint;            /* cluster: nothing below is free, as far as we know */
    uint64_t virgin;          /* nobody ever wrote behind this offset; it reads as zeros */
    uint64_t packed_next;     /* byte offset where the next compressed cluster may go; 0: nowhere */
    struct qcow2_frees frees; /* since the last epoch began */
    struct qcow2_frees waiting; /* of the epoch before: until it is committed and without users */
    bool waiting_committed;
    unsigned epoch,
        users[2]; /* ops in flight of this epoch and the one before, by its lowest bit */

    /* meta jobs */
    struct work meta_work;
    bool meta_queued, meta_running; /* on a thread, or will be soon; is */
    bool meta_held;                 /* by blocking code of the loop thread */
    pthread_t meta_thread;
    bool want_commit, want_refill, want_release;
    bool committing; /* what is being written is not dirty any more, but not safe yet either */
    struct qcow2_op *wait_refill, *wait_table, *wait_commit, *wait_zero;
    struct loop_timer commit_timer; /* frees do not wait for ever; only with a loop */

    /* completions that must not happen inside submit */
    struct qcow2_op *ready;
    struct loop_work ready_work;
    struct qcow2_op *gathered;       /* to be completed by qcow2_op_end_here() */
    unsigned ended_here, ended_seen; /* how often something was; what qcow2_wait() knows of that */
    atomic_bool sleeping;            /* qcow2_wait() has found nothing to wait for */
    bool corrupt;                    /* found while running: no more writes */
    bool written;                    /* the header says that we write */
    struct qcow2_bitmaps *bitmaps;   /* only if writable (qcow2_bitmap.h) */
    struct log_limit limit;
};

static inline struct qcow2 *qcow2_of(struct blk *b)
{
    return b->priv;
}

static inline uint64_t qcow2_in_cluster(const struct qcow2 *q, uint64_t off)
{
    return off & (q->cluster_size - 1);
}

static inline uint64_t qcow2_l1_index(const struct qcow2 *q, uint64_t off)
{
    return off >> (q->cluster_bits + q->l2_bits);
}

/* --- qcow2.c --- */
/* Reads L1 and refcount table anew, after their places have changed. Blocking; 0 or -errno. */
must_check int qcow2_load_tables(struct qcow2 *q);

/* --- qcow2_header.c --- */
/* Decodes head, the first n bytes of the file. Frees nothing on failure: qcow2_header_fini(). */
must_check int qcow2_header_parse(struct qcow2_header *h, const uint8_t *head, size_t n,
                                  const char *path, struct err *e);
void qcow2_header_fini(struct qcow2_header *h);
/* The fixed fields, but for the name of the backing file. */
void qcow2_header_put_fixed(const struct qcow2_header *h, uint8_t *p);
/* The header cluster: room bytes, zeroed. -E2BIG: it does not fit. */
must_check int qcow2_header_build(const struct qcow2_header *h, uint8_t *cluster, size_t room);
/* The bytes of an L1 table that a disk of that size needs, as a number of entries. */
uint64_t qcow2_header_l1_entries(const struct qcow2_header *h, uint64_t size);
bool qcow2_probe(const void *head, size_t n);

/* --- qcow2_cache.c: all with the lock held --- */
must_check int qcow2_cache_init(struct qcow2 *q);
void qcow2_cache_fini(struct qcow2 *q);
/* Of the table at table_off, the slice with entry `index`; maybe still loading. NULL: no memory. */
struct qcow2_slice *qcow2_cache_get(struct qcow2 *q, uint64_t table_off, uint64_t index,
                                    struct qcow2_issue *issue);
/* Blocks until s, which is being loaded, is there. 0, or -errno: then it is gone. */
must_check int qcow2_cache_await(struct qcow2 *q, struct qcow2_slice *s, struct qcow2_issue *issue);
/* qcow2_cache_get(), loaded; blocks. */
must_check int qcow2_cache_load(struct qcow2 *q, uint64_t table_off, uint64_t index,
                                struct qcow2_slice **s);
void qcow2_cache_dirty(struct qcow2 *q, struct qcow2_slice *s);
void qcow2_cache_drop_clean(struct qcow2 *q); /* forgets all that can be */
/* A new table lies at off: what is known of an earlier one there is wrong. */
void qcow2_cache_drop_table(struct qcow2 *q, uint64_t off);

static inline uint8_t *qcow2_entry(const struct qcow2 *q, const struct qcow2_slice *s,
                                   uint64_t index)
{
    return s->data + (index & (q->slice_entries - 1)) * q->entry_size;
}

/* --- qcow2_map.c --- */
enum qcow2_kind { QCOW2_K_NONE, QCOW2_K_ZERO, QCOW2_K_DATA, QCOW2_K_PACKED };
struct qcow2_map {
    enum qcow2_kind kind;
    uint64_t len;             /* the same is so for that many bytes */
    uint64_t host;            /* data: where */
    uint64_t entry;           /* packed: the L2 entry */
    struct qcow2_slice *wait; /* 1 was returned: it is being loaded */
};
/* What is at guest offset off. 0; 1: wait for m->wait; -errno. Lock held. */
must_check int qcow2_map_find(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_map *m,
                              struct qcow2_issue *issue);
/* One cluster's entry, from `in` bytes into it: 0, or -EIO for nonsense. */
must_check int qcow2_map_entry(const struct qcow2 *q, uint64_t guest, const uint8_t *entry,
                               struct qcow2_map *m);
/* Is [host, host + len) a place for data: within the file and no metadata that we know of? */
bool qcow2_map_sane(const struct qcow2 *q, uint64_t host, uint64_t len);
void qcow2_map_packed(const struct qcow2 *q, uint64_t entry, uint64_t *host, uint64_t *len);
/* Does it read as zeros without a look at the file? */
bool qcow2_map_reads_zero(const struct qcow2 *q, enum qcow2_kind kind, uint64_t off);
/* The image is damaged: say so, mark it, refuse to write from now on. Returns -EIO. */
int qcow2_map_corrupt(struct qcow2 *q, const char *what, uint64_t where);

/* --- qcow2_op.c --- */
void qcow2_submit(struct blk *b, struct blk_req *r);
void qcow2_wait(struct blk *b);
void qcow2_wait_locked(struct qcow2 *q); /* the same, with the lock, which is let go meanwhile */
void qcow2_submit_commit(struct blk *b);
void qcow2_op_nested(struct qcow2 *q, struct blk_req *r); /* completes by r->done() */
/* Goes on with an op that waited; on_loop: it may complete at once. No lock held. */
void qcow2_op_run(struct qcow2_op *op, bool on_loop);
void qcow2_op_run_list(struct qcow2_op *op, int err, bool on_loop);
/* One of op->pending is over. */
void qcow2_op_put(struct qcow2_op *op, int err, bool on_loop);
/*
 * The same in a done() that sees BLK_F_HERE. Ops that end there wait for its last one, the one without
 * BLK_F_MORE, which then calls qcow2_op_end_here() with its flags.
 */
void qcow2_op_put_here(struct qcow2_op *op, int err);
void qcow2_op_end_here(struct qcow2 *q, unsigned flags);
/* BLK_F_ANYWHERE, if a part of op may be completed so. */
unsigned qcow2_op_anywhere(const struct qcow2_op *op);
struct qcow2_part *qcow2_op_part(struct qcow2_op *op);
void qcow2_op_part_free(struct qcow2_part *p);
/* Fills in the vector: bytes [pos, pos + len) of the op with zeros before and behind. */
must_check int qcow2_op_vector(struct qcow2_op *op, struct qcow2_part *p, uint64_t pos,
                               uint64_t len, uint64_t before, uint64_t behind);
void qcow2_issue_init(struct qcow2_issue *i);
void qcow2_issue_add(struct qcow2_issue *i, struct qcow2_io *io);
void qcow2_issue_go(struct qcow2 *q, struct qcow2_issue *i); /* no lock held */
/* Something was passed down, maybe while a qcow2_wait() had nothing to wait for. No lock held. */
void qcow2_wake(struct qcow2 *q);
void qcow2_op_part_issue(struct qcow2_op *op, struct qcow2_part *p, struct blk *to, uint64_t host,
                         uint64_t len, struct qcow2_issue *issue);
void qcow2_op_ready_call(struct loop_work *w);

/* --- qcow2_write.c --- */
/* Issues some of a write. 0: go on; 1: it waits; -errno. Lock held. */
must_check int qcow2_write_step(struct qcow2_op *op, struct qcow2_issue *issue);
/* An allocation under way that touches [off, off + len), or NULL. Lock held. */
struct qcow2_alloc *qcow2_write_conflict(struct qcow2 *q, uint64_t off, uint64_t len);

/* --- qcow2_refcount.c: lock held --- */
/* n clusters in a row, at least one. -EAGAIN: qcow2_refcount_refill() first. */
must_check int qcow2_refcount_alloc(struct qcow2 *q, uint64_t want, uint64_t *host, uint64_t *got,
                                    bool *fresh);
/* Room for packed bytes. As above. */
must_check int qcow2_refcount_alloc_bytes(struct qcow2 *q, uint64_t len, uint64_t *host);
/* Gives back at once what was never linked. */
void qcow2_refcount_undo(struct qcow2 *q, uint64_t host, uint64_t len);
/* One reference less, when it is safe. */
void qcow2_refcount_free_later(struct qcow2 *q, uint64_t host, uint64_t len);
/* Blocking, in a meta job (the lock is let go meanwhile): what alloc needs in memory. 0 or -errno. */
must_check int qcow2_refcount_refill(struct qcow2 *q);
/* The same: alloc with as much refilling as it takes. */
must_check int qcow2_refcount_alloc_wait(struct qcow2 *q, uint64_t want, uint64_t *host,
                                         uint64_t *got);
/* The same: takes these out of the refcounts, and punches them; frees f's memory. */
void qcow2_refcount_release(struct qcow2 *q, struct qcow2_frees *f);
void qcow2_refcount_fini(struct qcow2 *q);
/* Forgets what is in memory of the refcount table and reads that of the header. */
must_check int qcow2_refcount_reload(struct qcow2 *q);
uint64_t qcow2_refcount_entry(const uint8_t *block, unsigned order, uint64_t i);
void qcow2_refcount_entry_set(uint8_t *block, unsigned order, uint64_t i, uint64_t count);

/* --- qcow2_meta.c --- */
void qcow2_meta_init(struct qcow2 *q);
/* Something is to be done; the lock is held. */
void qcow2_meta_kick(struct qcow2 *q);
void qcow2_meta_user_gone(struct qcow2 *q, unsigned epoch); /* an op has ended; lock held */
bool qcow2_meta_dirty(const struct qcow2 *q);               /* something to commit; lock held */
/* Blocking code of the loop thread: no meta job runs between the two. No lock held. */
void qcow2_meta_hold(struct qcow2 *q);
void qcow2_meta_release(struct qcow2 *q);
/* Waits for something to happen; lock held. */
void qcow2_meta_block(struct qcow2 *q);
/* Everything in memory to the file, in order. In a meta job or held; no lock held. */
must_check int qcow2_meta_commit(struct qcow2 *q);
must_check int qcow2_meta_commit_all(struct qcow2 *q); /* and what that frees */
/* Blocking I/O, in a meta job or on the loop thread; no lock held. 0 or -errno. */
must_check int qcow2_meta_read(struct qcow2 *q, uint64_t off, void *buf, uint64_t len);
must_check int qcow2_meta_write(struct qcow2 *q, uint64_t off, const void *buf, uint64_t len);
must_check int qcow2_meta_flush(struct qcow2 *q);

/* Several at once. */
struct qcow2_batch {
    struct qcow2 *q;
    unsigned pending;
    int err;
};
void qcow2_batch_add(struct qcow2_batch *m, struct blk *to, enum blk_op op, uint64_t off, void *buf,
                     uint64_t len, unsigned flags);
must_check int qcow2_batch_wait(struct qcow2_batch *m);

/* --- qcow2_table.c: the header and the L1 --- */
/* Before the first write: clears what a writer has to clear. Blocking, no lock held. */
must_check int qcow2_table_begin_writing(struct qcow2 *q, struct err *e);
must_check int qcow2_table_write_header(struct qcow2 *q);        /* all of it */
must_check int qcow2_table_write_header_sector(struct qcow2 *q); /* its first 512 bytes: atomic */
must_check int qcow2_table_read(struct qcow2 *q, uint64_t off, uint64_t n, uint64_t *v); /* be64s */
must_check int qcow2_table_write(struct qcow2 *q, uint64_t off, uint64_t n, const uint64_t *v);
/* The L2 table of that L1 entry becomes its own, in a meta job; no lock held. */
must_check int qcow2_table_make_own(struct qcow2 *q, uint64_t l1_index);

/* --- qcow2_resize.c --- */
/* n clusters in a row, in a hold; no lock held. */
must_check int qcow2_alloc_row(struct qcow2 *q, uint64_t n, uint64_t *host);

/* --- qcow2_zero.c --- */
/* Takes over a discard or a write of zeros; lock held. 0: nothing left to do; 1: it waits. */
must_check int qcow2_zero_start(struct qcow2_op *op, struct qcow2_issue *issue);
int qcow2_zero_job(struct qcow2_op *op); /* in a meta job */

/* --- qcow2_packed.c: compressed clusters --- */
/* Reads len bytes from guest offset off, all in one packed cluster; lock held. */
must_check int qcow2_packed_read(struct qcow2_op *op, const struct qcow2_map *m, uint64_t off,
                                 uint64_t len, struct qcow2_issue *issue);
/* As struct blk_ops says. */
int qcow2_packed_unpack(struct blk *b, const struct blk_extent *x, const void *in, void *out);
void qcow2_packed_fini(struct qcow2 *q);
void qcow2_packed_forget(struct qcow2 *q, uint64_t entry); /* it means something new; lock held */
/* The first step of a compressed write: 1: it waits for a thread; 0: as it is; lock held. */
int qcow2_packed_write(struct qcow2_op *op);

#endif
