/*
 * bt.h: the binary translator's processor: what its files share. Interpreter today; block lookup, soft
 * TLB and instruction records are shaped so that translated code can use the same structures.
 *
 * Threads: a struct bt_cpu belongs to its vCPU thread, except `kick` and the flush request mailbox.
 *
 * Control flow inside: an operation returns 0 (go on with the next instruction) or one of enum bt_ret.
 * A fault is recorded with bt_raise*() and BT_FAULT is returned up; the run loop delivers it. Nothing is
 * committed to architectural state before the last access that can fault (string instructions commit per
 * iteration), so c->s is exact whenever a fault is delivered.
 */
#ifndef ACCEL_BT_BT_H
#define ACCEL_BT_BT_H

#include "accel/accel.h"
#include "vm/exit.h"
#include "vm/vcpu.h"
#include "vm/vm.h"

enum bt_ret {
    BT_NEXT = 0, /* fall through to the next instruction */
    BT_JUMP,     /* c->s.rip was set: look the next block up */
    BT_FAULT,    /* c->s.exception_* was set: deliver at the current instruction */
    BT_TRAP, /* as BT_FAULT, but c->s.rip was already moved past the instruction (#DB, INT3, INTO) */
    BT_HALT, /* HLT: c->s.rip moved past, mp_state set */
    BT_EXIT, /* leave the run loop: c->exit says why */
};

/*
 * Soft TLB entry: one compare decides. tag_X is the page's linear address if an access of kind X may go
 * straight to memory, else bt_tlb_none(). Writes to pages that hold translated code, are not yet
 * dirty-logged, or need their D bit set have no tag_w and take the slow path.
 *
 * Translated code computes lin ^ tag, which is the offset in the page on a hit and at least a page
 * otherwise: so the tag that no access has must differ from the entry's own addresses above bit 12.
 */
struct bt_tlb_entry {
    uint64_t tag_r, tag_w, tag_x;
    uint64_t page; /* the page's host address */
};
enum {
    BT_TLB_BITS = 12,
    BT_TLB_SIZE = 1 << BT_TLB_BITS,
};

/* The tag of no access: bit 12 is not the one of the addresses that e is for (tables are aligned to 64). */
static inline uint64_t bt_tlb_none(const struct bt_tlb_entry *e)
{
    return ~0ull ^ ((uintptr_t)e & sizeof(*e) ? PAGE_SIZE : 0u);
}

static inline bool bt_tlb_is_none(uint64_t tag)
{
    return tag & ~PAGE_MASK;
}

/* Host address of lin, which hits e. */
static inline uint64_t bt_tlb_hva(const struct bt_tlb_entry *e, uint64_t lin)
{
    return e->page + (lin & ~PAGE_MASK);
}

/* Access contexts: each has its own TLB so that CPL and SMAP changes switch a pointer. */
enum bt_mmu { BT_MMU_USER, BT_MMU_SUPER, BT_MMU_SUPER_AC /* SMAP off or AC set */, BT_MMU_COUNT };

struct bt_cpu;
struct bt_insn;
struct bt_block;
struct bt_native; /* an instruction compiled to run as itself on the host (bt_native.h) */
typedef int bt_op(struct bt_cpu *c, const struct bt_insn *in);

enum { BT_REG_NONE = 16, BT_REG_RIP = 17 };
enum { /* bt_insn.prefix */
       BT_LOCK = BIT(0),
       BT_REP = BIT(1),
       BT_REPNE = BIT(2),
       BT_REX = BIT(3),
};

/*
 * A decoded instruction. Registers are numbers of enum x86_gpr (for size 1 without REX, 4 to 7 mean AH,
 * CH, DH, BH); for control, debug and segment registers the number of that register.
 */
