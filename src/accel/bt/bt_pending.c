/* Weak stand-ins until the parts that are being written land; goes away with them. */
#include "accel/bt/bt_decode.h"
#include "accel/bt/bt_desc.h"

#define weak __attribute__((weak))
weak void bt_mode_changed(struct bt_cpu *c) { (void)c; }
weak void bt_skip(struct bt_cpu *c, const struct bt_insn *in) { c->s.rip = bt_rip(c, in) + in->len; }
weak void bt_code_store(struct bt_cpu *c, uint64_t gpa, unsigned len) { (void)c; (void)gpa; (void)len; }
weak void bt_code_recheck(struct vm *vm, uint64_t gpa) { (void)vm; (void)gpa; }
weak void bt_fpu_store(struct bt_cpu *c) { (void)c; }
weak int bt_task_gate(struct bt_cpu *c, uint16_t sel, enum bt_task_kind kind, bool has_error, uint32_t error)
{ (void)kind; (void)has_error; (void)error; return bt_raise_err(c, X86_GP, sel); }
weak uint32_t bt_pkru(const struct bt_cpu *c) { (void)c; return 0; }
weak bt_op *bt_sys_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops, struct bt_insn *in)
{ (void)z; (void)ops; (void)in; return NULL; }
