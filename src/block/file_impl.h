/*
 * file_impl.h: between file.c, file_bounce.c, file_map.c, file_sync.c, file_threads.c and file_uring.c.
 */
#ifndef BLOCK_FILE_IMPL_H
#define BLOCK_FILE_IMPL_H

#include "block/block.h"

/* An open file, as requests see it. */
struct file_at {
    int fd;
    bool device; /* a block device */
    bool direct; /* O_DIRECT */
    /* With O_DIRECT: what offsets and lengths, and addresses, are multiples of; otherwise 1 */
    uint32_t align, mem_align;
    _Atomic uint64_t floor; /* bytes that were there: if they are gone, reading them is an error */
    pthread_mutex_t
        edges; /* held while the part of a block around a short write is read and written */
};

/* Does r, blocking, in full: short transfers continued, the end of the file padded. 0 or -errno. */
must_check int file_sync(struct file_at *at, const struct blk_req *r);

/* A read of what is in the page cache as a whole; false: it is not, and bytes may have been read. */
must_check bool file_sync_cached(const struct file_at *at, const struct blk_req *r);

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

/*
 * Threads, for everything. What they complete on the loop thread signals event_fd; the rest, as BLK_F_ANYWHERE
 * allows, they complete themselves.
 */
struct file_threads;
/* uring: NULL if there is none. */
struct file_threads *file_threads_create(struct file_at *at, struct file_uring *uring, int event_fd,
                                         struct err *e);
/* Nothing is in flight, but a thread may still be leaving; NULL is fine. */
void file_threads_destroy(struct file_threads *t);
/* Any thread: are they better at r than io_uring? */
must_check bool file_threads_better(struct file_threads *t, const struct blk_req *r);
void file_threads_submit(struct file_threads *t, struct blk_req *r); /* any thread */
/* For what io_uring did not do: without asking it again. threads: a struct file_threads. */
void file_threads_redo(void *threads, struct blk_req *r);
/* Loop thread, when event_fd was signalled. */
void file_threads_complete(struct file_threads *t);
/*
 * Loop thread, before (on) and after it waits for event_fd to hear of any request: while on, those that are
 * completed elsewhere signal it too. False: some were since the last time, so do not wait.
 */
bool file_threads_wait(struct file_threads *t, bool on);
void file_threads_elsewhere(struct file_threads *t); /* any thread: some were */

#endif
