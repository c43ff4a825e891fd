/*
 * bt_jit_insn.h: between the parts of the translator: an instruction as it is emitted, and a unit in the
 * making. vCPU thread.
 */
#ifndef ACCEL_BT_BT_JIT_INSN_H
#define ACCEL_BT_BT_JIT_INSN_H

#include "accel/bt/bt_decode.h"
#include "accel/bt/bt_emit.h"
#include "accel/bt/bt_jit.h"
#include "accel/bt/bt_native.h"

enum bt_jit_kind {
    BT_JIT_RAW,    /* emitted as itself */
    BT_JIT_NOP,    /* nothing to emit */
    BT_JIT_INTERP, /* left to the interpreter */
    BT_JIT_LEAVE,  /* the same, and nothing follows it: it may change the mode */
    BT_JIT_LEA,
    BT_JIT_PUSH, /* of a register or an immediate */
    BT_JIT_POP,  /* to a register but RSP */
    BT_JIT_LEAVEQ,
    BT_JIT_STRING,   /* cc: enum bt_jit_string; MOVS and STOS perhaps with REP */
    BT_JIT_BITS,     /* BT and its kin: memory, register */
    BT_JIT_PUSH_MEM, /* of a memory operand */
    BT_JIT_SYS,      /* cc: enum bt_jit_sys */
    BT_JIT_JCC,
    BT_JIT_LOOP, /* and JRCXZ; cc: enum bt_jit_loop */
    BT_JIT_JMP,
    BT_JIT_CALL,
    BT_JIT_JMP_IND,
    BT_JIT_CALL_IND,
    BT_JIT_RET,
};

enum bt_jit_loop { BT_JIT_LOOP_ANY, BT_JIT_LOOP_E, BT_JIT_LOOP_NE, BT_JIT_RCXZ };

enum bt_jit_string { BT_JIT_STOS, BT_JIT_MOVS, BT_JIT_LODS, BT_JIT_SCAS, BT_JIT_CMPS };

enum bt_jit_sys {
    BT_JIT_CLD,
    BT_JIT_STD,
    BT_JIT_CLI,
    BT_JIT_STI,
    BT_JIT_PUSHF,
    BT_JIT_SWAPGS,
    BT_JIT_CLAC,
    BT_JIT_STAC,
    BT_JIT_RDTSC,
    BT_JIT_RDTSCP,
};

enum { BT_JIT_NO_REG = BT_NATIVE_NO_REG };

/* A general register in a field of the instruction. */
struct bt_jit_slot {
    uint8_t reg; /* BT_JIT_NO_REG: the field holds none */
    bool load, store;
    bool high; /* AH, CH, DH, BH: reg is 0 to 3 */
    bool byte; /* its low byte */
};
enum { BT_JIT_SLOT_REG, BT_JIT_SLOT_RM, BT_JIT_SLOT_VVVV, BT_JIT_SLOT_OP, BT_JIT_SLOTS };

enum { BT_JIT_LEGACY, BT_JIT_VEX, BT_JIT_EVEX };

struct bt_jit_insn {
    const uint8_t *bytes;
    uint16_t off; /* from the start of the page */
    uint8_t len;
    uint8_t kind; /* enum bt_jit_kind */

    /* How it is encoded */
    uint8_t encoding; /* BT_JIT_LEGACY ... */
    uint8_t prefix;   /* at: REX, VEX or EVEX if there is one */
    uint8_t opcode;   /* at */
    uint8_t modrm;    /* at; 0: none */
    uint8_t imm;      /* at; len: none */
    bool p66, lock;
    uint8_t rep; /* F2, F3 or 0 */
    uint8_t rex; /* its byte or 0 */

    uint8_t own[16]; /* `bytes` if they are not the guest's: what means the same in 64-bit code */
    uint8_t word;    /* bytes of an address and of a push: 8, in 32-bit code 4 */

    uint8_t size; /* of the operand, in bytes */
    uint8_t cc;
    int64_t value; /* immediate; branch: displacement */
    struct bt_jit_slot slot[BT_JIT_SLOTS];

