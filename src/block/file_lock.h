/*
 * file_lock.h: nobody else may write to an image that we use, nor use one that we write to. Open file
 * description locks on single bytes, as QEMU takes them, so that its programs and ours see each other.
 */
#ifndef BLOCK_FILE_LOCK_H
#define BLOCK_FILE_LOCK_H

#include "base/err.h"

/*
 * Held until fd is closed. 0; -EAGAIN with a sentence that names the holder as far as it can be found
 * out. A file system without such locks is used without (logged).
 */
must_check int file_lock(int fd, const char *path, bool write, struct err *e);

#endif