struct bt_insn {
    bt_op *op;
    uint16_t off; /* from the block's first byte; bt_rip(c, in) gives the address */
    uint8_t len;
    uint8_t size;               /* operand size in bytes: 1, 2, 4, 8 */
    uint8_t asize;              /* address size in bytes: 2, 4, 8 */
    uint8_t prefix;             /* BT_LOCK ... */
    uint8_t reg;                /* ModRM.reg (with REX) or the opcode's register */
    uint8_t rm;                 /* ModRM.rm's register; BT_REG_NONE if the operand is in memory */
    uint8_t seg;                /* effective segment of the memory operand, enum x86_sreg */
    uint8_t base, index, scale; /* scale 1, 2, 4, 8; BT_REG_NONE, BT_REG_RIP */
    int32_t disp;
    int64_t imm; /* immediate, sign-extended; branch: displacement; far pointer: offset */
    union {
        uint64_t imm2; /* far pointer: selector; ENTER: nesting level; cc and other small codes */
        struct bt_native *native;
    };
};

/* bt_split.c's: a LOCKed operand across two cache lines of RAM, between its read and its write. */
struct bt_split {
    uint64_t *word[2]; /* the aligned words on both sides; NULL: no such operand is under way */
    uint64_t old[2];   /* what was read there */
    unsigned shift;    /* of the operand's first byte in word[0], in bits */
    bool retry;        /* somebody came between: the instruction runs again */
};

struct bt_cpu {
    struct x86_state s; /* first: registers are near the structure's start */

    /* Derived from s by bt_mode_changed(); what decoding and fast paths look at. */
    uint8_t code_size;  /* 2, 4 or 8: default mode of CS */
    uint8_t stack_size; /* 2, 4 or 8: width of the stack pointer */
    uint8_t cpl;
    uint8_t mmu; /* enum bt_mmu of ordinary data accesses */
    bool flat;   /* long mode: CS, DS, ES, SS have no base and no limit */
    bool long_mode, paging;

    struct vcpu *vcpu;
    struct vm *vm;
    struct physmap *mem;
    atomic_bool kick;             /* any thread: leave the run loop at the next block */
    enum run_exit exit;           /* with BT_EXIT */
    const struct bt_block *block; /* under execution */
    uint64_t block_rip;           /* its first instruction's RIP (offset in CS) */
    uintptr_t stack_bound;        /* bt_block.h: below it no block chains to another */
    bool single;                  /* bt_step_one(): stop after one instruction */
    bool fpu_live;     /* s.xsave is stale: the guest's FPU state is in the host's registers */
    bool fpu_masked;   /* all x87 exceptions are, in the state that was loaded last */
    bool event_window; /* interrupts may have become deliverable: look before the next block */
    bool nmi_check;    /* an NMI may have come since it was looked for */
    bool
        intr_check; /* the APIC may have one: kicked, or its registers were accessed, since it was asked */
    bool debugged; /* by a debugger outside of the guest (bt_debugger.c): stay in the interpreter */
    bool debug_step, debug_hit; /* it wants one instruction; one of its watchpoints was hit */
    unsigned debug_version;     /* of its list of points, as decoded blocks and TLB know it */
    uint8_t db_pending; /* DR6 bits 0 to 3 of data breakpoints hit by this instruction (bt_sys.h) */
    uint64_t fip;       /* x87 instruction pointer, the guest's (bt_fpu.c) */
    uint64_t tsc_offset; /* guest TSC = host RDTSC + this, while in the run loop (bt_sys.h) */

    struct bt_tlb_entry *tlb; /* [BT_MMU_COUNT][BT_TLB_SIZE], of the current address space */
    struct bt_mem *mem_priv;  /* bt_tlb.c's: PCID sets, flush mailbox */
    struct bt_cache *cache;   /* bt_block.c's: decoded blocks by physical address */
    struct bt_fpu *fpu;       /* bt_native.c's */
    struct bt_forms *forms;   /* bt_form.c's: what decoding made of instructions */
    struct bt_jit *jit;       /* bt_jit.c's; NULL: the interpreter alone */
    uint64_t host_xcr0;
    uint64_t insns;    /* retired, approximately: statistics */
    uint32_t code_key; /* mode of decoded blocks, by bt_mode_changed() */
    bool decode_one;   /* bt_block.c's: the block being decoded has a single instruction */
    _Alignas(16)
        uint64_t bounce[2]; /* bt_access.h: operand of a read-modify-write that is not plain RAM */
    struct bt_split split;
};

