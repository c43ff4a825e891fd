/*
 * bt_native.h: instructions run as themselves on the host: what the files that do it share.
 *
 *   bt_isa.c      which instruction sets a guest may use, by its CPUID, and what they need of the FPU
 *   bt_native.c   bt_native_lookup(): from a decoded instruction to a plan; running plans
 *   bt_stub.c     plans to host code: rewritten bytes, the code around them, the W^X buffer, the cache
 *   bt_fpu.c      the guest's FPU state in the host's registers; host exceptions to guest exceptions
 *   bt_mask.c     gathers, scatters and masked moves whose masked-off elements must not fault
 *   bt_x87env.c   FNSTENV, FLDENV, FNSAVE, FRSTOR
 *   bt_xsave.c    FXSAVE, FXRSTOR, the XSAVE family
 *
 * vCPU thread, but for the signal handler.
 */
#ifndef ACCEL_BT_BT_NATIVE_H
#define ACCEL_BT_BT_NATIVE_H

#include <Zydis/Zydis.h>

#include "accel/bt/bt.h"

enum {
    BT_CLASS_NONE = BT_FPU_AVX512 + 1, /* enum bt_fpu_class: needs no FPU, */
    BT_CLASS_WAIT,                     /* FWAIT: #NM only with CR0.MP */
    BT_NATIVE_NO_REG = 0xff,
    BT_MEM_MAX = 108, /* bytes of the largest operand: FNSAVE's */
    BT_BOUNCE_SIZE = 192,
};

