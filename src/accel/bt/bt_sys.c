/*
 * bt_sys.c: which operation runs a system instruction, and what the VM's CPUID offers of them.
 */
#include "accel/bt/bt_decode.h"
#include "accel/bt/bt_sysops.h"

/* --- mnemonics whose operands need no second look --- */

struct sys_entry {
    ZydisMnemonic mnemonic;
    bt_op *op;
};
static const struct sys_entry sys_table[] = {
    { ZYDIS_MNEMONIC_ARPL, bt_op_arpl },
    { ZYDIS_MNEMONIC_CLAC, bt_op_clac },
    { ZYDIS_MNEMONIC_CLI, bt_op_cli },
    { ZYDIS_MNEMONIC_CLTS, bt_op_clts },
    { ZYDIS_MNEMONIC_CPUID, bt_op_cpuid },
    { ZYDIS_MNEMONIC_HLT, bt_op_hlt },
    { ZYDIS_MNEMONIC_INT, bt_op_int },
    { ZYDIS_MNEMONIC_INT1, bt_op_int1 },
    { ZYDIS_MNEMONIC_INT3, bt_op_int3 },
    { ZYDIS_MNEMONIC_INTO, bt_op_into },
    { ZYDIS_MNEMONIC_INVD, bt_op_wbinvd },
    { ZYDIS_MNEMONIC_INVLPG, bt_op_invlpg },
    { ZYDIS_MNEMONIC_INVPCID, bt_op_invpcid },
    { ZYDIS_MNEMONIC_IRET, bt_op_iret },
    { ZYDIS_MNEMONIC_IRETD, bt_op_iret },
    { ZYDIS_MNEMONIC_IRETQ, bt_op_iret },
    { ZYDIS_MNEMONIC_LAR, bt_op_lar },
    { ZYDIS_MNEMONIC_LGDT, bt_op_lgdt },
    { ZYDIS_MNEMONIC_LIDT, bt_op_lidt },
    { ZYDIS_MNEMONIC_LLDT, bt_op_lldt },
    { ZYDIS_MNEMONIC_LMSW, bt_op_lmsw },
    { ZYDIS_MNEMONIC_LSL, bt_op_lsl },
    { ZYDIS_MNEMONIC_LTR, bt_op_ltr },
    { ZYDIS_MNEMONIC_MONITOR, bt_op_monitor },
    { ZYDIS_MNEMONIC_MONITORX, bt_op_undefined },
    { ZYDIS_MNEMONIC_MWAIT, bt_op_mwait },
    { ZYDIS_MNEMONIC_MWAITX, bt_op_undefined },
    { ZYDIS_MNEMONIC_POPF, bt_op_popf },
    { ZYDIS_MNEMONIC_POPFD, bt_op_popf },
    { ZYDIS_MNEMONIC_POPFQ, bt_op_popf },
    { ZYDIS_MNEMONIC_PUSHF, bt_op_pushf },
    { ZYDIS_MNEMONIC_PUSHFD, bt_op_pushf },
    { ZYDIS_MNEMONIC_PUSHFQ, bt_op_pushf },
    { ZYDIS_MNEMONIC_RDMSR, bt_op_rdmsr },
    { ZYDIS_MNEMONIC_RDPID, bt_op_rdpid },
    { ZYDIS_MNEMONIC_RDPKRU, bt_op_rdpkru },
    { ZYDIS_MNEMONIC_RDPMC, bt_op_rdpmc },
    { ZYDIS_MNEMONIC_RDPRU, bt_op_undefined },
    { ZYDIS_MNEMONIC_RDTSC, bt_op_rdtsc },
    { ZYDIS_MNEMONIC_RDTSCP, bt_op_rdtscp },
    { ZYDIS_MNEMONIC_SGDT, bt_op_sgdt },
    { ZYDIS_MNEMONIC_SIDT, bt_op_sidt },
    { ZYDIS_MNEMONIC_SLDT, bt_op_sldt },
    { ZYDIS_MNEMONIC_SMSW, bt_op_smsw },
    { ZYDIS_MNEMONIC_STAC, bt_op_stac },
    { ZYDIS_MNEMONIC_STI, bt_op_sti },
    { ZYDIS_MNEMONIC_STR, bt_op_str },
    { ZYDIS_MNEMONIC_SWAPGS, bt_op_swapgs },
    { ZYDIS_MNEMONIC_SYSCALL, bt_op_syscall },
    { ZYDIS_MNEMONIC_SYSENTER, bt_op_sysenter },
    { ZYDIS_MNEMONIC_VERR, bt_op_verr },
    { ZYDIS_MNEMONIC_VERW, bt_op_verw },
    { ZYDIS_MNEMONIC_VMCALL, bt_op_vmcall },
    { ZYDIS_MNEMONIC_VMMCALL, bt_op_vmcall },
    { ZYDIS_MNEMONIC_WBINVD, bt_op_wbinvd },
    { ZYDIS_MNEMONIC_WRMSR, bt_op_wrmsr },
    { ZYDIS_MNEMONIC_WRPKRU, bt_op_wrpkru },
    { ZYDIS_MNEMONIC_XGETBV, bt_op_xgetbv },
    { ZYDIS_MNEMONIC_XSETBV, bt_op_xsetbv },
};