    /* Memory operand */
    bool mem, mem_read, mem_write;
    uint8_t asize, seg, base, index, scale; /* as in struct bt_insn */
    uint16_t mem_size;
    int32_t disp;

    uint16_t writes;                             /* general registers that it changes */
    uint16_t flags_use, flags_def, flags_change; /* read; set for sure; perhaps changed */
    bool fpu;    /* the guest's FPU state must be in the registers */
    bool faults; /* the host may fault on it */
    bool x87;    /* moves FIP */

    bool
        high_swap; /* AH, CH, DH or BH beside memory: [T0] needs REX, with which they have no name */
    bool fldcw;    /* is the host's to do if it masks all exceptions */
    bool crosses;  /* its end is in the next page */

    /* bt_jit_plan.c */
    uint16_t need; /* flags that must be right before it */
    uint16_t need_after;
    bool leader; /* the first access of a group: checks [group_lo, group_lo + group_size) */
    bool member; /* at T0 + (its address - group_lo) */
    bool group_write;
    uint8_t group_count; /* instructions from the leader to the last member */
    uint16_t group_size;
    int32_t group_lo;  /* from the base register as it is at the leader */
    int32_t group_off; /* of a member: from group_lo */
};

enum { BT_JIT_INSNS = 64 };

/* Where the arithmetic flags are; several may hold. None: nobody needs them. */
enum { BT_JIT_FL_HOST = BIT(0), BT_JIT_FL_SAVED = BIT(1), BT_JIT_FL_RECIPE = BIT(2) };

/* An instruction without other effect that gives the flags again, from registers as they are now. */
struct bt_jit_recipe {
    enum { BT_JIT_CMP, BT_JIT_TEST, BT_JIT_ADD, BT_JIT_SUB } op;
    uint8_t size;
    uint8_t a, b; /* guest registers; b BT_JIT_NO_REG: value */
    int32_t value;
};

/* Late code: emitted apart from the unit. */
struct bt_jit_late {
    enum { BT_JIT_LATE_POINT, BT_JIT_LATE_EXIT, BT_JIT_LATE_STACK } kind;
    uint8_t *jump;       /* its rel32 leads here; NULL: a host fault does */
    uint8_t *fault;      /* or the host instruction that may fault, in the buffer */
    uint32_t number;     /* of the point or exit */
    const uint8_t *back; /* LATE_STACK: where to go on with the host's address in T0 */
    uint16_t size;       /* and the bytes of the access */
    bool write;
    uint8_t flags; /* BT_JIT_FL_* at the jump */
    bool missed;   /* T0 is the address XOR the tag at T1 + tag of the soft TLB */
    int8_t tag;
    struct bt_jit_recipe recipe;
};

enum { BT_JIT_LATE = 4 * BT_JIT_INSNS };

/* A unit in the making. */
struct bt_jit_scratch {
    struct bt_jit_insn insn[BT_JIT_INSNS];
    uint8_t bytes[(BT_JIT_INSNS + 1) * BT_INSN_MAX];
    struct bt_jit_late late[BT_JIT_LATE];
};

/* The page that the last instruction of a unit ends in. */
struct bt_jit_next {
    const uint8_t *hva; /* of the page */
    const struct bt_code_page *page;
    uint32_t version; /* with which its bytes were read */
};

struct bt_jit_gen {
    struct bt_emit e; /* writes to the writable mapping */
    struct bt_cpu *c;
    struct bt_jit *j;
    struct bt_jit_unit *u;
    struct bt_jit_insn *insn;
    unsigned n, n_late;
    unsigned flags; /* BT_JIT_FL_* here */
    struct bt_jit_recipe recipe;
    uint32_t group_point;
    unsigned group_left; /* instructions, until it goes on after that point */
    int32_t rsp_by;      /* what RSP is yet to be moved by */
    struct bt_jit_next next;
    const struct bt_jit_insn
        *sheltered;   /* without a safepoint: STI holds interrupts off until behind it */
    uint32_t entered; /* the offset in the buffer behind the entries */
    bool full;        /* a table overflowed: the unit is dropped */
};

