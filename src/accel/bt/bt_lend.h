/*
 * bt_lend.h: a processor lent to another accelerator for a stretch of code. The owner keeps what is
 * not in guest memory and registers: devices, APIC, control registers, MSRs. Where
 * the guest wants one of those, the stretch ends before the instruction.
 *
 * The owner's vCPU thread alone; VMs with one vCPU (others would have to hear of decoded code and TLBs).
 */
#ifndef ACCEL_BT_BT_LEND_H
#define ACCEL_BT_BT_LEND_H

#include <Zydis/Zydis.h>

#include "accel/bt/bt_block.h"

/* Before the first stretch: memory learns where decoded code is. After bt_cpu_create(). */
must_check int bt_lend_start(struct vm *vm, struct err *e);
void bt_lend_stop(struct vm *vm);
/* A region came or goes; nothing if no processor of the VM is lent. vCPUs stopped. */
must_check int bt_lend_map(struct vm *vm, struct ram_region *r);
void bt_lend_unmap(struct vm *vm, struct ram_region *r);

enum bt_lend_end {
    BT_LEND_TIME,  /* it is up */
    BT_LEND_OWNER, /* an instruction of the owner's */
    BT_LEND_WHOLE, /* one for bt_step_one(), with the MSRs: SYSCALL, SYSRET, IRET */
};

/*
 * Runs from *s (long mode) until an instruction that is the owner's, or the host's TSC reaches
 * end_tsc; *s is then before an instruction. MSRs of *s are not looked at. RDTSC gives the host's +
 * tsc_offset. RUN_KICKED; RUN_SHUTDOWN, RUN_ERROR.
 */
enum run_exit bt_lend_run(struct bt_cpu *c, struct x86_state *s, uint64_t tsc_offset,
                          uint64_t end_tsc, enum bt_lend_end *end);

/* --- for bt's own files --- */
/* What a lent processor does for a system instruction: op, or it ends the stretch. */
bt_op *bt_lend_filter(const ZydisDecodedInstruction *z, bt_op *op);
/* The owner does the current instruction: BT_FAULT, without a fault. */
int bt_lend_hand_back(struct bt_cpu *c);
/* b has run often: is the time up? */
void bt_lend_look(struct bt_cpu *c, struct bt_block *b);

#endif
