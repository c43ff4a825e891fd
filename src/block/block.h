/*
 * block.h: disks as stacks of drivers: a format (raw, qcow2) owns a child (file), and may own a backing disk,
 * a whole stack of its own that has what this layer has not.
 *
 * Threads: open, close and drain on the VM's loop thread, or while the loop does not run; blk_submit()
 * from any thread; done() on the loop thread (or inside blk_drain()) with no lock held, unless BLK_F_ANYWHERE.
 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"

struct blk;
struct json_t; /* jansson's */
enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES };
enum {
    BLK_F_FUA = BIT(0),   /* writes: on stable storage before done() */
    BLK_F_UNMAP = BIT(1), /* write zeroes: the space may be given back */
    BLK_F_COMPRESS =
        BIT(2), /* writes of whole clusters (or up to the end): compressed, if the format can */
    BLK_F_MORE = BIT(3),  /* others follow, then blk_commit(): the kernel is told only there */
    BLK_F_AGAIN = BIT(4), /* block/guard.c's: failed before; drivers leave it alone */
    /*
     * done() may be called on any thread, and then sees BLK_F_HERE; there BLK_F_MORE says that another of the
     * same disk is completed right behind.
     */
    BLK_F_ANYWHERE = BIT(5),
    BLK_F_HERE = BIT(6),
    /*
     * With BLK_F_MORE and BLK_F_ANYWHERE: done() may also be called inside blk_commit(), by who submitted it and
     * now commits, and then sees this beside BLK_F_HERE.
     */
    BLK_F_AT_COMMIT = BIT(7),
};
enum { BLK_SECTOR = 512, BLK_MAX_SEGS = 1024, BLK_MAX_DEPTH = 200 };

struct blk_req { /* caller's memory until done() */
    enum blk_op op;
    unsigned flags; /* BLK_F_* */
    uint64_t off, len;
    struct iovec *iov; /* reads and writes: len bytes in all; stays as it is */
    int niov;          /* at most BLK_MAX_SEGS */
    void (*done)(struct blk_req *r, int err); /* exactly once, 0 or -errno; where: see above */

    /* the block layer's */
    struct blk *top;      /* where it was submitted */
    struct blk_req *next; /* the driver's that has it */
    void *priv[4];
};
enum blk_cache {                         /* does the host cache, and when is a write on its disk? */
                 BLK_CACHE_WRITEBACK,    /* yes; at the guest's flush */
                 BLK_CACHE_WRITETHROUGH, /* yes; before it completes */
                 BLK_CACHE_NONE,         /* no (O_DIRECT); at the guest's flush */
                 BLK_CACHE_DIRECTSYNC,   /* no; before it completes */
                 BLK_CACHE_UNSAFE,       /* yes; some time: flushes are forgotten */
};
enum blk_detect { /* what becomes of written zeros */
                  BLK_DETECT_OFF,
                  BLK_DETECT_ON,    /* BLK_WRITE_ZEROES */
                  BLK_DETECT_UNMAP, /* with BLK_F_UNMAP, unless no_discard */
};
enum { BLK_LIMIT_ALL, BLK_LIMIT_READ, BLK_LIMIT_WRITE, BLK_LIMITS };
struct blk_limits { /* a second; 0: none */
    uint64_t iops[BLK_LIMITS], bps[BLK_LIMITS];
    uint64_t burst_ms; /* for how long saved-up allowance lasts; 0: 100 */
};
struct blk_opts {
    const char *path;
    const char *format; /* NULL: probe */
    int fd; /* 0, or the file that path only names, open: stays the caller's. No other file is opened then */
    bool readonly;
    bool no_uring; /* use threads even where io_uring works */
    bool share;    /* take no lock: somebody else may be writing meanwhile. For looking at images */
    struct loop *loop;
    /* for disks on servers */
    uint64_t
        timeout_ms; /* what has not been answered for so long fails, or is tried once more; 0: 30 s */
    int cancel_fd; /* open() stops waiting for the server when it is readable; 0: none */

    /* for a guest's disk */
    enum blk_cache cache; /* of the backing file too, but for flushes */
    enum blk_detect detect_zeroes;
    bool no_discard; /* discards do nothing, zeros are written */
    struct blk_limits limits;

    /* for formats with a backing file */
    const char *backing;        /* this one instead of what the image names */
    const char *backing_format; /* its format; NULL: what the image says, else probed */
    bool no_backing;            /* this layer only: what it has not reads as zeros */
    bool backing_write;         /* the backing file is opened for writing too (commit) */
    const char *passphrase;     /* of an encrypted image */
    const char *
        snapshot; /* with readonly: this internal snapshot (its ID or name), not the disk as it is */
    bool repair;  /* also an image marked as corrupt, and no repair at open: for check */
    const struct blk *above; /* the block layer's: whose backing file this is */
};

