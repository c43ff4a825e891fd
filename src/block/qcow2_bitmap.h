/*
 * qcow2_bitmap.h: persistent dirty bitmaps: one bit for each piece of the disk that was written. Between the
 * qcow2_*.c files. Blocking and on the loop thread with meta jobs held, but for qcow2_bitmap_record().
 *
 * While an image is open for writing, the bitmaps that record are marked in the file as being in use; their bits are
 * in memory, and go to the file when it is closed. One that is marked as such when it is opened was not stored by
 * whoever had it: it is inconsistent, and stays so until it is removed.
 */
#ifndef BLOCK_QCOW2_BITMAP_H
#define BLOCK_QCOW2_BITMAP_H

#include "block/qcow2_priv.h"

enum { /* in the directory */
       QCOW2_BITMAP_IN_USE = BIT(0),
       QCOW2_BITMAP_AUTO = BIT(1), /* records writes */
       QCOW2_BITMAP_EXTRA_OK = BIT(2),
};
enum { QCOW2_BITMAP_MIN_GRAIN = 9, QCOW2_BITMAP_MAX_GRAIN = 31 };

struct qcow2_bitmap {
    /* as in the directory */
    char *name;
    uint64_t table_off;
    uint32_t table_n, flags;
    uint8_t type, grain_bits;
    uint8_t *extra;
    uint32_t extra_len;

    uint64_t *bits; /* NULL: not in memory */
    uint64_t n;     /* of them */
    bool broken;    /* in use when it was opened, damaged, or of an unknown kind: cannot be used */
    bool changed;   /* bits are not those of the file */
};
struct qcow2_bitmaps {
    struct qcow2_bitmap *v;
    uint32_t n;
    bool other;              /* the directory in the file has others */
    bool recording;          /* at least one of them does */
    struct qcow2_frees gone; /* what removed ones had in the file */
};

/* --- qcow2_bitmap_dir.c --- */
/* What the file has. 0; -EINVAL: damaged; -errno. */
must_check int qcow2_bitmap_dir_load(struct qcow2 *q, struct qcow2_bitmaps *list);
void qcow2_bitmap_dir_unload(struct qcow2_bitmaps *list);
/* The directory as it has to stand in the file: *len bytes, the caller's; NULL: no memory. */
uint8_t *qcow2_bitmap_dir_encode(const struct qcow2_bitmaps *list, uint64_t *len);
/* The clusters of its table that a bitmap of a disk of that size needs. */
uint64_t qcow2_bitmap_clusters(const struct qcow2 *q, const struct qcow2_bitmap *m, uint64_t size);
/* Is it one of those that we understand, with a table that fits the disk? */
bool qcow2_bitmap_sound(const struct qcow2 *q, const struct qcow2_bitmap *m);
/* For qemu-img's info: a new array, the caller's; NULL: there are none. */
struct json_t *qcow2_bitmap_info(struct qcow2 *q);

/* --- qcow2_bitmap.c --- */
/* Before the first write: loads the bitmaps that record, and marks them. */
must_check int qcow2_bitmap_begin_writing(struct qcow2 *q, struct err *e);
/* The guest changes [off, off + len); lock held. */
void qcow2_bitmap_record(struct qcow2 *q, uint64_t off, uint64_t len);
/* Is there memory for so many bits more? */
bool qcow2_bitmap_fits(const struct qcow2 *q, uint64_t bits);
/* Reads the bits of one into memory. */
must_check int qcow2_bitmap_load(struct qcow2 *q, struct qcow2_bitmap *m);
/* Everything to the file; stay: those that record go on doing so, and stay marked. */
must_check int qcow2_bitmap_store(struct qcow2 *q, bool stay);
void qcow2_bitmap_fini(struct qcow2 *q);
/* The disk will have another size: all of them are loaded and marked. */
must_check int qcow2_bitmap_begin_resize(struct qcow2 *q);
must_check int qcow2_bitmap_resize(struct qcow2 *q, uint64_t size);
/* Anything may have become another: they say so. */
void qcow2_bitmap_set_all(struct qcow2 *q);
void qcow2_bitmap_set(struct qcow2_bitmap *m, uint64_t first, uint64_t last);
/* It will be none of those in the file any more. */
void qcow2_bitmap_drop(struct qcow2 *q, const struct qcow2_bitmap *m, struct qcow2_frees *gone);
void qcow2_bitmap_free(struct qcow2_bitmap *m); /* what it has in memory */
/* Who records may have changed. */
void qcow2_bitmap_count_recording(struct qcow2 *q);

/* --- qcow2_bitmap_edit.c --- */
must_check int qcow2_bitmap_edit(struct blk *b, const struct blk_bitmap *o, struct err *e);

#endif