/* Sanitizers' own functions use vector registers anywhere: with them nothing stays there (fpu_live is never set). */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { BT_FPU_LAZY = 0 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { BT_FPU_LAZY = 0 };
#else
enum { BT_FPU_LAZY = 1 };
#endif
#else
enum { BT_FPU_LAZY = 1 };
#endif
enum { BT_ACCESS_READ = BIT(0), BT_ACCESS_WRITE = BIT(1) };

enum {
    BT_X87_NO_STORE = 0x1f
}; /* exceptions that, unmasked, keep a store from happening: all but PE */
enum { BT_X87_NONE, BT_X87_OP /* moves FIP */, BT_X87_INIT /* clears it */ };

/* Which elements of a memory operand are accessed. */
enum bt_mask_kind {
    BT_MASK_NONE,
    BT_MASK_VECTOR,   /* sign bits of the elements of vector register mask_reg */
    BT_MASK_K,        /* bits of opmask register mask_reg */
    BT_MASK_K_ANY,    /* all of the operand if any bit is set (broadcast) */
    BT_MASK_K_PACKED, /* as many elements from the first one as bits are set (compress, expand) */
};

/*
 * The plan: everything that tells one stub from another. Compared as memory: no padding.
 */
struct bt_plan {
    uint8_t bytes[15]; /* rewritten for 64-bit mode and our registers */
    uint8_t len;
    uint16_t load,
        store;          /* guest registers (bit = enum x86_gpr) taken from and put into c->s.gpr */
    uint16_t flags_out; /* arithmetic flags that it writes or leaves undefined */
    uint16_t mem_size;  /* bytes of the memory operand, 0: none */
    uint16_t fop;       /* x87: the opcode as FOP records it */
    uint8_t flags_in;   /* reads arithmetic flags, or may leave some as they were */
    uint8_t alias;      /* host register in RSP's place */
    uint8_t mem_reg;    /* host register that points at the memory operand */
    uint8_t cpu_reg;    /* host register that points at struct bt_cpu */
    uint8_t align;      /* alignment of the memory operand, minus 1 */
    uint8_t access;     /* BT_ACCESS_* */
    uint8_t class;      /* enum bt_fpu_class or BT_CLASS_* */
    uint8_t waits;      /* reports a pending x87 exception */
    uint8_t x87;        /* BT_X87_* */
    uint8_t control;    /* may change the x87 control word */
    uint8_t mask_kind, mask_reg, element_size;
    uint8_t vector_reg; /* gather: destination; scatter: source */
    uint8_t index_reg, index_size;
    uint8_t vector_size; /* in bytes */
    uint8_t evex;
    uint8_t count; /* elements */
    uint8_t vl;    /* vector length in bytes */
};

struct bt_native_result {
    uint64_t flags, fsw;
};
typedef struct bt_native_result bt_native_entry(struct bt_cpu *c, void *mem, uint64_t flags);
struct bt_native {
    struct bt_plan plan;
    struct bt_native *next;
    const uint8_t *code; /* a bt_native_entry; NULL: not compiled */
    uint16_t insn_off;   /* of the instruction itself in the stub, */
    uint16_t abort_off;  /* of what follows its stores */
};

enum { BT_NATIVE_HASH = 1024, BT_NATIVE_MAX = 16384 };

/* A vCPU's share: stubs, FPU bookkeeping. */
struct bt_fpu {
    /* bt_stub.c's */
    struct bt_native *hash[BT_NATIVE_HASH];
    struct bt_native
        *old; /* plans of the generation before: one block being decoded may still name them */
    unsigned n;
    uint8_t *code_w; /* bt_exec.h */
    const uint8_t *code_x;
    size_t used;

    /* The instruction under execution; read by the signal handler of the same thread. */
    const uint8_t *volatile run_at, *volatile run_abort;
    volatile int trap; /* -1, or the host's trap number */

    /* bt_fpu.c's */
    uint64_t mask;       /* XCR0 components that live in registers */
    uint32_t mxcsr_mask; /* bits of MXCSR that exist */
    unsigned
        fip_bits; /* that an x87 instruction pointer has; those above are copies of its highest */
    uint16_t offset[16]; /* of XSAVE components in the standard format */
    uint16_t size[16];
    uint16_t align64; /* components that start at a multiple of 64 in the compacted format */
    uint64_t fdp;     /* x87 data pointer, the guest's, */
    uint16_t fop;     /* and opcode; the instruction pointer is bt_cpu.fip */
    bool fdp_always;  /* the host's (and so the guest's) FDP moves with every memory operand */
    _Alignas(64) uint8_t host[576]; /* control state of the host, XSAVE format */
    _Alignas(64) uint8_t bounce[BT_BOUNCE_SIZE];
    uint8_t page[PAGE_SIZE]; /* XSAVE areas on their way from and to the guest */
};

/* The vCPU's struct bt_fpu. Before the sandbox closes. */
must_check int bt_native_init(struct bt_cpu *c, struct err *e);
void bt_native_fini(struct bt_cpu *c);

/* --- bt_isa.c --- */
/* May this guest use the instruction? *class: what it needs of the FPU. */
bool bt_isa_allowed(const struct bt_cpu *c, const ZydisDecodedInstruction *z, uint8_t *class);

/* --- bt_stub.c --- */
must_check int bt_stub_init(const struct vm *vm, struct bt_fpu *f, struct err *e);
void bt_stub_fini(struct bt_fpu *f);
/* The one struct bt_native of the plan; NULL: out of memory. */
struct bt_native *bt_stub_get(struct bt_cpu *c, const struct bt_plan *p);
/* Makes n->entry; the buffer is flushed if it is full. */
void bt_stub_compile(struct bt_fpu *f, struct bt_native *n);
/*
 * Rewrites the instruction's bytes into p->bytes: registers as p says, memory operand at [p->mem_reg].
 * false: cannot be done.
 */
bool bt_stub_rewrite(struct bt_plan *p, const uint8_t *bytes, const ZydisDecodedInstruction *z,
                     const ZydisDecodedOperand *ops);
/* Is VEX.W the width of a general register, or of the memory operand in its place? */
bool bt_stub_w_is_gpr(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops);

/* --- bt_native.c --- */
/* The number (enum x86_gpr) of a general register of any width, or BT_NATIVE_NO_REG. */
unsigned bt_native_gpr(ZydisRegister reg);
/* Is that all there is to the instruction: its memory operand is accessed as a whole? */
bool bt_native_is_plain(bt_op *op);
/* Or is it that and a mask, so that it is plain where all of the operand can be accessed? (bt_mask.c) */
bool bt_mask_is_contiguous(bt_op *op);
/* Runs in->native with its memory operand at mem. 0 or BT_FAULT. */
int bt_native_run(struct bt_cpu *c, const struct bt_insn *in, void *mem);
/* Linear address of in's memory operand, checked for an access of len bytes. 0 or BT_FAULT. */
int bt_native_linear(struct bt_cpu *c, const struct bt_insn *in, unsigned len, bool write,
                     uint64_t *lin);
/* Must in's memory operand be aligned, and is not? Comes before the address itself is checked. */
bool bt_native_misaligned(struct bt_cpu *c, const struct bt_insn *in);
/* Could all of [lin, lin+len) be written? 0 or BT_FAULT. */
int bt_native_probe(struct bt_cpu *c, uint64_t lin, unsigned len);

/* --- bt_fpu.c --- */
must_check int bt_fpu_init(struct bt_cpu *c, struct err *e);
int bt_native_check(struct bt_cpu *c, unsigned class); /* bt_fpu_check() and BT_CLASS_* */
/* x87 pointers after an instruction with plan.x87; fsw: the status word it left. */
void bt_fpu_record(struct bt_cpu *c, const struct bt_insn *in, uint64_t fsw);
/* The x87 control word may have been changed by what ran on the host. */
void bt_fpu_control_changed(struct bt_cpu *c);
/* BT_KEY_X87, or 0. */
uint32_t bt_fpu_key(const struct bt_cpu *c);
/* s.xsave becomes exact; the registers stay as they are. */
void bt_fpu_sync(struct bt_cpu *c);
/*
 * A waiting x87 or MMX instruction has met a fault of its operand (BT_FAULT, recorded; cr2: as it was before):
 * an exception that is pending in the x87 goes first. BT_FAULT.
 */
int bt_fpu_pending_first(struct bt_cpu *c, uint64_t cr2);
/* The x87 exceptions that are pending and not masked (the bits of FSW). */
unsigned bt_fpu_excepted(struct bt_cpu *c);
/* Keeps the FPU state (in bt_fpu.page), and goes back to it. */
void bt_fpu_backup(struct bt_cpu *c);
void bt_fpu_restore(struct bt_cpu *c);
/* The guest's x87 pointers. */
void bt_fpu_set_pointers(struct bt_cpu *c, uint64_t fip, uint64_t fdp, uint16_t fop);
/* bt_fpu_store(), and components that are in their initial state are written out as such. */
void bt_fpu_normalize(struct bt_cpu *c);
/* Runs a stub; a host exception inside it becomes the guest's. 0 or BT_FAULT. */
int bt_fpu_call(struct bt_cpu *c, const struct bt_native *n, void *mem, struct bt_native_result *r);

/* --- operations that need more than a stub --- */
bt_op *bt_mask_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                      struct bt_plan *p);
bt_op *bt_mask_zero_lookup(const ZydisDecodedInstruction *z);
bt_op *bt_x87env_lookup(const ZydisDecodedInstruction *z, struct bt_plan *p);
bt_op *bt_xsave_lookup(const ZydisDecodedInstruction *z, struct bt_insn *in);

#endif