/* What a disk has at some place; the answer is the same for len bytes. */
enum {
    BLK_X_ALLOCATED =
        BIT(0),          /* some layer says what is here; else reads as zeros because none does */
    BLK_X_ZERO = BIT(1), /* reads as zeros */
    BLK_X_DATA = BIT(2), /* has to be read; never with BLK_X_ZERO */
    BLK_X_COMPRESSED = BIT(3),
    BLK_X_OFFSET =
        BIT(4), /* host_off is valid: the bytes are in that file at that place, as they are */
};
struct blk_extent {
    uint64_t len;
    unsigned flags; /* BLK_X_* */
    unsigned depth; /* the layer that says it: 0 the disk itself, 1 its backing file, ... */
    uint64_t host_off;
    const struct blk *layer; /* that layer; with BLK_X_OFFSET, the file that has the bytes */
    /*
     * With BLK_X_COMPRESSED, if not 0: layer is the file, host_off is valid, and blk_ops.unpack() of `packer` makes
     * all of the extent, and nothing else, of so many bytes from there.
     */
    uint32_t packed_len;
    struct blk *packer;
};

/* What an image says about itself. Strings are the disk's own, or NULL. */
struct blk_info {
    uint64_t cluster_size;                /* 0: none */
    const char *backing, *backing_format; /* as they stand in the image */
    bool dirty, corrupt, encrypted, compressed;
    struct json_t
        *specific; /* new object or NULL, the caller's: as qemu-img's format-specific.data */
    struct json_t *snapshots; /* new array or NULL, the caller's: as qemu-img's snapshots */
};

enum blk_prealloc {
    BLK_PREALLOC_OFF,
    BLK_PREALLOC_METADATA,
    BLK_PREALLOC_FALLOC,
    BLK_PREALLOC_FULL
};
struct blk_create_opts {
    const char *path, *format;
    uint64_t size; /* 0 with a backing file: its size */
    const char *backing, *backing_format;
    bool backing_unchecked;     /* qemu-img's -u: the backing file need not exist */
    const char *const *options; /* "name=value", NULL at the end; NULL: none */
    const char *passphrase;
};

/* Found and (fixed) mistakes of an image. */
enum { BLK_FIX_LEAKS = BIT(0), BLK_FIX_ERRORS = BIT(1) };
struct blk_check {
    uint64_t corruptions, leaks, check_errors;
    uint64_t corruptions_fixed, leaks_fixed;
    uint64_t image_end; /* offset behind the last used byte of the file */
    uint64_t total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
    void (*say)(void *opaque, const char *line); /* each mistake found; optional */
    void *opaque;
};

enum blk_snap { BLK_SNAP_CREATE, BLK_SNAP_APPLY, BLK_SNAP_DELETE };

/* Dirty bitmaps within an image: what was written since. */
enum blk_bitmap_what {
    BLK_BITMAP_ADD, /* one that records */
    BLK_BITMAP_REMOVE,
    BLK_BITMAP_CLEAR,
    BLK_BITMAP_ENABLE,
    BLK_BITMAP_DISABLE,
    BLK_BITMAP_MERGE /* what another one has set is set too */
};
struct blk_bitmap {
    enum blk_bitmap_what what;
    const char *name;
    uint64_t granularity; /* add: bytes for each bit; 0: the image's choice */
    struct blk *from;     /* merge: a disk of the same size; NULL: this one */
    const char *from_name;
};

struct blk_ops {
    const char *format; /* "file", "raw" */
    bool layer; /* only lets requests through: what it is asked otherwise is asked of the child */
    bool (*probe)(const void *head, size_t n); /* is it surely this format? NULL: never */
    int (*open)(struct blk *b, const struct blk_opts *o, struct err *e); /* b->child is open */
    void (*close)(struct blk *b); /* after blk_drain(); optional */
    /* Queues, or passes on to the child; never calls blk_done() itself. Any thread. */
    void (*submit)(struct blk *b, struct blk_req *r);
    void (*commit)(struct blk *b); /* see BLK_F_MORE; NULL: the child's */
    /* Blocks until at least one request in flight has completed. As blk_drain(). NULL: the child's. */
    void (*wait)(struct blk *b);

