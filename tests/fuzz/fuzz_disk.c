#include "fuzz_disk.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/block.h"

enum {
    FUZZ_DISK_SECTORS = 128 * 1024, /* 64 MiB */
    FUZZ_DISK_PIECES = 256,
    FUZZ_DISK_READ = 128 * 1024,
    FUZZ_DISK_STEPS = 64,
};

int fuzz_disk_file(const uint8_t *data, size_t len)
{
    struct fuzz_input in = { data, len };
    int fd = memfd_create("disk", MFD_CLOEXEC);
    uint64_t size = (uint64_t)(fuzz_u32(&in) % FUZZ_DISK_SECTORS + 1) * 512;
    uint8_t piece[UINT16_MAX];

    BUG_ON(fd < 0 || ftruncate(fd, (off_t)size));
    for (unsigned i = 0; in.len && i < FUZZ_DISK_PIECES; i++) {
        uint64_t off = fuzz_u32(&in) % size;
        size_t n = (size_t)min_u64(min_u64(fuzz_u16(&in), in.len), size - off);

        fuzz_bytes(&in, piece, n);
        BUG_ON(pwrite(fd, piece, n, (off_t)off) != (ssize_t)n);
    }
    return fd;
}

void fuzz_disk_sum(int fd, uint64_t off, size_t n, size_t at,
                   void (*sum)(uint8_t *p, size_t n, size_t at))
{
    uint8_t *p = malloc(n);

    BUG_ON(!p);
    if (pread(fd, p, n, (off_t)off) == (ssize_t)n) {
        sum(p, n, at);
        BUG_ON(pwrite(fd, p + at, 4, (off_t)(off + at)) != 4);
    }
    free(p);
}

static void fuzz_disk_read(struct blk *b, uint64_t off, uint8_t *buf)
{
    uint64_t at = align_down(off % b->size, BLK_SECTOR);

    (void)!blk_read_sync(b, at, buf, min_u64(FUZZ_DISK_READ, b->size - at));
}

static void fuzz_disk_walk(struct blk *b)
{
    uint8_t *buf = malloc(FUZZ_DISK_READ);
    struct blk_extent x;
    uint64_t off = 0;

    BUG_ON(!buf);
    for (unsigned i = 0; i < FUZZ_DISK_STEPS && off < b->size; i++) {
        if (blk_status(b, off, b->size - off, &x))
            break;
        BUG_ON(!x.len || x.len > b->size - off);
        if (x.flags & BLK_X_DATA)
            fuzz_disk_read(b, off, buf);
        off += align_up(x.len, BLK_SECTOR);
    }
    fuzz_disk_read(b, b->size - 1, buf);
    fuzz_disk_read(b, b->size / 2, buf);
    free(buf);
}

void fuzz_disk_use(int fd, const char *format)
{
    char path[32];
    struct blk_opts o = { .path = path, .format = format, .readonly = true, .no_uring = true };
    struct err e = { 0 };
    struct blk *b;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    b = blk_open(&o, &e);
    BUG_ON(!b && !e.msg[0]);
    if (b)
        fuzz_disk_walk(b);
    blk_close(b);
    close(fd);
}
