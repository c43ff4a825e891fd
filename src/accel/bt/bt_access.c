/*
 * bt_access.c: the slow paths of bt_access.h: any mode, MMIO, page crossings, pages with code; and
 * registers and ModRM operands by size at run time. vCPU thread.
 */
#include "accel/bt/bt_access.h"

#include "accel/bt/bt_code.h"
#include "accel/bt/bt_ops.h"


int bt_load_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size, uint64_t *val)
{
    *val = 0;
    return bt_read(c, in->seg, bt_ea(c, in), size, val);
}

int bt_store_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size, uint64_t val)
{
    return bt_write(c, in->seg, bt_ea(c, in), size, val);
}

int bt_rmw_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size, void **p)
{
    uint64_t lin;
    int r = bt_linear(c, in->seg, bt_ea(c, in), size, true, &lin);

    if (!r)
        r = bt_lin_ptr(c, lin, size, true, c->mmu, p);
    if (r || *p)
        return r;
    *p = c->bounce;
    if (size <= 8)
        return bt_lin_read(c, lin, size, &c->bounce[0], c->mmu);
    return bt_lin_copy_in(c, lin, c->bounce, size, c->mmu);
}

int bt_rmw_end_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size)
{
    uint64_t lin;
    int r = bt_linear(c, in->seg, bt_ea(c, in), size, true, &lin);

    if (r)
        return r;
    if (size <= 8)
        return bt_lin_write(c, lin, size, c->bounce[0], c->mmu);
    return bt_lin_copy_out(c, lin, c->bounce, size, c->mmu);
}

int bt_lock_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size, void **p)
{
    int r;

    bt_code_lock(c->vm);
    r = bt_rmw_slow(c, in, size, p);
    if (r || *p != c->bounce)
        bt_code_unlock(c->vm);
    return r;
}

int bt_lock_end_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size)
{
    int r = bt_rmw_end_slow(c, in, size);

    bt_code_unlock(c->vm);
    return r;
}

uint64_t bt_get(struct bt_cpu *c, const struct bt_insn *in, unsigned r, unsigned size)
{
    switch (size) {
    case 1:
        return bt_get8(c, in, r);
    case 2:
        return bt_get16(c, in, r);
    case 4:
        return bt_get32(c, in, r);
    default:
        return bt_get64(c, in, r);
    }
}

void bt_set(struct bt_cpu *c, const struct bt_insn *in, unsigned r, unsigned size, uint64_t v)
{
    switch (size) {
    case 1:
        bt_set8(c, in, r, (uint8_t)v);
        break;
    case 2:
        bt_set16(c, in, r, (uint16_t)v);
        break;
    case 4:
        bt_set32(c, in, r, (uint32_t)v);
        break;
    default:
        bt_set64(c, in, r, v);
    }
}

int bt_get_rm(struct bt_cpu *c, const struct bt_insn *in, unsigned size, uint64_t *v)
{
    if (in->rm == BT_REG_NONE)
        return bt_load_slow(c, in, size, v);
    *v = bt_get(c, in, in->rm, size);
    return 0;
}

int bt_set_rm(struct bt_cpu *c, const struct bt_insn *in, unsigned size, uint64_t v)
{
    if (in->rm == BT_REG_NONE)
        return bt_store_slow(c, in, size, v);
    bt_set(c, in, in->rm, size, v);
    return 0;
}
