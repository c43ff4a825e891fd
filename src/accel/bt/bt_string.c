/*
 * bt_string.c: MOVS STOS LODS SCAS CMPS with REP, REPE, REPNE.
 *
 * Registers are committed after each element, so a fault or an interrupt in the middle resumes there.
 * REP MOVS and STOS go page by page with the host's own string instruction, which has the same semantics for
 * overlapping operands; descending ones that do not overlap are copied upwards, which hosts do faster. So do
 * SCAS and CMPS that ascend.
 * vCPU thread.
 */
#include "accel/bt/bt_ops.h"
#include "accel/bt/bt_sys.h"

enum bt_string_kind { BT_MOVS, BT_STOS, BT_LODS, BT_SCAS, BT_CMPS }; /* in imm2 */

static uint64_t bt_string_mask(const struct bt_insn *in)
{
    return in->asize == 8 ? ~0ull : in->asize == 4 ? 0xffffffff : 0xffff;
}

static uint64_t bt_string_reg(const struct bt_cpu *c, const struct bt_insn *in, unsigned r)
{
    return c->s.gpr[r] & bt_string_mask(in);
}

/* RSI or RDI past n elements. */
static void bt_string_move(struct bt_cpu *c, const struct bt_insn *in, unsigned r, uint64_t n)
{
    uint64_t bytes = n * in->size;

    bt_set(c, in, r, in->asize, c->s.rflags & FLAG_DF ? c->s.gpr[r] - bytes : c->s.gpr[r] + bytes);
}

static int bt_string_read(struct bt_cpu *c, const struct bt_insn *in, unsigned r, uint64_t *v)
{
    return bt_read(c, r == X86_RSI ? in->seg : X86_ES, bt_string_reg(c, in, r), in->size, v);
}

static void bt_string_compare(struct bt_cpu *c, uint64_t a, uint64_t b, unsigned size)
{
    unsigned shift = 64 - 8 * size, ax;
    uint64_t x = a << shift, af = (a ^ b ^ (a - b)) & FLAG_AF;

    /* Compared in the upper bytes: same CF, ZF, SF, OF; PF and AF belong to the low ones. */
    __asm__("cmpq %2, %1" BT_SAVE_FLAGS : "=&a"(ax) : "r"(x), "r"(b << shift) : "cc");
    ax &= ~((unsigned)(FLAG_PF | FLAG_AF) << 8);
    ax |= (unsigned)(af | (__builtin_parity((unsigned)(uint8_t)(a - b)) ? 0 : FLAG_PF)) << 8;
    bt_set_flags(c, ax);
}

/* One element; 0 or BT_FAULT with nothing changed. */
static int bt_string_one(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t a = bt_get(c, in, X86_RAX, in->size), b;
    enum bt_string_kind kind = (enum bt_string_kind)in->imm2;

    if ((kind == BT_SCAS || kind == BT_CMPS) && bt_string_read(c, in, X86_RDI, &b))
        return BT_FAULT;
    if ((kind == BT_MOVS || kind == BT_LODS || kind == BT_CMPS) &&
        bt_string_read(c, in, X86_RSI, &a))
        return BT_FAULT;
    if ((kind == BT_MOVS || kind == BT_STOS) &&
        bt_write(c, X86_ES, bt_string_reg(c, in, X86_RDI), in->size, a))
        return BT_FAULT;
    if (kind == BT_LODS)
        bt_set(c, in, X86_RAX, in->size, a);
    if (kind == BT_SCAS || kind == BT_CMPS)
        bt_string_compare(c, a, b, in->size);
    if (kind != BT_STOS && kind != BT_SCAS)
        bt_string_move(c, in, X86_RSI, 1);
    if (kind != BT_LODS)
        bt_string_move(c, in, X86_RDI, 1);
    return 0;
}

/* How many elements from the one at lin on, or down from it, lie in its page and do not wrap. */
static uint64_t bt_string_fit(const struct bt_cpu *c, const struct bt_insn *in, uint64_t off,
                              uint64_t lin)
{
    uint64_t in_page = lin % PAGE_SIZE;

    if (bt_string_mask(in) - off < PAGE_SIZE || in_page + in->size > PAGE_SIZE)
        return 0;
    if (!(c->s.rflags & FLAG_DF))
        return (PAGE_SIZE - in_page) / in->size;
    return off < PAGE_SIZE ? 0 : in_page / in->size + 1;
}

/*
 * The host address of the lowest of as many of the n elements at register r as lie in its page, lowering *n;
 * NULL if that is none, or not plain RAM, or a fault (which the element-wise way will find again and report).
 */
