#include "base/pages.h"

#include <sys/mman.h>

/* What is only known from such memory is no leak: sanitizers do not look into mappings by themselves. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PAGES_LSAN
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(PAGES_LSAN)
#include <sanitizer/lsan_interface.h>
#else
#define __lsan_register_root_region(p, len)   (void)0
#define __lsan_unregister_root_region(p, len) (void)0
#endif

enum { HUGE_PAGE = 2 * MIB };

void *pages_alloc(size_t len, size_t guard)
{
    size_t want = len + 2 * guard, room = want + HUGE_PAGE;
    uint8_t *area, *at, *end;

    area = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        return NULL;
    at = area + (align_up((uintptr_t)area + guard, HUGE_PAGE) - (uintptr_t)area);
    end = at + len + guard;
    if (at - guard > area)
        munmap(area, (size_t)(at - guard - area));
    if (area + room > end)
        munmap(end, (size_t)(area + room - end));
    if (mprotect(at, len, PROT_READ | PROT_WRITE)) {
        munmap(at - guard, want);
        return NULL;
    }
    madvise(at, len, MADV_HUGEPAGE); /* only a wish */
    __lsan_register_root_region(at, len);
    return at;
}

void pages_free(void *p, size_t len, size_t guard)
{
    if (!p)
        return;
    __lsan_unregister_root_region(p, len);
    munmap((uint8_t *)p - guard, len + 2 * guard);
}
