/*
 * bt_exec.c: two mappings of shared anonymous memory. Not of a memfd: hosts forbid executable ones
 * (vm.memfd_noexec), and perf looks for names of generated code in anonymous memory only.
 */
#include "accel/bt/bt_exec.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; Debian 12's libc does not know it */
#endif

/* Room for both mappings, side by side, where huge pages can be. */
static uint8_t *exec_reserve(size_t len)
{
    size_t room = 2 * len + BT_EXEC_HUGE;
    uint8_t *area = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint8_t *at;

    if (area == MAP_FAILED)
        return NULL;
    at = area + (align_up((uintptr_t)area, BT_EXEC_HUGE) - (uintptr_t)area);
    if (at > area)
        munmap(area, (size_t)(at - area));
    munmap(at + 2 * len, (size_t)(area + room - (at + 2 * len)));
    return at;
}

int bt_exec_map(size_t len, uint8_t **w, const uint8_t **x, struct err *e)
{
    enum { SHARED = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED };
    uint8_t *at = exec_reserve(len);
    int error;

    *w = NULL;
    *x = NULL;
    /* Of shared memory, mremap() of nothing maps it once more. */
    if (at && mmap(at, len, PROT_READ | PROT_WRITE, SHARED, -1, 0) == at &&
        mremap(at, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED, at + len) == at + len &&
        !mprotect(at + len, len, PROT_READ | PROT_EXEC)) {
        *w = at;
        *x = at + len;
        return 0;
    }
    error = errno;
    if (at)
        munmap(at, 2 * len);
    return err_set(e, error,
                   "no executable memory for the accelerator bt: %s (is it forbidden by a security "
                   "policy?)",
                   strerror(error));
}

void bt_exec_huge(uint8_t *w)
{
    (void)*(volatile uint8_t *)w; /* the kernel does not collapse what nobody has touched */
    madvise(w, BT_EXEC_HUGE, MADV_COLLAPSE);
}

void bt_exec_unmap(size_t len, uint8_t *w)
{
    if (w)
        munmap(w, 2 * len);
}