static void *bt_string_ptr(struct bt_cpu *c, const struct bt_insn *in, unsigned r, bool write,
                           uint64_t *n)
{
    uint64_t off = bt_string_reg(c, in, r), lin;
    unsigned seg = r == X86_RSI ? in->seg : X86_ES;
    void *p = NULL;

    if (bt_linear(c, seg, off, in->size, write, &lin))
        return NULL;
    if (bt_debugged(c) && bt_debugger_watches(c, lin)) /* which element is it? */
        return NULL;
    *n = min_u64(*n, bt_string_fit(c, in, off, lin));
    if (*n && (c->s.rflags & FLAG_DF))
        off -= (*n - 1) * in->size;
    if (!*n || bt_linear(c, seg, off, (unsigned)*n * in->size, write, &lin) ||
        bt_lin_ptr(c, lin, (unsigned)*n * in->size, write, c->mmu, &p))
        return NULL;
    return p;
}

static void bt_string_copy(void *to, const void *from, uint64_t n, unsigned size)
{
    if (size == 8)
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    else if (size == 4)
        __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    else if (size == 2)
        __asm__ volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    else
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static void bt_string_fill(void *to, uint64_t v, uint64_t n, unsigned size)
{
    if (size == 8)
        __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(v) : "memory");
    else if (size == 4)
        __asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(v) : "memory");
    else if (size == 2)
        __asm__ volatile("rep stosw" : "+D"(to), "+c"(n) : "a"(v) : "memory");
    else
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(v) : "memory");
}

/* Downwards, element by element: to above from and overlapping it. */
static void bt_string_copy_down(uint8_t *to, const uint8_t *from, uint64_t n, unsigned size)
{
    uint64_t last = (n - 1) * size;

    to += last;
    from += last;
    if (size == 8)
        __asm__ volatile("std; rep movsq; cld" : "+D"(to), "+S"(from), "+c"(n) : : "memory", "cc");
    else if (size == 4)
        __asm__ volatile("std; rep movsl; cld" : "+D"(to), "+S"(from), "+c"(n) : : "memory", "cc");
    else if (size == 2)
        __asm__ volatile("std; rep movsw; cld" : "+D"(to), "+S"(from), "+c"(n) : : "memory", "cc");
    else
        __asm__ volatile("std; rep movsb; cld" : "+D"(to), "+S"(from), "+c"(n) : : "memory", "cc");
}

/* n elements, whose lowest addresses are given, in the direction that DF says. */
static void bt_string_movs(const struct bt_cpu *c, void *to, const void *from, uint64_t n,
                           unsigned size)
{
    uint64_t apart = (uintptr_t)to > (uintptr_t)from ? (uintptr_t)to - (uintptr_t)from
                                                     : (uintptr_t)from - (uintptr_t)to;

    if (!(c->s.rflags & FLAG_DF) || apart >= n * size)
        bt_string_copy(to, from, n, size);
    else
        bt_string_copy_down(to, from, n, size);
}

/*
 * Up to n elements at once; 0 if that cannot be done here. Descending, the lowest of the source moves up
 * where the destination's page holds fewer.
 */
static uint64_t bt_string_bulk(struct bt_cpu *c, const struct bt_insn *in, uint64_t n)
{
    enum bt_string_kind kind = (enum bt_string_kind)in->imm2;
    void *from = NULL, *to;
    uint64_t wanted;

    if (n < 2 || kind > BT_STOS || (c->s.rflags & FLAG_TF) || bt_debug_armed(c))
        return 0;
    if (kind == BT_MOVS) {
        from = bt_string_ptr(c, in, X86_RSI, false, &n);
        if (!from)
            return 0;
    }
    wanted = n;
    to = bt_string_ptr(c, in, X86_RDI, true, &n);
    if (!to)
        return 0;
    if (from && (c->s.rflags & FLAG_DF))
        from = (uint8_t *)from + (wanted - n) * in->size;
    if (kind == BT_MOVS)
        bt_string_movs(c, to, from, n, in->size);
    else
        bt_string_fill(to, c->s.gpr[X86_RAX], n, in->size);
    if (kind == BT_MOVS)
        bt_string_move(c, in, X86_RSI, n);
    bt_string_move(c, in, X86_RDI, n);
    return n;
}

#define BT_STRING_SCAN(rep, size, op)                                                              \
    case size:                                                                                     \
        __asm__ volatile(rep " " op BT_SAVE_FLAGS                                                  \
                         : "+a"(*ax), "+S"(from), "+D"(at), "+c"(n)                                \
                         :                                                                         \
                         : "memory", "cc");                                                        \
        break

#define BT_STRING_SCANS(rep, op)                                                                   \
    switch (size) {                                                                                \
        BT_STRING_SCAN(rep, 1, op "b");                                                            \
        BT_STRING_SCAN(rep, 2, op "w");                                                            \
        BT_STRING_SCAN(rep, 4, op "l");                                                            \
    default:                                                                                       \
        BT_STRING_SCAN(rep, 8, op "q");                                                            \
    }

