/*
 * boot_file.h: kernels and initrds as files: opened, measured and read with a sentence for whatever is
 * wrong. Single thread.
 */
#ifndef BOOT_BOOT_FILE_H
#define BOOT_BOOT_FILE_H

#include "base/err.h"

struct boot_file {
    const char *path; /* the caller's */
    const char *what; /* "kernel", "initrd": for sentences */
    int fd;
    uint64_t len;
};

/* A readable regular file that is not empty. 0, or -errno with a sentence; then nothing is open. */
must_check int boot_file_open(struct boot_file *f, const char *path, const char *what,
                              struct err *e);
void boot_file_close(struct boot_file *f);
/* Exactly len bytes from off; a file that shrinks meanwhile is an error. */
must_check int boot_file_read(struct boot_file *f, uint64_t off, void *buf, uint64_t len,
                              struct err *e);

#endif
