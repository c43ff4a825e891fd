#include "mem/ram.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RAM_GUARD = 64 * KIB };

/* A reservation with guard pages on both sides, the memfd mapped in its middle. */
int ram_alloc(struct ram_region *r, const char *name, uint64_t gpa, uint64_t len, struct err *e)
{
    char fd_name[32];
    uint8_t *area, *hva;

    *r = (struct ram_region){ .gpa = gpa, .len = len, .fd = -1 };
    snprintf(r->name, sizeof(r->name), "%s", name);
    snprintf(fd_name, sizeof(fd_name), "ruche-%s", name);
    if (!len || (len | gpa) & ~PAGE_MASK)
        return err_set(e, EINVAL, "guest memory must be a multiple of 4 KiB");
    r->fd = memfd_create(fd_name, MFD_CLOEXEC);
    if (r->fd < 0 || ftruncate(r->fd, (off_t)len))
        goto fail;
    area = mmap(NULL, len + 2 * RAM_GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
    if (area == MAP_FAILED)
        goto fail;
    hva = mmap(area + RAM_GUARD, len, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_FIXED | MAP_NORESERVE, r->fd, 0);
    if (hva == MAP_FAILED) {
        munmap(area, len + 2 * RAM_GUARD);
        goto fail;
    }
    madvise(hva, len, MADV_DONTFORK);
    madvise(hva, len, MADV_DONTDUMP);
    madvise(hva, len, MADV_HUGEPAGE); /* only a wish */
    r->hva = hva;
    return 0;
fail:
    err_set(e, errno ? errno : ENOMEM,
            "cannot get %llu MiB of guest memory from the host (%s): give a smaller --memory",
            (unsigned long long)(len / MIB), strerror(errno));
    util_close(&r->fd);
    return e ? -e->code : -ENOMEM;
}

void ram_free(struct ram_region *r)
{
    if (r->hva)
        munmap(r->hva - RAM_GUARD, r->len + 2 * RAM_GUARD);
    util_close(&r->fd);
    free(r->dirty);
    free(r->code);
    *r = (struct ram_region){ .fd = -1 };
}
