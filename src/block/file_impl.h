/*
 * file_impl.h: between file.c, file_map.c, file_sync.c and file_uring.c.
 */
#ifndef BLOCK_FILE_IMPL_H
#define BLOCK_FILE_IMPL_H

#include "block/block.h"

/* Does r on fd, blocking, in full: short transfers continued, the end of the file padded. 0 or -errno. */
must_check int file_sync(int fd, const struct blk_req *r);

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
void file_uring_submit(struct file_uring *u, struct blk_req *r); /* any thread */
/* Loop thread, when event_fd was signalled: completes what is done; the rest goes to redo(). */
void file_uring_reap(struct file_uring *u, void (*redo)(void *opaque, struct blk_req *r),
                     void *opaque);

#endif