static inline uint64_t bt_rip(const struct bt_cpu *c, const struct bt_insn *in)
{
    return c->block_rip + in->off;
}

/*
 * --- bt_mode (bt_run.c): after any change to CS, SS, CPL, CR0, CR4, EFER, RFLAGS.{AC,VM,IF,TF}; outside of
 * 64-bit code also to DS, ES, FS, GS ---
 */
void bt_mode_changed(struct bt_cpu *c);
/* Moves RIP past `in` (32 bits of it outside 64-bit code); for operations that return BT_JUMP, BT_TRAP, BT_HALT. */
void bt_skip(struct bt_cpu *c, const struct bt_insn *in);

/* --- faults (bt_event.c) --- */
int bt_raise(struct bt_cpu *c, unsigned vector);                     /* BT_FAULT */
int bt_raise_err(struct bt_cpu *c, unsigned vector, uint32_t error); /* BT_FAULT */
int bt_raise_pf(struct bt_cpu *c, uint64_t lin, uint32_t error);     /* sets CR2; BT_FAULT */
/* Delivers s.exception_*; goes through #DF to triple fault. 0, or BT_EXIT with c->exit = RUN_SHUTDOWN. */
int bt_deliver_exception(struct bt_cpu *c);
/*
 * Between instructions: NMI, then maskable interrupt if IF and no shadow is set. The run loop itself runs
 * the one instruction under a shadow, clears the shadow, and raises the #DB of TF. 0, or BT_EXIT.
 */
int bt_deliver_events(struct bt_cpu *c);
enum bt_event_kind { BT_EV_EXCEPTION, BT_EV_SOFT_INT, BT_EV_ICEBP, BT_EV_HW };
/* Through the IDT or IVT of the current mode; s.rip is the return address. 0, or BT_FAULT (nested). */
int bt_interrupt(struct bt_cpu *c, unsigned vector, enum bt_event_kind kind, bool has_error,
                 uint32_t error);

/* --- memory (bt_tlb.c): 0 or BT_FAULT; size 1, 2, 4, 8 --- */
/* Segmented address to linear, with limit, type and canonical checks of an access of len bytes. */
int bt_linear(struct bt_cpu *c, unsigned seg, uint64_t off, unsigned len, bool write,
              uint64_t *lin);
int bt_read(struct bt_cpu *c, unsigned seg, uint64_t off, unsigned size, uint64_t *val);
int bt_write(struct bt_cpu *c, unsigned seg, uint64_t off, unsigned size, uint64_t val);
/* Linear addresses, with the privileges of mmu (descriptor tables, TSS: BT_MMU_SUPER_AC). */
int bt_lin_read(struct bt_cpu *c, uint64_t lin, unsigned size, uint64_t *val, enum bt_mmu mmu);
int bt_lin_write(struct bt_cpu *c, uint64_t lin, unsigned size, uint64_t val, enum bt_mmu mmu);
/* Any length up to a page, page crossings included; write: all pages are checked before a byte is written. */
int bt_lin_copy_in(struct bt_cpu *c, uint64_t lin, void *buf, unsigned len, enum bt_mmu mmu);
int bt_lin_copy_out(struct bt_cpu *c, uint64_t lin, const void *buf, unsigned len, enum bt_mmu mmu);
/*
 * The host address of [lin, lin+len) for reading or (write) reading and writing, if it lies in one page of
 * plain RAM; *hva = NULL if it is MMIO or crosses a page (use the copying calls). 0 or BT_FAULT.
 */
int bt_lin_ptr(struct bt_cpu *c, uint64_t lin, unsigned len, bool write, enum bt_mmu mmu,
               void **hva);
/* Effective address of in's memory operand (offset in its segment, wrapped to asize). */
uint64_t bt_ea(struct bt_cpu *c, const struct bt_insn *in);
/* Push and pop with the stack size of the mode. bt_pop() leaves RSP alone: bt_stack_add() (bt_sys.h) commits. */
int bt_push(struct bt_cpu *c, unsigned size, uint64_t val);
int bt_pop(struct bt_cpu *c, unsigned size, uint64_t *val);
/*
 * Translates lin for execution at the current privilege and enters it with tag_x into the TLB of c->mmu.
 * *hva: its host address, NULL if it is not RAM. 0, or BT_FAULT (#PF with PF_I as CR4 and EFER say).
 */