/* --- those whose operands decide --- */

static bt_op *sys_mov(const ZydisDecodedInstruction *z)
{
    if (z->opcode_map == ZYDIS_OPCODE_MAP_0F) {
        switch (z->opcode) {
        case 0x20:
            return bt_op_mov_from_cr;
        case 0x21:
            return bt_op_mov_from_dr;
        case 0x22:
            return bt_op_mov_to_cr;
        case 0x23:
            return bt_op_mov_to_dr;
        default:
            return NULL;
        }
    }
    if (z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
        return NULL;
    return z->opcode == 0x8c ? bt_op_mov_from_sreg : z->opcode == 0x8e ? bt_op_mov_to_sreg : NULL;
}

static bt_op *sys_stack(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                        struct bt_insn *in)
{
    if (ops[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
        ZydisRegisterGetClass(ops[0].reg.value) != ZYDIS_REGCLASS_SEGMENT)
        return NULL;
    in->reg = (uint8_t)ZydisRegisterGetId(ops[0].reg.value);
    return z->mnemonic == ZYDIS_MNEMONIC_PUSH ? bt_op_push_sreg : bt_op_pop_sreg;
}

static bt_op *sys_branch(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
    bool direct = ops[0].type == ZYDIS_OPERAND_TYPE_POINTER;

    if (z->meta.branch_type != ZYDIS_BRANCH_TYPE_FAR)
        return NULL;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
        return direct ? bt_op_jmp_far : bt_op_jmp_far_mem;
    case ZYDIS_MNEMONIC_CALL:
        return direct ? bt_op_call_far : bt_op_call_far_mem;
    case ZYDIS_MNEMONIC_RET:
        return bt_op_ret_far;
    default:
        return NULL;
    }
}

static bt_op *sys_io(const ZydisDecodedInstruction *z, struct bt_insn *in)
{
    bool wide = z->opcode & 1;

    in->size = wide ? (z->operand_width == 16 ? 2 : 4) : 1;
    in->imm2 = z->opcode >> 3 & 1; /* 0xec to 0xef: the port is in DX */
    switch (z->opcode) {
    case 0x6c:
    case 0x6d:
        return bt_op_ins;
    case 0x6e:
    case 0x6f:
        return bt_op_outs;
    default:
        return z->opcode & 2 ? bt_op_out : bt_op_in;
    }
}

static bt_op *sys_load_far_pointer(struct bt_insn *in, unsigned seg)
{
    in->imm2 = seg;
    return bt_op_lds;
}

static bt_op *sys_base(struct bt_insn *in, unsigned seg, bt_op *op)
{
    in->imm2 = seg;
    return op;
}

static bt_op *sys_lookup_refined(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                                 struct bt_insn *in)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
        return sys_mov(z);
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
        return sys_stack(z, ops, in);
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_RET:
        return sys_branch(z, ops);
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_OUT:
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD:
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD:
        return sys_io(z, in);
    case ZYDIS_MNEMONIC_LDS:
        return sys_load_far_pointer(in, X86_DS);
    case ZYDIS_MNEMONIC_LES:
        return sys_load_far_pointer(in, X86_ES);
    case ZYDIS_MNEMONIC_LFS:
        return sys_load_far_pointer(in, X86_FS);
    case ZYDIS_MNEMONIC_LGS:
        return sys_load_far_pointer(in, X86_GS);
    case ZYDIS_MNEMONIC_LSS:
        return sys_load_far_pointer(in, X86_SS);
    case ZYDIS_MNEMONIC_RDFSBASE:
        return sys_base(in, X86_FS, bt_op_rdfsbase);
    case ZYDIS_MNEMONIC_RDGSBASE:
        return sys_base(in, X86_GS, bt_op_rdfsbase);
    case ZYDIS_MNEMONIC_WRFSBASE:
        return sys_base(in, X86_FS, bt_op_wrfsbase);
    case ZYDIS_MNEMONIC_WRGSBASE:
        return sys_base(in, X86_GS, bt_op_wrfsbase);
    case ZYDIS_MNEMONIC_SYSRET:
        in->imm2 = z->raw.rex.W;
        return bt_op_sysret;
    case ZYDIS_MNEMONIC_SYSEXIT:
        in->imm2 = z->raw.rex.W;
        return bt_op_sysexit;
    default:
        return NULL;
    }
}

