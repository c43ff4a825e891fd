/*
 * bt_access.c: the slow paths of bt_access.h: any mode, MMIO, page crossings, pages with code; and
 * registers by size at run time. vCPU thread.
 */
#include "accel/bt/bt_access.h"

#include "accel/bt/bt_native.h"
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

void *bt_rmw_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size)
{
    uint64_t lin;
    void *p;
    int r;

    if (bt_linear(c, in->seg, bt_ea(c, in), size, true, &lin) ||
        bt_lin_ptr(c, lin, size, true, c->mmu, &p))
        return NULL;
    if (p)
        return p;
    if (bt_native_probe(c, lin, size)) /* as a write: the page that fails first is named */
        return NULL;
    if (size <= 8)
        r = bt_lin_read(c, lin, size, &c->bounce[0], c->mmu);
    else
        r = bt_lin_copy_in(c, lin, c->bounce, size, c->mmu);
    return r ? NULL : c->bounce;
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
