#include "mem/ram.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/pages.h"

enum { RAM_GUARD = 64 * KIB };

int ram_alloc(struct ram_region *r, const char *name, uint64_t gpa, uint64_t len, struct err *e)
{
    *r = (struct ram_region){ .gpa = gpa, .len = len };
    snprintf(r->name, sizeof(r->name), "%s", name);
    if (!len || (len | gpa) & ~PAGE_MASK)
        return err_set(e, EINVAL, "guest memory must be a multiple of 4 KiB");
    r->hva = len < SIZE_MAX / 2 ? pages_alloc((size_t)len, RAM_GUARD) : NULL;
    if (!r->hva)
        return err_set(
            e, errno ? errno : ENOMEM,
            "cannot get %llu MiB of guest memory from the host (%s): give a smaller --memory",
            (unsigned long long)(len / MIB), strerror(errno ? errno : ENOMEM));
    madvise(r->hva, len, MADV_DONTFORK);
    madvise(r->hva, len, MADV_DONTDUMP);
    return 0;
}

void ram_free(struct ram_region *r)
{
    if (r->hva && !r->view)
        pages_free(r->hva, (size_t)r->len, RAM_GUARD);
    free(r->dirty);
    free(r->code);
    *r = (struct ram_region){ 0 };
}

void ram_view(struct ram_region *v, const struct ram_region *of, const char *name, uint64_t gpa,
              uint64_t off, uint64_t len)
{
    BUG_ON(!len || (gpa | off | len) & ~PAGE_MASK || off > of->len || len > of->len - off);
    *v = (struct ram_region){
        .gpa = gpa,
        .len = len,
        .hva = of->hva + off,
        .rom = of->rom,
        .view = true,
    };
    snprintf(v->name, sizeof(v->name), "%s", name);
}
