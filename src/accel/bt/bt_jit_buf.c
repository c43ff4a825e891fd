/*
 * bt_jit_buf.c: the code buffer: the same pages mapped twice, writable and executable, never both; and the
 * tables beside it. Bounded by BT_JIT_CODE and the other limits; touched as needed.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "accel/bt/bt_jit_insn.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif

static int buf_code(struct bt_jit *j)
{
    int fd = memfd_create("bt-code", MFD_CLOEXEC | MFD_EXEC);
    void *w, *x;

    if (fd < 0 && errno == EINVAL) /* a kernel that does not know MFD_EXEC */
        fd = memfd_create("bt-code", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, BT_JIT_CODE)) {
        close(fd);
        return -errno;
    }
    w = mmap(NULL, BT_JIT_CODE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    x = mmap(NULL, BT_JIT_CODE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    close(fd);
    j->w = w == MAP_FAILED ? NULL : w;
    j->x = x == MAP_FAILED ? NULL : x;
    return j->w && j->x ? 0 : -ENOMEM;
}

static void *buf_table(size_t n, size_t size)
{
    void *p = mmap(NULL, n * size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

int bt_jit_buf_create(struct bt_jit *j, struct err *e)
{
    int rc = buf_code(j);

    if (rc)
        return err_set(e, -rc,
                       "no executable memory for the accelerator bt: %s (is it forbidden by a "
                       "security policy or vm.memfd_noexec?)",
                       strerror(-rc));
    j->unit = buf_table(BT_JIT_UNITS, sizeof(*j->unit));
    j->exit = buf_table(BT_JIT_EXITS, sizeof(*j->exit));
    j->point = buf_table(BT_JIT_POINTS, sizeof(*j->point));
    j->fault = buf_table(BT_JIT_FAULTS, sizeof(*j->fault));
    j->page = buf_table(BT_JIT_PAGES, sizeof(*j->page));
    j->arena = buf_table(BT_JIT_ARENA, 1);
    j->scratch = calloc(1, sizeof(*j->scratch));
    if (j->unit && j->exit && j->point && j->fault && j->page && j->arena && j->scratch)
        return 0;
    err_oom(e);
    return -ENOMEM;
}

static void buf_free(void *p, size_t n, size_t size)
{
    if (p)
        munmap(p, n * size);
}

void bt_jit_buf_destroy(struct bt_jit *j)
{
    buf_free(j->w, BT_JIT_CODE, 1);
    buf_free((void *)(uintptr_t)j->x, BT_JIT_CODE, 1);
    buf_free(j->unit, BT_JIT_UNITS, sizeof(*j->unit));
    buf_free(j->exit, BT_JIT_EXITS, sizeof(*j->exit));
    buf_free(j->point, BT_JIT_POINTS, sizeof(*j->point));
    buf_free(j->fault, BT_JIT_FAULTS, sizeof(*j->fault));
    buf_free(j->page, BT_JIT_PAGES, sizeof(*j->page));
    buf_free(j->arena, BT_JIT_ARENA, 1);
    free(j->scratch);
}
