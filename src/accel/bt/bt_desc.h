/*
 * bt_desc.h: segment descriptors, selectors and stacks of transfers (SDM 3A chapters 3, 5, 6, 7): shared by
 * event delivery, segment loads, far transfers and task switches. vCPU thread.
 *
 *    63      56 55  52 51  48 47 46 45 44 43  40 39        32
 *   +----------+------+------+--+-----+--+------+------------+
 *   | base     |G D L | limit|P | DPL |S | type | base       |   x86_seg.attr is bits 40 to 55 without
 *   | 31:24    |  AVL | 19:16|  |     |  |      | 23:16      |   the limit
 *   +----------+------+------+--+-----+--+------+------------+
 *   | base 15:0                | limit 15:0                 |
 *   +--------------------------+----------------------------+
 */
#ifndef ACCEL_BT_BT_DESC_H
#define ACCEL_BT_BT_DESC_H

#include "accel/bt/bt_mem.h"

struct bt_desc {
    uint64_t raw;
    uint16_t sel;
};
enum { /* types of system descriptors */
       DESC_TSS16 = 1,
       DESC_LDT = 2,
       DESC_TSS16_BUSY = 3,
       DESC_CALL16 = 4,
       DESC_TASK = 5,
       DESC_INT16 = 6,
       DESC_TRAP16 = 7,
       DESC_TSS = 9,
       DESC_TSS_BUSY = 11,
       DESC_CALL = 12,
       DESC_INT = 14,
       DESC_TRAP = 15,
       DESC_TSS_BUSY_BIT = 2,
};

static inline unsigned bt_desc_type(const struct bt_desc *d)
{
    return d->raw >> 40 & 0xf;
}
static inline bool bt_desc_system(const struct bt_desc *d)
{
    return !(d->raw & BIT64(44));
}
static inline bool bt_desc_code(const struct bt_desc *d)
{
    return (d->raw >> 43 & 3) == 3;
}
static inline bool bt_desc_conforming(const struct bt_desc *d)
{
    return bt_desc_code(d) && (d->raw & BIT64(42));
}
static inline bool bt_desc_writable(const struct bt_desc *d) /* a data segment that is */
{
    return (d->raw >> 43 & 3) == 2 && (d->raw & BIT64(41));
}
static inline bool bt_desc_readable(const struct bt_desc *d)
{
    return !bt_desc_system(d) && (!bt_desc_code(d) || (d->raw & BIT64(41)));
}
static inline bool bt_desc_present(const struct bt_desc *d)
{
    return d->raw & BIT64(47);
}
static inline unsigned bt_desc_dpl(const struct bt_desc *d)
{
    return d->raw >> 45 & 3;
}
static inline bool bt_desc_long(const struct bt_desc *d)
{
    return d->raw & BIT64(53);
}
static inline bool bt_desc_db(const struct bt_desc *d)
{
    return d->raw & BIT64(54);
}
static inline uint32_t bt_desc_limit(const struct bt_desc *d)
{
    uint32_t limit = (uint32_t)(d->raw & 0xffff) | (uint32_t)(d->raw >> 32 & 0xf0000);

    return d->raw & BIT64(55) ? limit << 12 | 0xfff : limit;
}
static inline uint32_t bt_desc_base(const struct bt_desc *d)
{
    return (uint32_t)(d->raw >> 16 & 0xffffff) | (uint32_t)(d->raw >> 32 & 0xff000000);
}
/* Gates: target. */
static inline uint16_t bt_gate_sel(const struct bt_desc *d)
{
    return (uint16_t)(d->raw >> 16);
}
static inline uint32_t bt_gate_offset(
    const struct bt_desc *d) /* 32-bit gates; 16-bit: the low half */
{
    return (uint32_t)(d->raw & 0xffff) | (uint32_t)(d->raw >> 32 & 0xffff0000);
}

