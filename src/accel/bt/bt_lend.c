/*
 * bt_lend.c: see bt_lend.h. Between two stretches guest memory changes unseen: the TLB is dropped and each
 * decoded block compared with memory before it runs again.
 */
#include "accel/bt/bt_lend.h"

#include <x86intrin.h>

#include "accel/bt/bt_code.h"
#include "accel/bt/bt_jit.h"
#include "accel/bt/bt_sys.h"

int bt_lend_start(struct vm *vm, struct err *e)
{
    int rc = bt_code_create(vm, &vm->lent_code, e);

    for (unsigned i = 0; !rc && i < vm->mem.n; i++) {
        rc = bt_code_map(vm->lent_code, vm->mem.region[i]);
        if (rc)
            err_oom(e);
    }
    if (rc)
        bt_lend_stop(vm);
    return rc;
}

void bt_lend_stop(struct vm *vm)
{
    bt_code_destroy(vm->lent_code);
    vm->lent_code = NULL;
}

int bt_lend_map(struct vm *vm, struct ram_region *r)
{
    return vm->lent_code ? bt_code_map(vm->lent_code, r) : 0;
}

void bt_lend_unmap(struct vm *vm, struct ram_region *r)
{
    if (vm->lent_code)
        bt_code_unmap(vm->lent_code, r);
}

/* Those that see and change nothing but registers, flags and memory. */
static bool bt_lend_keeps(const ZydisDecodedInstruction *z)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_CLAC:
    case ZYDIS_MNEMONIC_STAC:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_CLDEMOTE:
    case ZYDIS_MNEMONIC_CLFLUSH:
    case ZYDIS_MNEMONIC_CLFLUSHOPT:
    case ZYDIS_MNEMONIC_CLWB:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_SAHF:
    case ZYDIS_MNEMONIC_PAUSE:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_XGETBV:
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_UD2:
        return true;
    default:
        return false;
    }
}

int bt_lend_hand_back(struct bt_cpu *c)
{
    c->lend.hand_back = true;
    return BT_FAULT;
}

static int bt_op_hand_back(struct bt_cpu *c, const struct bt_insn *in)
{
    (void)in;
    return bt_lend_hand_back(c);
}

static int bt_op_hand_whole(struct bt_cpu *c, const struct bt_insn *in)
{
    (void)in;
    c->lend.whole = true;
    return bt_lend_hand_back(c);
}

/* Those that may change the privilege level. */
static bool bt_lend_whole(const ZydisDecodedInstruction *z)
{
    return z->mnemonic == ZYDIS_MNEMONIC_SYSCALL || z->mnemonic == ZYDIS_MNEMONIC_SYSRET ||
           z->mnemonic == ZYDIS_MNEMONIC_IRETQ;
}

bt_op *bt_lend_filter(const ZydisDecodedInstruction *z, bt_op *op)
{
    if (bt_lend_keeps(z))
        return op;
    return bt_lend_whole(z) ? bt_op_hand_whole : bt_op_hand_back;
}

void bt_lend_look(struct bt_cpu *c, struct bt_block *b)
{
    b->heat = BT_JIT_HOT;
    if (__rdtsc() >= c->lend.end_tsc)
        atomic_store_explicit(&c->kick, true, memory_order_relaxed);
}

enum run_exit bt_lend_run(struct bt_cpu *c, struct x86_state *s, uint64_t tsc_offset,
                          uint64_t end_tsc, enum bt_lend_end *end)
{
    enum run_exit why;

    bt_code_recheck_all(c->vm->lent_code);
    c->lend = (struct bt_lend){ .on = true, .end_tsc = end_tsc };
    bt_load(c, s);
    c->tsc_offset = tsc_offset;
    atomic_store(&c->kick, false);
    why = bt_run_lent(c);
    bt_fpu_store(c);
    *end = c->lend.whole ? BT_LEND_WHOLE : c->lend.hand_back ? BT_LEND_OWNER : BT_LEND_TIME;
    c->lend = (struct bt_lend){ 0 };
    *s = c->s;
    return why;
}