/* 64-bit code? Else addresses and the stack's words have 32 bits. */
static inline bool bt_jit_wide(const struct bt_jit_gen *g)
{
    return g->c->code_size == 8;
}

static inline bool bt_jit_in_memory(unsigned r)
{
    return r == X86_R10 || r == X86_R11 || r == X86_R14 || r == X86_R15;
}

/* The host register of a guest register that has one. */
static inline unsigned bt_jit_host(unsigned r)
{
    return r == X86_RSP ? (unsigned)BT_JIT_RSP : r;
}

static inline uint32_t bt_jit_here(const struct bt_jit_gen *g)
{
    return (uint32_t)(g->e.p - g->j->w);
}

/* --- bt_jit_decode.c --- */
/* Decodes one instruction; false: bytes[0..n) does not hold all of it, or it cannot be decoded. */
bool bt_jit_decode(struct bt_cpu *c, const uint8_t *bytes, unsigned n, struct bt_jit_insn *in);

/* --- bt_jit_x87.c --- */
/* Fills in what an instruction that the host runs as itself needs of the FPU. false: left to the interpreter. */
bool bt_jit_x87_decode(const struct bt_cpu *c, const struct bt_plan *p, struct bt_jit_insn *in);
/*
 * FLDCW: the control word at [T0 + disp] masks all exceptions; else in is the interpreter's, at the point that is
 * returned. T1 and EFLAGS are lost.
 */
uint32_t bt_jit_x87_masked(struct bt_jit_gen *g, const struct bt_jit_insn *in, int32_t disp);
/* After in's own code: FIP is its address. */
void bt_jit_x87_record(struct bt_jit_gen *g, const struct bt_jit_insn *in);

/* --- bt_jit_code32.c --- */
/* May an instruction of 32-bit code whose fields are known access memory as it does in 64-bit code? */
bool bt_jit_code32_mem(const struct bt_cpu *c, const struct bt_jit_insn *in);
/* Gives it bytes that mean the same in 64-bit code. false: it is left to the interpreter. */
bool bt_jit_code32_bytes(struct bt_jit_insn *in, const ZydisDecodedInstruction *z,
                         const ZydisDecodedOperand *ops);

/* --- bt_jit_plan.c --- */
/* apart: each access has a check of its own. */
void bt_jit_plan(struct bt_jit_insn *insn, unsigned n, bool apart);
/* The flags that the unit needs from before it are gone after these: what its entry is like. */
unsigned bt_jit_first_flags(const struct bt_jit_insn *insn, unsigned n);

/* --- bt_jit_flags.c --- */
void bt_jit_flags_save(struct bt_jit_gen *g);    /* into frame.flags */
void bt_jit_flags_host(struct bt_jit_gen *g);    /* into EFLAGS; uses T1 */
void bt_jit_flags_clobber(struct bt_jit_gen *g); /* EFLAGS are about to be lost */
/* Emits the recipe: EFLAGS are the guest's; uses T1. */
void bt_jit_flags_cook(struct bt_emit *e, const struct bt_jit_recipe *r);
/* Before and after in's own code. */
void bt_jit_flags_before(struct bt_jit_gen *g, const struct bt_jit_insn *in);
void bt_jit_flags_after(struct bt_jit_gen *g, const struct bt_jit_insn *in);

/* --- bt_jit_mem.c --- */
/* Guest register r in a host register: its own, or loaded into scratch. */
unsigned bt_jit_reg(struct bt_jit_gen *g, unsigned r, unsigned scratch);
void bt_jit_load_gpr(struct bt_emit *e, unsigned scratch, unsigned r);
void bt_jit_store_gpr(struct bt_emit *e, unsigned r, unsigned scratch);
/*
 * Host registers for in's slots but `skip`: their own, or T1 and, if that is not enough, T0 for those that live
 * in memory.
 */
