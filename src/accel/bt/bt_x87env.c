/*
 * bt_x87env.c: FNSTENV, FLDENV, FNSAVE and FRSTOR (SDM 1 8.1.10). They run on the host in the 32-bit
 * protected-mode layout; the guest's mode decides which layout is in its memory, and the pointers in it
 * are the guest's.
 *
 *   offset of   FCW  FSW  FTW  FIP  FCS/FOP  FDP  FDS  registers
 *   32 bits      0    4    8   12     16      20   24     28
 *   16 bits      0    2    4    6      8      10   12     14
 *
 * Real and virtual-8086 mode: the word at FCS holds FIP[19:16] and FOP (32 bits: FIP[31:16]), the one at
 * FDS the upper bits of FDP.
 */
#include "accel/bt/bt_native.h"

#include <string.h>

#include "base/endian.h"

enum {
    ENV16 = 14,
    ENV32 = 28,
    REGISTERS = 80,
    FIP = 12,
    FCS = 16,
    FOP = 18,
    FDP = 20,
    FDS = 24,
    FOP_MASK = 0x7ff,
};

static bool bt_x87env_real(const struct bt_cpu *c)
{
    return !(c->s.cr0 & CR0_PE) || (c->s.rflags & FLAG_VM);
}

static unsigned bt_x87env_len(const struct bt_plan *p)
{
    return p->mem_size < REGISTERS ? p->mem_size : p->mem_size - REGISTERS;
}

/* The host's environment in env[ENV32] to the guest's layout in out. */
static void bt_x87env_export(const struct bt_cpu *c, const uint8_t *env, unsigned len, uint8_t *out)
{
    const struct bt_fpu *f = c->fpu;
    uint32_t fip = (uint32_t)c->fip, fdp = (uint32_t)f->fdp;
    bool real = bt_x87env_real(c);

    if (len == ENV16) {
        for (unsigned i = 0; i < 3; i++)
            memcpy(out + 2 * i, env + 4 * i, 2);
        st_le16(out + 6, (uint16_t)fip);
        st_le16(out + 8, real ? (uint16_t)((fip >> 4 & 0xf000) | f->fop) : 0);
        st_le16(out + 10, (uint16_t)fdp);
        st_le16(out + 12, real ? (uint16_t)(fdp >> 4 & 0xf000) : 0);
        return;
    }
    memcpy(out, env, ENV32);
    if (real) {
        st_le32(out + FIP, (fip & 0xffff) | 0xffff0000);
        st_le32(out + FCS, (fip >> 16) << 12 | f->fop);
        st_le32(out + FDP, (fdp & 0xffff) | 0xffff0000);
        st_le32(out + FDS, (fdp >> 16) << 12);
    } else {
        st_le32(out + FIP, fip);
        st_le16(out + FOP, f->fop);
        st_le32(out + FDP, fdp);
    }
}

struct bt_x87env_pointers {
    uint64_t fip, fdp;
    uint16_t fop;
};

/* And back; the pointers are the guest's and do not go to the host. */
static struct bt_x87env_pointers bt_x87env_import(const struct bt_cpu *c, const uint8_t *in,
                                                  unsigned len, uint8_t *env)
{
    struct bt_x87env_pointers to = { 0 };
    bool real = bt_x87env_real(c);
    uint32_t cs, ds;

    memset(env, 0, ENV32);
    if (len == ENV16) {
        for (unsigned i = 0; i < 3; i++)
            memcpy(env + 4 * i, in + 2 * i, 2);
        cs = ld_le16(in + 8);
        ds = ld_le16(in + 12);
        to.fip = ld_le16(in + 6) | (real ? (cs & 0xf000) << 4 : 0);
        to.fdp = ld_le16(in + 10) | (real ? (ds & 0xf000) << 4 : 0);
        to.fop = real ? cs & FOP_MASK : 0;
        return to;
    }
    memcpy(env, in, FIP);
    cs = ld_le32(in + FCS);
    ds = ld_le32(in + FDS);
    if (real) {
        to.fip = ld_le16(in + FIP) | (cs >> 12) << 16;
        to.fdp = ld_le16(in + FDP) | (ds >> 12) << 16;
        to.fop = cs & FOP_MASK;
    } else {
        to.fip = ld_le32(in + FIP);
        to.fdp = ld_le32(in + FDP);
        to.fop = ld_le16(in + FOP) & FOP_MASK;
    }
    return to;
}

static int bt_x87env_store(struct bt_cpu *c, const struct bt_insn *in)
{
    const struct bt_plan *p = &in->native->plan;
    uint8_t *env = c->fpu->bounce, out[BT_MEM_MAX];
    unsigned len = bt_x87env_len(p);
    uint64_t lin;
    int r = bt_native_check(c, BT_FPU_X87);

    if (!r)
        r = bt_native_linear(c, in, p->mem_size, true, &lin);
    if (!r)
        r = bt_native_probe(c, lin, p->mem_size);
    if (!r)
        r = bt_native_run(c, in, env);
    if (r)
        return r;
    bt_x87env_export(c, env, len, out);
    if (p->mem_size > len) { /* FNSAVE also initializes */
        memcpy(out + len, env + ENV32, REGISTERS);
        bt_fpu_set_pointers(c, 0, 0, 0);
    }
    return bt_lin_copy_out(c, lin, out, p->mem_size, c->mmu);
}

static int bt_x87env_load(struct bt_cpu *c, const struct bt_insn *in)
{
    const struct bt_plan *p = &in->native->plan;
    uint8_t *env = c->fpu->bounce, guest[BT_MEM_MAX];
    unsigned len = bt_x87env_len(p);
    struct bt_x87env_pointers to;
    uint64_t lin, cr2 = c->s.cr2;
    int r = bt_native_check(c, BT_FPU_X87);

    if (r)
        return r;
    r = bt_native_linear(c, in, p->mem_size, false, &lin);
    if (!r)
        r = bt_lin_copy_in(c, lin, guest, p->mem_size, c->mmu);
    if (r)
        return bt_fpu_pending_first(c, cr2);
    to = bt_x87env_import(c, guest, len, env);
    if (p->mem_size > len)
        memcpy(env + ENV32, guest + len, REGISTERS);
    r = bt_native_run(c, in, env);
    if (!r)
        bt_fpu_set_pointers(c, to.fip, to.fdp, to.fop);
    return r;
}

bt_op *bt_x87env_lookup(const ZydisDecodedInstruction *z, struct bt_plan *p)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
        p->x87 = BT_X87_NONE;
        p->control = true;
        return bt_x87env_store;
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FRSTOR:
        p->x87 = BT_X87_NONE;
        p->control = true;
        return bt_x87env_load;
    default:
        return NULL;
    }
}
