/*
 * bt_debug.c: breakpoints of DR0 to DR3 (SDM 3B 18.2). Data breakpoints are seen because their pages get
 * no fast TLB tags (bt_tlb.c); instruction breakpoints because the run loop steps while DR7 is armed.
 * Not modelled: bus lock and RTM debugging.
 */
#include "accel/bt/bt_mem.h"

enum { DEBUG_RW_EXEC, DEBUG_RW_WRITE, DEBUG_RW_IO, DEBUG_RW_ACCESS };
enum { DR6_HITS = 0xf, DR6_BS = BIT(14) };

static bool debug_enabled(const struct bt_cpu *c, unsigned n)
{
    return c->s.dr7 >> (2 * n) & 3;
}

static unsigned debug_rw(const struct bt_cpu *c, unsigned n)
{
    return c->s.dr7 >> (16 + 4 * n) & 3;
}

static unsigned debug_len(const struct bt_cpu *c, unsigned n)
{
    static const uint8_t len[4] = { 1, 2, 8, 4 };

    return len[c->s.dr7 >> (18 + 4 * n) & 3];
}

static bool debug_overlaps(const struct bt_cpu *c, unsigned n, uint64_t at, unsigned len)
{
    uint64_t from = c->s.dr[n] & ~(uint64_t)(debug_len(c, n) - 1);

    return at < from + debug_len(c, n) && from < at + len;
}

bool bt_debug_watches(const struct bt_cpu *c, uint64_t lin)
{
    if (bt_debugged(c) && bt_debugger_watches(c, lin))
        return true;
    if (likely(!(c->s.dr7 & 0xff)))
        return false;
    for (unsigned n = 0; n < 4; n++)
        if (debug_enabled(c, n) && (debug_rw(c, n) & 1) && !((c->s.dr[n] ^ lin) & PAGE_MASK))
            return true;
    return false;
}

void bt_debug_access(struct bt_cpu *c, uint64_t lin, unsigned len, bool write)
{
    if (bt_debugged(c))
        bt_debugger_access(c, lin, len, write);
    if (likely(!(c->s.dr7 & 0xff)))
        return;
    for (unsigned n = 0; n < 4; n++) {
        unsigned rw = debug_rw(c, n);

        if (debug_enabled(c, n) && (rw == DEBUG_RW_ACCESS || (rw == DEBUG_RW_WRITE && write)) &&
            debug_overlaps(c, n, lin, len))
            c->db_pending |= (uint8_t)BIT(n);
    }
}

void bt_debug_io(struct bt_cpu *c, uint16_t port, unsigned len)
{
    if (likely(!(c->s.dr7 & 0xff)) || !(c->s.cr4 & CR4_DE))
        return;
    for (unsigned n = 0; n < 4; n++)
        if (debug_enabled(c, n) && debug_rw(c, n) == DEBUG_RW_IO && debug_overlaps(c, n, port, len))
            c->db_pending |= (uint8_t)BIT(n);
}

static void debug_record(struct bt_cpu *c, uint64_t hits)
{
    c->s.dr6 = (c->s.dr6 & ~(uint64_t)DR6_HITS) | hits;
}

int bt_debug_before(struct bt_cpu *c)
{
    uint64_t lin = c->s.rip + (c->code_size == 8 ? 0 : c->s.seg[X86_CS].base);
    unsigned hits = 0;

    if (bt_debugged(c) && bt_debugger_breaks(c, c->s.rip))
        return BT_EXIT;
    c->db_pending = c->s.shadow_mov_ss ? c->db_pending : 0;
    if (c->s.rflags & FLAG_RF) {
        c->s.rflags &= ~(uint64_t)FLAG_RF;
        return 0;
    }
    for (unsigned n = 0; n < 4; n++)
        if (debug_enabled(c, n) && debug_rw(c, n) == DEBUG_RW_EXEC && c->s.dr[n] == lin)
            hits |= BIT(n);
    if (!hits || c->s.shadow_mov_ss)
        return 0;
    debug_record(c, hits);
    return bt_raise(c, X86_DB);
}

int bt_debug_after(struct bt_cpu *c, bool tf)
{
    unsigned hits = c->db_pending & DR6_HITS;

    tf = tf && !(c->db_pending & BT_DB_NO_STEP);
    c->db_pending = (uint8_t)hits;
    /* MOV SS and POP SS hold debug traps back until the next instruction is done. */
    if (c->s.shadow_mov_ss || (!hits && !tf))
        return 0;
    c->db_pending = 0;
    debug_record(c, hits | (tf ? (unsigned)DR6_BS : 0));
    bt_raise(c, X86_DB);
    return BT_TRAP;
}