    /*
     * All optional, all blocking: on the loop thread or while it does not run, nothing in flight. 0 or -errno.
     * b is open for writing where something changes.
     */
    /* This layer's answer for off, x->len at most len; without BLK_X_ALLOCATED the backing file is asked. */
    int (*status)(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *x);
    /* in is x->packed_len bytes, out x->len. Any thread, whatever is in flight. */
    int (*unpack)(struct blk *b, const struct blk_extent *x, const void *in, void *out);
    void (*info)(struct blk *b, struct blk_info *i); /* *i is zeroed */
    int (*truncate)(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *e);
    int (*check)(struct blk *b, unsigned fix, struct blk_check *c, struct err *e);
    int (*snap)(struct blk *b, enum blk_snap what, const char *tag, struct err *e);
    int (*bitmap)(struct blk *b, const struct blk_bitmap *o, struct err *e);
    /* What the image says that its backing file is (NULL: none); what is open stays as it is. */
    int (*set_backing)(struct blk *b, const char *path, const char *format, struct err *e);
    int (*amend)(struct blk *b, const char *const *options, struct err *e); /* as blk_create_opts */
    /* Writes a new image; its size and names have been checked. */
    int (*create)(const struct blk_create_opts *o, struct err *e);
};
struct blk {
    const struct blk_ops *ops;
    struct blk *child;   /* owned */
    struct blk *backing; /* owned; NULL: none */
    struct loop *loop;
    char *path;            /* as it was opened */
    _Atomic uint64_t size; /* bytes; of a format: a multiple of BLK_SECTOR */
    bool readonly;
    bool empty;         /* a drive without a medium (block/drive.h) */
    bool write_through; /* every write is on stable storage when it completes */
    /*
     * For a parent: the file may be written beyond its size (which grows with it), and what nobody wrote there
     * reads as zeros. Otherwise its size is all there is.
     */
    bool grows;
    uint32_t
        block; /* of a server's disk: it takes only whole blocks of so many bytes; 0: not one */
    const struct blk *above; /* whose backing disk it is, or NULL */
    void *priv;
    atomic_uint in_flight;

    struct blk_guard *guard; /* owned; NULL: failures go to whoever submitted (block/guard.h) */

    pthread_mutex_t lock; /* guards what follows */
    struct blk_req *finished, **finished_tail;
    struct loop_work finish;
};

/* Opens path with everything it needs probed and locked; NULL with a sentence if it cannot be used. */
struct blk *blk_open(const struct blk_opts *o, struct err *e);
void blk_close(struct blk *b); /* drains; NULL is fine */
/* One driver on top of child (NULL: none); owns child only if it succeeds. What blk_open() is made of. */
struct blk *blk_open_driver(const struct blk_ops *ops, struct blk *child, const struct blk_opts *o,
                            struct err *e);
/* The image itself, below the layers that the options of a guest's disk put on top. */
struct blk *blk_image(struct blk *b);
/* Counts it and checks the range; what is out of range completes with -EINVAL (on the loop thread). */
void blk_submit(struct blk *b, struct blk_req *r);
void blk_commit(
    struct blk *b); /* after requests with BLK_F_MORE; any thread, see BLK_F_AT_COMMIT */
/*
 * Returns when nothing is in flight. No device lock held. What a guard keeps (block/guard.h) comes back with
 * -ECANCELED: nothing has become of it yet.
 */
void blk_drain(struct blk *b);
/* For tools and probing: one request, waited for. As blk_drain(). 0 or -errno. */
must_check int blk_read_sync(struct blk *b, uint64_t off, void *buf, size_t len);
must_check int blk_write_sync(struct blk *b, uint64_t off, const void *buf, size_t len);
/* The same for an operation without data. */
must_check int blk_op_sync(struct blk *b, enum blk_op op, uint64_t off, uint64_t len,
                           unsigned flags);

/*
 * What the disk has at off, through all layers: the answer for up to len bytes, at least one sector. As
 * blk_drain(). Where a driver cannot tell, it is data.
 */
must_check int blk_status(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *x);
void blk_info(struct blk *b, struct blk_info *i);
must_check int blk_resize(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *e);
/* A new image. A file that is there is replaced, unless somebody uses it; an image on a server: -EEXIST. */
must_check int blk_create(const struct blk_create_opts *o, struct err *e);

/* For drivers: r is finished. Loop thread, or inside wait(). */
void blk_done(struct blk_req *r, int err);
/*
 * For drivers: so it is, but inside submit(), or on another thread (then wait() has to come back for it): done()
 * follows on the loop thread.
 */
void blk_done_later(struct blk_req *r, int err);
/*
 * For drivers: may r, of which err has become, be completed on another thread than the loop's? Then
 * blk_done_here() does so, on a thread that ends before the driver's close() does. how: BLK_F_MORE as BLK_F_ANYWHERE
 * has it, BLK_F_AT_COMMIT. Who waits for the disk to come to rest has to hear of it, as of any other.
 */
must_check bool blk_may_end_here(const struct blk_req *r, int err);
void blk_done_here(struct blk_req *r, unsigned how);
/* For drivers, in wait(): the wait() of b or of what it stands on. */
void blk_wait(struct blk *b);
/*
 * For drivers, in open(): the backing file that the image of b names, or that o says instead; relative names
 * are relative to the image. b->backing is set; 0 with none if o->no_backing. Refuses loops and chains deeper
 * than BLK_MAX_DEPTH.
 */
must_check int blk_open_backing(struct blk *b, const struct blk_opts *o, const char *name,
                                const char *format, struct err *e);
/* name as it has to be opened if the image at path names it; the caller frees it. NULL: no memory. */
char *blk_resolve(const char *path, const char *name);
/*
 * For drivers, in create(): the file of a new image, emptied and locked, open for writing. An fd (close it when
 * done) or -errno.
 */
must_check int blk_create_file(const char *path, struct err *e);

#endif
