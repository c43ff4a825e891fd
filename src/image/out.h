/*
 * out.h: images that a conversion writes, from nothing to finished. A disk comes in chunks, in ascending
 * order and each once; chunks of zeros do not come unless the writer asks for them. Several threads work on
 * chunks at a time:
 *
 *     pack()    any thread: compresses
 *     place()   one at a time, in the order of the disk: says where everything goes
 *     store()   any thread: writes it there
 *
 * and finish() writes tables and header: until then no program takes the file for an image.
 */
#ifndef IMAGE_OUT_H
#define IMAGE_OUT_H

#include "block/block.h"

enum {
    OUT_CHUNK = 256 * KIB,        /* the usual chunk; more if a unit is larger */
    OUT_CHUNK_PACKED = 128 * KIB, /* for what takes long anyway */
    OUT_CHUNK_MAX = 2 * MIB,
    OUT_UNIT_MIN = 512,
    OUT_UNITS_MAX = OUT_CHUNK_MAX / OUT_UNIT_MIN,
};

struct out_opts {
    const char *path;   /* "-": stdout */
    const char *format; /* NULL: raw */
    uint64_t size;
    const char *const *options;           /* "name=value", NULL at the end; NULL: none */
    const char *backing, *backing_format; /* the target is an overlay */
    const char *passphrase;               /* of an encrypted target; NULL: none */
    bool compress;
    bool allocate;   /* zeros are written like data */
    bool no_create;  /* the target is there already */
    bool is_zero;    /* and reads as zeros */
    bool sync;       /* on stable storage when finished */
    uint32_t sparse; /* raw: the shortest run of zeros that is left out, a power of two */
};

/* A piece of the disk on its way. The memory is the worker's. */
struct out_chunk {
    uint64_t off;
    uint32_t len;    /* of the target's chunk size but for the last one */
    uint8_t *data;   /* len bytes, zeros behind them up to a whole unit */
    bool *used;      /* a unit each: is to be written */
    uint8_t *packed; /* with out.packed_room: a unit's packed form, if it has one, ... */
    uint32_t *packed_at, *packed_len; /* ... is here; length 0: as it is */
    uint64_t *place;                  /* a unit each: where it goes */
    void *scratch;                    /* out_ops.scratch() */
};

struct out;
struct out_ops {
    const char *format;
    /* o->fd is a new or emptied file (unless own_target). Sets unit and what it needs. */
    int (*open)(struct out *o, const struct out_opts *opts, struct err *e);
    void (*close)(struct out *o);          /* frees priv, which may be NULL; after a failure too */
    void *(*scratch)(const struct out *o); /* a worker's own state for pack(), or NULL */
    void (*scratch_free)(void *scratch);
    int (*pack)(const struct out *o,
                struct out_chunk *c);                 /* 0 or -errno, as the others; optional */
    int (*place)(struct out *o, struct out_chunk *c); /* optional */
    int (*store)(struct out *o, struct out_chunk *c);
    int (*zero)(struct out *o, uint64_t off,
                uint64_t len); /* with wants_zeros: a range; any thread */
    int (*finish)(struct out *o);
    bool own_target; /* opens its target itself */
};
extern const struct out_ops out_raw_ops, out_stream_ops, out_qcow2_ops, out_vmdk_ops,
    out_vmdk_stream_ops, out_vmdk_split_ops, out_vdi_ops, out_vhd_ops, out_vhdx_ops, out_disk_ops;

struct out {
    const struct out_ops *ops;
    const struct out_opts *opts;
    struct loop *loop;    /* for targets that are disks of ours */
    uint64_t size;        /* of the disk */
    uint32_t unit;        /* what is written or left out */
    uint32_t chunk;       /* multiple of the unit */
    uint32_t packed_room; /* a chunk's packed form fits in so many bytes; 0: nothing is packed */
    bool wants_zeros;     /* runs of zeros come as zero() */
    bool allocate;        /* units of zeros are data */
    uint64_t tail;        /* bytes at the end of the disk that are no whole sector of the source */
    int fd;               /* -1: none */
    bool temporary;       /* fd has no name yet */
    void *priv;
};

/* NULL with a sentence. opts stays the caller's until out_close(). */
struct out *out_open(const struct out_opts *opts, struct loop *loop, struct err *e);
/* The same by a writer of the caller's choice: a part of an image. */
struct out *out_open_as(const struct out_ops *ops, const struct out_opts *opts, struct loop *loop,
                        struct err *e);
/* After the last chunk: the image is complete and has its name. 0 or -errno with a sentence. */
must_check int out_finish(struct out *o, struct err *e);
void out_close(struct out *o); /* without out_finish(): what was made is worthless; NULL is fine */

/* For writers. All of it at off, or -errno. */
must_check int out_pwrite(const struct out *o, const void *buf, size_t len, uint64_t off);
/* The value of the last "key=value", or NULL. */
const char *out_option(const struct out_opts *opts, const char *key);
/* Refuses options that are not in the list (NULL at its end), by name. */
must_check int out_check_options(const struct out_opts *opts, const char *const *known,
                                 struct err *e);
struct out_span { /* bytes of a chunk */
    uint32_t from, to;
    bool used;
};
/*
 * Goes on from s->to (at first 0) to the longest span of units that are all used, or all not. False: the chunk
 * is at its end.
 */
bool out_next_span(const struct out *o, const struct out_chunk *c, struct out_span *s);
/* Writes the used units of c at their places, neighbours in one go. */
must_check int out_store_units(struct out *o, const struct out_chunk *c);
/* The characters of text without its NUL: the marks of formats. */
void out_mark(uint8_t *p, const char *text);
/* Random bytes that make a UUID. */
void out_uuid(uint8_t uuid[16]);

#endif
