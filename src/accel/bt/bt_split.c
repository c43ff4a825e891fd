/*
 * bt_split.c: LOCKed operations that are not one host instruction on guest RAM: MMIO, and operands across
 * two cache lines (or pages). The host could do the latter in RAM, but by holding up all of its processors;
 * kernels answer such a "split lock" with delays, or end the process.
 *
 * All of these exclude each other by the VM-wide lock. In RAM, against everybody else: the operand lies in
 * two aligned words, one in each line, and what was computed goes in only if both still hold what was read;
 * else the instruction runs again. Between the two words' stores another vCPU may see one without the other,
 * which a plain load across two lines can on a real processor too.
 *
 *        word[0], end of a line        word[1], start of the next
 *      |. . . . . a b c          |    |d e . . . . . .           |     LOCKed access to a..e
 *       shift ----^
 *
 * vCPU thread.
 */
#include "accel/bt/bt_access.h"

#include "accel/bt/bt_code.h"
#include "accel/bt/bt_desc.h"

/* The host addresses of an operand's two parts, already probed for writing; false: not both are RAM. */
static bool bt_split_parts(struct bt_cpu *c, const struct bt_insn *in, unsigned size,
                           uint8_t *part[2])
{
    unsigned first;
    uint64_t lin;
    void *p, *q;

    if (bt_linear(c, in->seg, bt_ea(c, in), size, true, &lin))
        return false;
    first = PAGE_SIZE - (unsigned)(lin % PAGE_SIZE);
    if (first >= size || bt_lin_ptr(c, lin, first, true, c->mmu, &p) ||
        bt_lin_ptr(c, lin + first, size - first, true, c->mmu, &q) || !p || !q)
        return false;
    part[0] = p;
    part[1] = q;
    return true;
}

static void *bt_split_begin(struct bt_cpu *c, uint8_t *const part[2])
{
    struct bt_split *s = &c->split;

    s->shift =
        (unsigned)((uintptr_t)part[0] % 8) * 8; /* not 0: the operand passes the word's end */
    for (unsigned i = 0; i < 2; i++) {
        s->word[i] = (uint64_t *)((uintptr_t)part[i] & ~7ull);
        s->old[i] = __atomic_load_n(s->word[i], __ATOMIC_SEQ_CST);
    }
    c->bounce[0] = s->old[0] >> s->shift | s->old[1] << (64 - s->shift);
    return c->bounce;
}

static bool bt_split_replace(uint64_t *word, uint64_t old, uint64_t new)
{
    return __atomic_compare_exchange_n(word, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* 0, or BT_FAULT to run the instruction again. */
static int bt_split_end(struct bt_cpu *c, unsigned size)
{
    struct bt_split *s = &c->split;
    uint64_t mask = bt_mask(size), val = c->bounce[0] & mask, new[2];
    uint64_t *const word[2] = { s->word[0], s->word[1] };

    new[0] = (s->old[0] & ~(mask << s->shift)) | val << s->shift;
    new[1] = (s->old[1] & ~(mask >> (64 - s->shift))) | val >> (64 - s->shift);
    s->word[0] = NULL;
    if (bt_split_replace(word[0], s->old[0], new[0])) {
        if (bt_split_replace(word[1], s->old[1], new[1]))
            return 0;
        bt_split_replace(word[0], new[0], s->old[0]);
    }
    s->retry = true;
    return BT_FAULT;
}

void *bt_lock_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size)
{
    uint8_t *part[2];
    void *p;

    bt_code_lock(c->vm);
    p = bt_rmw_slow(c, in, size);
    if (p == c->bounce) {
        if (bt_split_parts(c, in, size, part))
            bt_split_begin(c, part);
        return p;
    }
    if (p && bt_splits((uintptr_t)p, size)) {
        part[0] = p;
        part[1] = part[0] + BT_LINE - (uintptr_t)p % BT_LINE;
        return bt_split_begin(c, part);
    }
    bt_code_unlock(c->vm);
    return p;
}

int bt_lock_end_slow(struct bt_cpu *c, const struct bt_insn *in, unsigned size)
{
    int r = c->split.word[0] ? bt_split_end(c, size) : bt_rmw_end_slow(c, in, size);

    bt_code_unlock(c->vm);
    return r;
}
