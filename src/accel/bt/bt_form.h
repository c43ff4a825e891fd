/*
 * bt_form.h: instructions by their form. What decoding makes of an instruction follows from its prefixes,
 * opcode, ModRM, SIB and, if that is a byte, its immediate; displacements, larger immediates and how far a
 * branch goes are only numbers in the result. So the result for a form is kept, and Zydis, which with all that
 * hangs on it takes half a microsecond for an instruction, is asked for new forms only.
 *
 *   prefixes | opcode | ModRM | SIB | displacement | immediate
 *   `------------ head ------------'
 *
 * A table of the vCPU's, direct-mapped: of 64-bit code, and for the interpreter of 32-bit code. vCPU thread.
 */
#ifndef ACCEL_BT_BT_FORM_H
#define ACCEL_BT_BT_FORM_H

#include "accel/bt/bt_decode.h"
#include "accel/bt/bt_jit_insn.h"

enum {
    BT_FORM_BITS = 15,
    BT_FORM_HEAD = 11, /* bytes of the longest head that is kept */
};

/* Where an instruction's parts are; sizes in bytes. */
struct bt_form_parts {
    uint8_t head, disp_size, imm_size;
    bool imm_keyed; /* the immediate belongs to the form */
};

struct bt_form {
    uint64_t key[2];
    uint64_t age;         /* of bt_forms in which it was kept */
    bool has_op, has_jit; /* which results are there */
    bool imm_signed;      /* the immediate is sign-extended */
    uint8_t flags;        /* BT_DECODE_*, with op */
    struct bt_insn op;
    struct bt_jit_insn jit;
};

struct bt_forms {
    uint64_t age; /* times that all were forgotten */
    struct bt_form form[1 << BT_FORM_BITS];
};

/* NULL: no memory. */
struct bt_forms *bt_forms_create(void);
void bt_forms_destroy(struct bt_forms *forms);
/* All are forgotten: the plans (struct bt_native) that they name are about to go. */
void bt_forms_clear(struct bt_forms *forms);

/* Takes bytes[0..n) apart. false: its form is not kept, or this is not all of it. */
bool bt_form_scan(const uint8_t *bytes, size_t n, unsigned code_size, struct bt_form_parts *p);
/* The place of the form in c's table; empty if it was another's. one: bt_cpu.decode_one. */
struct bt_form *bt_form_at(const struct bt_cpu *c, const uint8_t *bytes,
                           const struct bt_form_parts *p, bool one);
/* Does Zydis see the same parts? It should; its word counts. Notes f->imm_signed. */
bool bt_form_agrees(struct bt_form *f, const struct bt_form_parts *p,
                    const ZydisDecodedInstruction *z);
/* The instruction's own numbers; what it does not have stays as it is. */
void bt_form_numbers(const struct bt_form *f, const struct bt_form_parts *p, const uint8_t *bytes,
                     int32_t *disp, int64_t *imm);

#endif