bt_op *bt_sys_lookup(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                     struct bt_insn *in)
{
    bt_op *op = sys_lookup_refined(z, ops, in);

    if (op)
        return op;
    for (unsigned i = 0; i < ARRAY_SIZE(sys_table); i++)
        if (sys_table[i].mnemonic == z->mnemonic)
            return sys_table[i].op;
    switch (z->meta.category) { /* the rest of these are for hypervisors, enclaves and firmware */
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_VTX:
    case ZYDIS_CATEGORY_SGX:
        return bt_op_undefined;
    default:
        return NULL;
    }
}

/* --- features --- */

struct sys_feature {
    uint32_t leaf, subleaf;
    uint8_t reg, bit;
    uint64_t grants;
};

static uint64_t sys_granted(const struct cpuid *id, const struct sys_feature *f, size_t n)
{
    uint64_t all = 0;

    for (size_t i = 0; i < n; i++)
        if (cpuid_has(id, f[i].leaf, f[i].subleaf, f[i].reg, f[i].bit))
            all |= f[i].grants;
    return all;
}

enum { EAX, EBX, ECX, EDX };

uint64_t bt_sys_cr4_allowed(const struct cpuid *id)
{
    static const struct sys_feature cr4[] = {
        { 1, 0, EDX, 1, CR4_VME | CR4_PVI },
        { 1, 0, EDX, 4, CR4_TSD },
        { 1, 0, EDX, 2, CR4_DE },
        { 1, 0, EDX, 3, CR4_PSE },
        { 1, 0, EDX, 6, CR4_PAE },
        { 1, 0, EDX, 7, CR4_MCE },
        { 1, 0, EDX, 13, CR4_PGE },
        { 1, 0, EDX, 24, CR4_OSFXSR },
        { 1, 0, EDX, 25, CR4_OSXMMEXCPT },
        { 7, 0, ECX, 2, CR4_UMIP },
        { 7, 0, ECX, 16, CR4_LA57 },
        { 7, 0, EBX, 0, CR4_FSGSBASE },
        { 1, 0, ECX, 17, CR4_PCIDE },
        { 1, 0, ECX, 26, CR4_OSXSAVE },
        { 7, 0, EBX, 7, CR4_SMEP },
        { 7, 0, EBX, 20, CR4_SMAP },
        { 7, 0, ECX, 3, CR4_PKE },
    };

    return CR4_PCE | sys_granted(id, cr4, ARRAY_SIZE(cr4));
}

uint32_t bt_sys_features(const struct cpuid *id)
{
    static const struct sys_feature feature[] = {
        { 7, 0, EBX, 20, BT_HAS_SMAP },
        { 7, 0, EBX, 10, BT_HAS_INVPCID },
        { 0x80000001, 0, EDX, 27, BT_HAS_RDTSCP },
        { 7, 0, ECX, 22, BT_HAS_RDPID },
        { 1, 0, ECX, 3, BT_HAS_MONITOR },
        { 0x80000001, 0, EDX, 20, BT_HAS_NX },
        { 0x80000001, 0, EDX, 29, BT_HAS_LM },
        { 7, 0, EDX, 26, BT_HAS_SPEC_CTRL | BT_HAS_PRED_CMD },
        { 7, 0, EDX, 27, BT_HAS_SPEC_CTRL },
        { 7, 0, EDX, 31, BT_HAS_SPEC_CTRL },
        { 7, 2, EDX, 4, BT_HAS_BHI_CTRL },
        { 7, 0, EDX, 28, BT_HAS_FLUSH_CMD },
        { 7, 0, EDX, 29, BT_HAS_ARCH_CAP },
        { 0xd, 1, EAX, 3, BT_HAS_XSAVES },
        { 0xd, 1, EAX, 2, BT_HAS_XGETBV1 },
    };
    uint32_t all = (uint32_t)sys_granted(id, feature, ARRAY_SIZE(feature)), out[4];

    cpuid_query(id, 0, 0, 0, 0, 0, out);
    if (out[EBX] == 0x68747541) /* "Auth"enticAMD */
        all |= BT_IS_AMD;
    cpuid_query(id, 0x40000000, 0, 0, 0, 0, out);
    if (out[EBX] == 0x4b4d564b) /* "KVMK"VMKVM */
        all |= BT_HAS_KVM;
    return all;
}