static inline bool bt_sel_null(uint16_t sel)
{
    return !(sel & ~3u);
}
static inline uint32_t bt_sel_error(uint16_t sel)
{
    return sel & ~3u;
}

bool bt_seg_limit_ok(const struct x86_seg *s, uint64_t off, unsigned len);

/* The descriptor that a (not null) selector names; outside of its table: `vector`(selector). */
int bt_desc_load(struct bt_cpu *c, uint16_t sel, unsigned vector, struct bt_desc *d);
/* The upper half of a 16-byte descriptor (long mode): base bits 63:32 or gate offset. */
int bt_desc_load_high(struct bt_cpu *c, uint16_t sel, unsigned vector, uint64_t *high);
struct x86_seg bt_desc_seg(const struct bt_desc *d);
struct x86_seg bt_seg_null(uint16_t sel);
struct x86_seg bt_seg_real(uint16_t sel, bool vm86);
/* Sets the accessed bit in the table (and in *d), if it is not set. */
int bt_desc_accessed(struct bt_cpu *c, struct bt_desc *d);
/* TSS: sets or clears the busy bit in the table. */
int bt_desc_busy(struct bt_cpu *c, uint16_t sel, bool busy);

/* How code running at cpl accesses its stack. */
enum bt_mmu bt_mmu_of_cpl(const struct bt_cpu *c, unsigned cpl);

/* A stack under construction: nothing of it is in c->s until the caller commits. */
struct bt_stack {
    struct x86_seg ss;
    uint64_t sp;
    unsigned width; /* of the stack pointer: 2, 4, 8 */
    enum bt_mmu mmu;
    uint32_t error; /* of the #SS of a limit violation */
};
struct bt_stack bt_stack_current(const struct bt_cpu *c);
int bt_stack_push(struct bt_cpu *c, struct bt_stack *st, unsigned size, uint64_t val);
int bt_stack_pop(struct bt_cpu *c, struct bt_stack *st, unsigned size, uint64_t *val);
/* Are the n bytes below (for pushes) within the segment? 0 or #SS. */
int bt_stack_room(struct bt_cpu *c, const struct bt_stack *st, unsigned n);
/* RSP from the stack; the caller does SS. */
void bt_stack_commit_sp(struct bt_cpu *c, const struct bt_stack *st);

/* The stack for privilege level dpl out of the TSS, checked (SDM 3A 6.12.1, figure 7-2). Not long mode. */
int bt_stack_from_tss(struct bt_cpu *c, unsigned dpl, struct bt_stack *st);
/* Long mode: RSP of level dpl, or of IST entry ist (1 to 7) if that is not 0; SS is a null selector. */
int bt_stack_from_tss64(struct bt_cpu *c, unsigned dpl, unsigned ist, struct bt_stack *st);

/* Loads CS from a checked code descriptor, with rpl; offset checks are the caller's. */
void bt_set_cs(struct bt_cpu *c, const struct bt_desc *d, unsigned rpl);
/* A code descriptor's offset: limit or canonical check; 0 or #GP(0). */
int bt_code_offset_ok(struct bt_cpu *c, const struct bt_desc *d, uint64_t off);

/* --- task switches (bt_task.c; SDM 3A 7.3) --- */
enum bt_task_kind { BT_TASK_JMP, BT_TASK_CALL, BT_TASK_INT, BT_TASK_IRET };
/*
 * Switches to the TSS of sel; its descriptor's type was checked as far as the kind asks. c->s.rip is where the
 * old task continues. has_error: pushed on the new stack. 0, or BT_FAULT: in the new task's context if
 * it got that far.
 */
int bt_task_switch(struct bt_cpu *c, uint16_t sel, enum bt_task_kind kind, bool has_error,
                   uint32_t error);
/* Through a task gate's selector: null, table and type checks with `vector`; then the switch. */
int bt_task_gate(struct bt_cpu *c, uint16_t sel, enum bt_task_kind kind, bool has_error,
                 uint32_t error);

#endif
