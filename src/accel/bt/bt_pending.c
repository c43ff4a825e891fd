/* Weak stand-ins until the parts that are being written land; goes away with them. */
#include "accel/bt/bt_decode.h"
#include "accel/bt/bt_desc.h"

#define weak __attribute__((weak))
weak int bt_task_gate(struct bt_cpu *c, uint16_t sel, enum bt_task_kind kind, bool has_error, uint32_t error)
{ (void)kind; (void)has_error; (void)error; return bt_raise_err(c, X86_GP, sel); }
weak bt_op *bt_sys_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops, struct bt_insn *in)
{ (void)z; (void)ops; (void)in; return NULL; }
weak void bt_sys_enter(struct bt_cpu *c) { bt_tlb_serve(c); }
weak void bt_sys_state_loaded(struct bt_cpu *c) { bt_tlb_flush_all(c); bt_mode_changed(c); }
weak void bt_sys_state_store(struct bt_cpu *c) { (void)c; }
weak uint32_t bt_pkru(const struct bt_cpu *c) { (void)c; return 0; }
