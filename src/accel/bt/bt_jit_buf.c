/*
 * bt_jit_buf.c: the code buffer and the tables beside it. Bounded by BT_JIT_CODE and the other limits;
 * touched as needed.
 */
#include <errno.h>

#include "accel/bt/bt_exec.h"
#include "accel/bt/bt_jit_insn.h"
#include "base/pages.h"

static void *buf_table(size_t n, size_t size)
{
    return pages_alloc(align_up(n * size, PAGE_SIZE), 0);
}

static void buf_reach(const struct bt_jit *j, uint32_t *huge, size_t end)
{
    for (; *huge < end; *huge += BT_EXEC_HUGE)
        bt_exec_huge(j->w + *huge);
}

void bt_jit_buf_reach(struct bt_jit *j, size_t room)
{
    buf_reach(j, &j->huge[0], j->used + room);
    buf_reach(j, &j->huge[1], j->late_used + room);
}

int bt_jit_buf_create(struct bt_jit *j, struct err *e)
{
    int rc = bt_exec_map(BT_JIT_CODE, &j->w, &j->x, e);

    if (rc)
        return rc;
    j->huge[1] = j->late_used = BT_JIT_LATE_AT;
    j->unit = buf_table(BT_JIT_UNITS, sizeof(*j->unit));
    j->exit = buf_table(BT_JIT_EXITS, sizeof(*j->exit));
    j->point = buf_table(BT_JIT_POINTS, sizeof(*j->point));
    j->fault = buf_table(BT_JIT_FAULTS, sizeof(*j->fault));
    j->known = buf_table(1 << BT_JIT_KNOWN_BITS, sizeof(*j->known));
    j->page = buf_table(BT_JIT_PAGES, sizeof(*j->page));
    j->arena = buf_table(BT_JIT_ARENA, 1);
    j->scratch = calloc(1, sizeof(*j->scratch));
    if (j->unit && j->exit && j->point && j->fault && j->known && j->page && j->arena && j->scratch)
        return 0;
    err_oom(e);
    return -ENOMEM;
}

static void buf_free(void *p, size_t n, size_t size)
{
    pages_free(p, align_up(n * size, PAGE_SIZE), 0);
}

void bt_jit_buf_destroy(struct bt_jit *j)
{
    bt_exec_unmap(BT_JIT_CODE, j->w);
    buf_free(j->unit, BT_JIT_UNITS, sizeof(*j->unit));
    buf_free(j->exit, BT_JIT_EXITS, sizeof(*j->exit));
    buf_free(j->point, BT_JIT_POINTS, sizeof(*j->point));
    buf_free(j->fault, BT_JIT_FAULTS, sizeof(*j->fault));
    buf_free(j->known, 1 << BT_JIT_KNOWN_BITS, sizeof(*j->known));
    buf_free(j->page, BT_JIT_PAGES, sizeof(*j->page));
    buf_free(j->arena, BT_JIT_ARENA, 1);
    free(j->scratch);
}
