/*
 * tail_file.h: a file that keeps the end of what is written to it: when it is full, its older half goes.
 * Exactly max / 2 bytes go each time, so that whoever follows it knows where it stands. Any thread.
 */
#ifndef BASE_TAIL_FILE_H
#define BASE_TAIL_FILE_H

#include <pthread.h>

#include "base/util.h"

struct tail_file {
    int fd;
    uint64_t len, max;
    pthread_mutex_t lock; /* guards len and the file's content */
};

/* fd: an empty file, open for reading and writing; it stays the caller's. max is even. */
void tail_file_init(struct tail_file *f, int fd, uint64_t max);
void tail_file_fini(struct tail_file *f);
/* 0 or -errno: what did not fit on the disk is lost. */
int tail_file_write(struct tail_file *f, const void *buf, size_t len);

#endif
