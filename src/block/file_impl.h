/*
 * file_impl.h: between file.c, file_bounce.c, file_map.c, file_sync.c and file_uring.c.
 */
#ifndef BLOCK_FILE_IMPL_H
#define BLOCK_FILE_IMPL_H

#include "block/block.h"

/* An open file, as requests see it. */
struct file_at {
    int fd;
    bool device; /* a block device */
    /* With O_DIRECT: what offsets and lengths, and addresses, are multiples of; otherwise 1 */
    uint32_t align, mem_align;
    _Atomic uint64_t floor; /* bytes that were there: if they are gone, reading them is an error */
    pthread_mutex_t
        edges; /* held while the part of a block around a short write is read and written */
};

/* Does r, blocking, in full: short transfers continued, the end of the file padded. 0 or -errno. */
must_check int file_sync(struct file_at *at, const struct blk_req *r);

/* With O_DIRECT: can the kernel take its offset, length and memory as they are? */
bool file_bounce_needed(const struct file_at *at, const struct blk_req *r);
/* A read or write for which that is so, through memory of our own. */
must_check int file_bounce(struct file_at *at, const struct blk_req *r);
/* Finds out the alignments of an O_DIRECT descriptor by trying; -errno if none works. */
must_check int file_bounce_probe(struct file_at *at);
/* A transfer of n bytes in one piece, the end of the file padded. 0 or -errno. */
must_check int file_sync_piece(struct file_at *at, bool write, void *buf, size_t n, uint64_t off);

/* As blk_ops.status: what the file system has at off. layer and depth are left alone. */
must_check int file_map_status(int fd, uint64_t off, uint64_t len, struct blk_extent *x);
/* Changes the size of a file, with what is new preallocated. A block device stays as it is. 0 or -errno. */
must_check int file_map_resize(int fd, uint64_t from, uint64_t to, enum blk_prealloc prealloc);

/*
 * io_uring with completions that signal event_fd. Reads, writes and flushes; what the kernel does only
 * in part is handed back as `redo`, for file_sync() on another thread.
 */
struct file_uring;
/* NULL with errno set if io_uring cannot be had here. */
struct file_uring *file_uring_create(int fd, int event_fd);
void file_uring_destroy(struct file_uring *u); /* nothing is in flight; NULL is fine */
/* Any thread. With BLK_F_MORE it may wait for file_uring_commit(). */
void file_uring_submit(struct file_uring *u, struct blk_req *r);
void file_uring_commit(struct file_uring *u);
/* Loop thread, when event_fd was signalled: completes what is done; the rest goes to redo(). */
void file_uring_reap(struct file_uring *u, void (*redo)(void *opaque, struct blk_req *r),
                     void *opaque);

#endif