void bt_jit_slot_hosts(const struct bt_jit_insn *in, unsigned skip, unsigned host[BT_JIT_SLOTS]);
/* The linear address at off from the start of the unit's page into reg. */
void bt_jit_rip(struct bt_jit_gen *g, unsigned reg, int32_t off);
/* The linear address of in's memory operand, plus extra, into T0. */
void bt_jit_ea(struct bt_jit_gen *g, const struct bt_jit_insn *in, int32_t extra);
/* Into a host register; T0 and T1 may be lost. */
void bt_jit_ea_to(struct bt_jit_gen *g, const struct bt_jit_insn *in, int32_t extra, unsigned to);
/*
 * T0: a linear address, becomes the host's of `size` bytes there; count instructions from in on are left to
 * the interpreter if it cannot. EFLAGS and T1 are lost. resume: the number of the point, to be completed
 * with bt_jit_resume().
 */
uint32_t bt_jit_lookup(struct bt_jit_gen *g, const struct bt_jit_insn *in, unsigned count,
                       unsigned size, bool write, const uint8_t *retry);
/* The same for an access near RSP, which is likely to be in the page of the stack. */
uint32_t bt_jit_lookup_stack(struct bt_jit_gen *g, const struct bt_jit_insn *in, unsigned count,
                             unsigned size, bool write, const uint8_t *retry);
/*
 * The host address of in's memory operand in T0 + *disp. Returns the point to resume behind in, or 0 if it
 * is a member of a group (whose leader checks for all, and which is resumed as a whole).
 */
uint32_t bt_jit_operand(struct bt_jit_gen *g, const struct bt_jit_insn *in, int32_t *disp);

/* --- bt_jit_gen.c --- */
uint32_t bt_jit_new_point(struct bt_jit_gen *g, const struct bt_jit_insn *in, unsigned count);
struct bt_jit_late *bt_jit_new_late(struct bt_jit_gen *g, unsigned kind, uint32_t number);
/* Translated code that called the point goes on here. */
void bt_jit_resume(struct bt_jit_gen *g, uint32_t point);
/* Calls C with frame.id; the flags are saved. */
void bt_jit_call(struct bt_jit_gen *g, uint32_t id);
/* The interpreter does in, here and now. */
void bt_jit_interp(struct bt_jit_gen *g, const struct bt_jit_insn *in, bool leave);
/* jcc rel32 (or jmp: cc BT_JIT_ALWAYS) to be filled in; returns the rel32's place. */
enum { BT_JIT_ALWAYS = 16 };
uint8_t *bt_jit_jump(struct bt_jit_gen *g, unsigned cc);
void bt_jit_set_rel(uint8_t *rel, const uint8_t *to);

/* --- bt_jit_string.c --- */
void bt_jit_string(struct bt_jit_gen *g, const struct bt_jit_insn *in);
void bt_jit_bits(struct bt_jit_gen *g, const struct bt_jit_insn *in);
void bt_jit_push_mem(struct bt_jit_gen *g, const struct bt_jit_insn *in);

/* --- bt_jit_sys.c --- */
/* next: the instruction behind it in the unit, or NULL. */
void bt_jit_sys(struct bt_jit_gen *g, const struct bt_jit_insn *in, const struct bt_jit_insn *next);

/* in crosses into g->next: goes to the interpreter if that is not what is there any more. Returns the point. */
uint32_t bt_jit_guard(struct bt_jit_gen *g, const struct bt_jit_insn *in);

/* --- bt_jit_branch.c --- */
/* Faults if the vCPU was kicked: then the run loop is entered before `in`. Uses T1, no flags. */
void bt_jit_safepoint(struct bt_jit_gen *g, const struct bt_jit_insn *in);
void bt_jit_branch(struct bt_jit_gen *g, const struct bt_jit_insn *in);
/* Goes on at off from the start of the page. */
void bt_jit_exit_to(struct bt_jit_gen *g, int32_t off);
void bt_jit_late_emit(struct bt_jit_gen *g);

#endif
