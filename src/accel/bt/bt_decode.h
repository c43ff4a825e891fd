/*
 * bt_decode.h: bytes to struct bt_insn. Zydis parses; the operation is then chosen by the first table that
 * knows the instruction: integer (bt_ops.h), system (bt_sys), native (bt_native), else #UD.
 *
 * vCPU thread. A lookup may refine fields of *in (imm2 above all); it touches no guest state.
 */
#ifndef ACCEL_BT_BT_DECODE_H
#define ACCEL_BT_BT_DECODE_H

#include <Zydis/Zydis.h>

#include "accel/bt/bt.h"

enum { BT_INSN_MAX = 15 }; /* bytes of the longest instruction */

enum bt_decode_result {
    BT_DECODE_OK,   /* *in is complete; in->op may be an operation that raises #UD */
    BT_DECODE_MORE, /* the bytes end inside the instruction */
};

enum {                          /* how the instruction sits in its block */
       BT_DECODE_END = BIT(0),  /* it is the last one */
       BT_DECODE_LOOP = BIT(1), /* and what follows it goes through the run loop */
       BT_DECODE_CALL = BIT(2), /* bt_op_call runs it (operations that return BT_NEXT) */
};

/* Decodes one instruction of c's current mode from bytes[0..n); *flags: BT_DECODE_END ... */
enum bt_decode_result bt_decode(struct bt_cpu *c, const uint8_t *bytes, size_t n,
                                struct bt_insn *in, unsigned *flags);
/* The same, and what Zydis says: *z and ops[ZYDIS_MAX_OPERAND_COUNT], valid unless in->op is bt_op_ud or bt_op_gp. */
enum bt_decode_result bt_decode_full(struct bt_cpu *c, const uint8_t *bytes, size_t n,
                                     struct bt_insn *in, unsigned *flags,
                                     ZydisDecodedInstruction *z, ZydisDecodedOperand *ops);

/* System, segment, far-control and I/O instructions (bt_sys). NULL: not one of them. */
bt_op *bt_sys_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                     struct bt_insn *in);
/*
 * Everything else that is unprivileged, by running it on the host (bt_native); sets in->native. bytes has
 * z->length bytes. NULL: the host or the method cannot.
 */
bt_op *bt_native_lookup(struct bt_cpu *c, const uint8_t *bytes, const ZydisDecodedInstruction *z,
                        const ZydisDecodedOperand *ops, struct bt_insn *in);

#endif