int bt_fetch(struct bt_cpu *c, uint64_t lin, uint64_t *gpa, uint8_t **hva);
/* Translation without side effects on success beyond A/D bits; 0 and *gpa, or BT_FAULT. */
int bt_translate(struct bt_cpu *c, uint64_t lin, uint32_t pf_access, enum bt_mmu mmu,
                 uint64_t *gpa);

/* --- TLB maintenance (bt_tlb.c); each also leaves the current block if code mappings may have changed --- */
void bt_tlb_flush_all(struct bt_cpu *c);                /* everything, globals included */
void bt_tlb_flush_nonglobal(struct bt_cpu *c);          /* current PCID */
void bt_tlb_flush_page(struct bt_cpu *c, uint64_t lin); /* INVLPG */
void bt_tlb_invpcid(struct bt_cpu *c, unsigned type, uint16_t pcid, uint64_t lin);
void bt_tlb_set_cr3(struct bt_cpu *c, uint64_t cr3); /* MOV CR3 with PCID and its bit 63 */
/*
 * The page of gpa now holds decoded code and has its bit in ram_region.code: no vCPU may keep a tag_w for
 * it. Drops it here at once, elsewhere by mailbox and kick; each mailbox calls bt_code_recheck().
 */
void bt_tlb_protect(struct bt_cpu *c, uint64_t gpa);

/* --- decoded code (bt_block.c) --- */
/*
 * After a write to a page whose bit in ram_region.code is set. A vCPU's own writes come through
 * bt_code_store(), so that the rest of the block under execution is dropped with it; where the write is
 * still to come (bt_lin_ptr()), both before it and after it (bt_mem_settle()). Devices'
 * come through physmap.code_written. Clears the code bit if no code is left in the page.
 */
void bt_code_store(struct bt_cpu *c, uint64_t gpa, unsigned len);
void bt_code_written(struct vm *vm, uint64_t gpa, uint64_t len);
/* The page of gpa may have been written through a stale tag_w: compare its blocks before they run again. */
void bt_code_recheck(struct vm *vm, uint64_t gpa);

/* bt_deliver_events() would do nothing. */
static inline bool bt_events_quiet(const struct bt_cpu *c)
{
    return !c->s.exception_pending && !c->s.interrupt_pending && !c->s.nmi_pending &&
           !c->nmi_check && !(c->intr_check && (c->s.rflags & FLAG_IF));
}

/* --- FPU (bt_native.c) --- */
void bt_fpu_load(struct bt_cpu *c);  /* guest state into the host's registers, if it is not there */
void bt_fpu_store(struct bt_cpu *c); /* and back to s.xsave; before anything else may use the FPU */
/* Host exceptions on this thread are c's from now on. */
void bt_fpu_catch_for(struct bt_cpu *c);
/* #NM, #UD of CR0.EM/TS, CR4.OSFXSR, OSXSAVE/XCR0 for an instruction of the class; 0 or BT_FAULT. */
enum bt_fpu_class { BT_FPU_X87, BT_FPU_MMX, BT_FPU_SSE, BT_FPU_AVX, BT_FPU_AVX512 };
int bt_fpu_check(struct bt_cpu *c, enum bt_fpu_class class);

/* --- the interpreter as a service: kvm steps over what KVM cannot emulate (bt_run.c) --- */
struct bt_cpu *bt_cpu_create(struct vcpu *v, struct err *e);
void bt_cpu_destroy(struct bt_cpu *c);
/*
 * One instruction on *s (loaded and stored whole), or a part of one that repeats: RIP stays until its last.
 * RUN_KICKED: done; RUN_HALT, RUN_SHUTDOWN, RUN_ERROR.
 */
enum run_exit bt_step_one(struct bt_cpu *c, struct x86_state *s);

#endif
