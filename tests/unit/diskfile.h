/*
 * diskfile.h: a disk with known content for tests of disk controllers, and one that fails. Single thread.
 */
#ifndef TESTS_DISKFILE_H
#define TESTS_DISKFILE_H

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"

struct diskfile {
    char path[64];
    struct blk *disk; /* its controller's */
    const struct blk_ops *works;
    struct blk_ops faulty;
};

static inline uint8_t diskfile_byte(uint64_t off)
{
    return (uint8_t)(off / 512 * 7 + off % 251);
}

static inline void diskfile_open(struct diskfile *f, struct loop *loop, uint64_t size,
                                 bool readonly)
{
    struct blk_opts o = { .path = f->path, .format = "raw", .readonly = readonly, .loop = loop };
    uint8_t *bytes = malloc(size);
    int fd;

    assert_non_null(bytes);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = diskfile_byte(i);
    snprintf(f->path, sizeof(f->path), "/tmp/ruche-test-disk-XXXXXX");
    fd = mkstemp(f->path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    close(fd);
    free(bytes);
    f->disk = blk_open(&o, NULL);
    unlink(f->path);
    assert_non_null(f->disk);
    f->works = f->disk->ops;
}

static inline void diskfile_full(struct blk *b, struct blk_req *r)
{
    (void)b;
    blk_done_later(r, -ENOSPC);
}

static inline void diskfile_broken(struct blk *b, struct blk_req *r)
{
    (void)b;
    blk_done_later(r, -EIO);
}

/* As a guard does that is asked to give back what it keeps. */
static inline void diskfile_undone(struct blk *b, struct blk_req *r)
{
    (void)b;
    blk_done_later(r, -ECANCELED);
}

/* Requests come to submit from now on; NULL: they work again. */
static inline void diskfile_break(struct diskfile *f,
                                  void (*submit)(struct blk *, struct blk_req *))
{
    f->faulty = *f->works;
    f->faulty.submit = submit;
    f->disk->ops = submit ? &f->faulty : f->works;
}

static inline void assert_disk(const uint8_t *bytes, uint64_t off, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++)
        if (bytes[i] != diskfile_byte(off + i))
            fail_msg("byte %llu of the disk is wrong", (unsigned long long)(off + i));
}

#endif