/*
 * Compares n elements, at least one, at `at` with those at from, or if that is NULL with *ax, while they differ
 * (until: they are equal): returns how many there are behind the last one. *ax: the flags then.
 */
static uint64_t bt_string_host_scan(const void *from, const void *at, uint64_t n, unsigned size,
                                    bool until, uint64_t *ax)
{
    if (from && until) {
        BT_STRING_SCANS("repne", "cmps")
    } else if (from) {
        BT_STRING_SCANS("repe", "cmps")
    } else if (until) {
        BT_STRING_SCANS("repne", "scas")
    } else {
        BT_STRING_SCANS("repe", "scas")
    }
    return n;
}

/* SCAS and CMPS: up to n elements at once, the last of which may be the one that ends it; or 0. */
static uint64_t bt_string_scan(struct bt_cpu *c, const struct bt_insn *in, uint64_t n)
{
    bool cmps = in->imm2 == BT_CMPS;
    uint64_t ax = c->s.gpr[X86_RAX];
    const void *from = NULL, *at;

    if (n < 2 || in->imm2 < BT_SCAS || (c->s.rflags & (FLAG_TF | FLAG_DF)) || bt_debug_armed(c))
        return 0;
    if (cmps) {
        from = bt_string_ptr(c, in, X86_RSI, false, &n);
        if (!from)
            return 0;
    }
    at = bt_string_ptr(c, in, X86_RDI, false, &n);
    if (!at)
        return 0;
    n -= bt_string_host_scan(from, at, n, in->size, in->prefix & BT_REPNE, &ax);
    bt_set_flags(c, (unsigned)ax);
    if (cmps)
        bt_string_move(c, in, X86_RSI, n);
    bt_string_move(c, in, X86_RDI, n);
    return n;
}

static int bt_string(struct bt_cpu *c, const struct bt_insn *in)
{
    if (bt_string_one(c, in))
        return bt_fault(c, in);
    return bt_next(c, in);
}

/* SCAS and CMPS end where ZF is not as the prefix asks. */
static bool bt_string_ends(const struct bt_cpu *c, const struct bt_insn *in)
{
    bool zf = c->s.rflags & FLAG_ZF;

    return in->imm2 >= BT_SCAS && zf == ((in->prefix & BT_REPNE) != 0);
}

/* REP with 32-bit addresses in 64-bit code: the registers lose their upper halves before the first element. */
static void bt_string_begin(struct bt_cpu *c, const struct bt_insn *in)
{
    if (in->asize != 4 || c->code_size != 8)
        return;
    c->s.gpr[X86_RCX] = (uint32_t)c->s.gpr[X86_RCX];
    if (in->imm2 == BT_MOVS)
        bt_string_move(c, in, X86_RSI, 0);
    if (in->imm2 == BT_MOVS || in->imm2 == BT_STOS)
        bt_string_move(c, in, X86_RDI, 0);
}

static int bt_string_rep(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t count = bt_string_reg(c, in, X86_RCX), n, flags = c->s.rflags;

    bt_string_begin(c, in);
    while (count) {
        n = bt_string_bulk(c, in, count);
        if (!n)
            n = bt_string_scan(c, in, count);
        if (!n) {
            if (bt_string_one(c, in)) {
                c->s.rflags = flags; /* as processors do, though RSI, RDI and RCX have moved */
                return bt_fault(c, in);
            }
            n = 1;
        }
        count -= n;
        bt_set(c, in, X86_RCX, in->asize, count);
        if (bt_string_ends(c, in))
            break;
        if (count && (bt_kicked(c) || c->single || (c->s.rflags & FLAG_TF) || bt_debug_armed(c))) {
            c->s.rip = bt_rip(c, in);
            return BT_JUMP;
        }
    }
    return bt_next(c, in);
}

static int bt_string_kind(ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSQ:
        return BT_MOVS;
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ:
        return BT_STOS;
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_LODSQ:
        return BT_LODS;
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_SCASD:
    case ZYDIS_MNEMONIC_SCASQ:
        return BT_SCAS;
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSD:
    case ZYDIS_MNEMONIC_CMPSQ:
        return BT_CMPS;
    default:
        return -1;
    }
}

bt_op *bt_string_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                        struct bt_insn *in)
{
    int kind = bt_string_kind(z->mnemonic);

    (void)ops;
    if (kind < 0 || z->meta.category != ZYDIS_CATEGORY_STRINGOP)
        return NULL; /* MOVSD and CMPSD are also SSE2 instructions */
    in->imm2 = (uint64_t)kind;
    return in->prefix & (BT_REP | BT_REPNE) ? bt_string_rep : bt_string;
}
