/*
 * Page walks of every format with their permissions and A/D bits, and the TLB's flushes: what SDM 3A
 * chapter 4 says, by hand-built tables.
 */
#include "btvm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "accel/bt/bt_mem.h"
#include "base/bitmap.h"
#include "base/endian.h"
#include "x86/msr.h"

enum {
    P = 1,
    W = 2,
    U = 4,
    A = 0x20,
    D = 0x40,
    PS = 0x80,
    G = 0x100,
    PML4 = BTVM_TABLES,
    PDPT = PML4 + 0x1000,
    PD = PML4 + 0x2000,
    PT = PML4 + 0x3000,
    PAGE = 0x40000,  /* what is mapped */
    OTHER = 0x50000, /* what it is changed to */
    NOFAULT = 0xffff,
};
#define NX  BIT64(63)
#define LIN (0x8000000000ull + 0x40201000ull) /* entry 1 of each table */

static void put(struct btvm *t, uint64_t gpa, unsigned index, uint64_t e)
{
    st_le64(t->ram.hva + gpa + 8ull * index, e);
}

static uint64_t get(struct btvm *t, uint64_t gpa, unsigned index)
{
    return ld_le64(t->ram.hva + gpa + 8ull * index);
}

static void load(struct btvm *t)
{
    assert_int_equal(accel_bt.set_state(t->vm->vcpu[0], &t->s), 0);
}

/* An access; the error code of its #PF, or NOFAULT. */
static uint32_t access(struct btvm *t, uint64_t lin, uint32_t what, enum bt_mmu mmu)
{
    uint64_t val = 0x55, gpa;
    int ret;

    if (what & PF_I)
        ret = bt_translate(t->c, lin, PF_I, mmu, &gpa);
    else if (what & PF_W)
        ret = bt_lin_write(t->c, lin, 4, 0x12345678, mmu);
    else
        ret = bt_lin_read(t->c, lin, 4, &val, mmu);
    if (!ret)
        return NOFAULT;
    assert_int_equal(ret, BT_FAULT);
    assert_int_equal(t->c->s.exception_vector, X86_PF);
    assert_int_equal(t->c->s.cr2, lin);
    t->c->s.exception_pending = false;
    return t->c->s.exception_error;
}

/* 4 levels down to LIN, all with full permissions but the leaf. */
static void map4(struct btvm *t, uint64_t leaf)
{
    put(t, PML4, 1, PDPT | P | W | U);
    put(t, PDPT, 1, PD | P | W | U);
    put(t, PD, 1, PT | P | W | U);
    put(t, PT, 1, leaf);
    bt_tlb_flush_all(t->c);
}

static int setup(void **state)
{
    struct btvm *t = btvm_create();

    t->vm->cpuid.phys_bits = 40;
    memset(t->ram.hva + PML4, 0, 0x8000);
    t->s.cr4 |= CR4_PGE;
    load(t);
    t->c->mem_priv->phys_bits = 40;
    t->c->mem_priv->page_1g = true;
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    btvm_destroy(*state);
    return 0;
}

static void test_four_levels(void **state)
{
    struct btvm *t = *state;
    uint64_t val;

    st_le32(t->ram.hva + PAGE, 0xcafe);
    map4(t, PAGE | P | W | U);
    assert_int_equal(bt_lin_read(t->c, LIN, 4, &val, BT_MMU_USER), 0);
    assert_int_equal(val, 0xcafe);
    assert_int_equal(get(t, PML4, 1), PDPT | P | W | U | A);
    assert_int_equal(get(t, PDPT, 1), PD | P | W | U | A);
    assert_int_equal(get(t, PD, 1), PT | P | W | U | A);
    assert_int_equal(get(t, PT, 1), PAGE | P | W | U | A);
    assert_int_equal(bt_lin_write(t->c, LIN, 4, 0xbeef, BT_MMU_USER), 0);
    assert_int_equal(get(t, PT, 1), PAGE | P | W | U | A | D);
    assert_int_equal(ld_le32(t->ram.hva + PAGE), 0xbeef);
}

static void test_not_present_and_reserved(void **state)
{
    struct btvm *t = *state;

    map4(t, PAGE | W | U);
    assert_int_equal(access(t, LIN, 0, BT_MMU_USER), PF_U);
    assert_int_equal(access(t, LIN, PF_W, BT_MMU_SUPER), PF_W);
    map4(t, PAGE | P | W | U | BIT64(40)); /* above MAXPHYADDR */
    assert_int_equal(access(t, LIN, 0, BT_MMU_USER), PF_P | PF_U | PF_RSVD);
    assert_int_equal(get(t, PT, 1) & A, 0);
    map4(t, PAGE | P | W | U | BIT64(52)); /* ignored */
    assert_int_equal(access(t, LIN, 0, BT_MMU_USER), NOFAULT);
    put(t, PML4, 1, PDPT | P | W | U | PS);
    bt_tlb_flush_all(t->c);
    assert_int_equal(access(t, LIN, 0, BT_MMU_USER), PF_P | PF_U | PF_RSVD);
    map4(t, PAGE | P | NX);
    t->c->s.efer &= ~EFER_NXE;
    assert_int_equal(access(t, LIN, 0, BT_MMU_SUPER), PF_P | PF_RSVD);
}

/* Rows of SDM 3A 4.6: page, access, who, CR0.WP, expected. */
static void test_rights(void **state)
{
    static const struct {
        uint64_t leaf;
        uint32_t what;
        enum bt_mmu mmu;
        uint64_t clear_cr0, set_cr4;
        uint32_t error;
    } row[] = {
        { P | W, 0, BT_MMU_USER, 0, 0, PF_P | PF_U },
        { P | U, PF_W, BT_MMU_USER, 0, 0, PF_P | PF_U | PF_W },
        { P | U, PF_W, BT_MMU_SUPER, 0, 0, PF_P | PF_W },
        { P | U, PF_W, BT_MMU_SUPER, CR0_WP, 0, NOFAULT },
        { P, PF_W, BT_MMU_SUPER, CR0_WP, 0, NOFAULT },
        { P | U | W, PF_I, BT_MMU_USER, 0, 0, NOFAULT },
        { P | U | NX, PF_I, BT_MMU_USER, 0, 0, PF_P | PF_U | PF_I },
        { P | NX, PF_I, BT_MMU_SUPER, 0, 0, PF_P | PF_I },
        { P | U, PF_I, BT_MMU_SUPER, 0, CR4_SMEP, PF_P | PF_I },
        { P, PF_I, BT_MMU_SUPER, 0, CR4_SMEP, NOFAULT },
        { P | U, 0, BT_MMU_SUPER, 0, CR4_SMAP, PF_P },
        { P | U, 0, BT_MMU_SUPER, 0, 0, NOFAULT },
        { P | U, 0, BT_MMU_SUPER_AC, 0, CR4_SMAP, NOFAULT },
        { P | U | W, PF_W, BT_MMU_SUPER, 0, CR4_SMAP, PF_P | PF_W },
        { P | W, PF_W, BT_MMU_SUPER, 0, CR4_SMAP, NOFAULT },
    };
    struct btvm *t = *state;

    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        load(t);
        t->c->s.cr0 &= ~row[i].clear_cr0;
        t->c->s.cr4 |= row[i].set_cr4;
        map4(t, PAGE | row[i].leaf);
        assert_int_equal(access(t, LIN, row[i].what, row[i].mmu), row[i].error);
        assert_int_equal(access(t, LIN, row[i].what, row[i].mmu), row[i].error); /* cached */
        assert_int_equal(!!(get(t, PT, 1) & A), row[i].error == NOFAULT);
    }
}

/* A cached read must not grant what another kind of access is denied. */
static void test_cached_rights(void **state)
{
    struct btvm *t = *state;

    map4(t, PAGE | P | U | NX);
    assert_int_equal(access(t, LIN, 0, BT_MMU_USER), NOFAULT);
    assert_int_equal(access(t, LIN, PF_W, BT_MMU_USER), PF_P | PF_U | PF_W);
    assert_int_equal(access(t, LIN, PF_I, BT_MMU_USER), PF_P | PF_U | PF_I);
    map4(t, PAGE | P | W);
    assert_int_equal(access(t, LIN, PF_W, BT_MMU_SUPER), NOFAULT);
    assert_int_equal(access(t, LIN, 0, BT_MMU_USER), PF_P | PF_U);
}

static void test_large_pages(void **state)
{
    struct btvm *t = *state;
    uint64_t gpa;

    map4(t, 0);
    put(t, PD, 1, 0x200000 | P | W | PS);
    assert_int_equal(bt_translate(t->c, LIN + 0x123, 0, BT_MMU_SUPER, &gpa), 0);
    assert_int_equal(gpa, 0x201123);
    assert_int_equal(get(t, PD, 1), 0x200000 | P | W | PS | A);
    put(t, PD, 1, 0x202000 | P | W | PS); /* bit 13 is reserved */
    bt_tlb_flush_all(t->c);
    assert_int_equal(access(t, LIN, 0, BT_MMU_SUPER), PF_P | PF_RSVD);
    put(t, PDPT, 1, P | W | PS);
    assert_int_equal(bt_translate(t->c, LIN, PF_W, BT_MMU_SUPER, &gpa), 0);
    assert_int_equal(gpa, 0x201000);
    assert_int_equal(get(t, PDPT, 1), P | W | PS | A | D);
    t->c->mem_priv->page_1g = false;
    bt_tlb_flush_all(t->c);
    assert_int_equal(access(t, LIN, 0, BT_MMU_SUPER), PF_P | PF_RSVD);
}

static void test_32_bit(void **state)
{
    struct btvm *t = *state;
    uint64_t gpa;

    btvm_mode32(t);
    t->s.cr0 |= CR0_PG | CR0_WP;
    t->s.cr3 = PML4;
    load(t);
    st_le32(t->ram.hva + PML4 + 4, PDPT | P | W | U);
    st_le32(t->ram.hva + PDPT + 4, PAGE | P | U);
    assert_int_equal(bt_translate(t->c, 0x401010, 0, BT_MMU_USER, &gpa), 0);
    assert_int_equal(gpa, PAGE + 0x10);
    assert_int_equal(ld_le32(t->ram.hva + PDPT + 4), PAGE | P | U | A);
    assert_int_equal(access(t, 0x401000, PF_W, BT_MMU_USER), PF_P | PF_U | PF_W);
    assert_int_equal(access(t, 0x401000, PF_I, BT_MMU_USER), NOFAULT);
    st_le32(t->ram.hva + PML4 + 4, P | W | PS); /* without CR4.PSE: a table */
    bt_tlb_flush_all(t->c);
    assert_int_equal(access(t, 0x401000, 0, BT_MMU_SUPER), 0);
    t->c->s.cr4 |= CR4_PSE;
    bt_tlb_flush_all(t->c);
    assert_int_equal(bt_translate(t->c, 0x401010, PF_W, BT_MMU_SUPER, &gpa), 0);
    assert_int_equal(gpa, 0x1010);
    assert_int_equal(ld_le32(t->ram.hva + PML4 + 4), P | W | PS | A | D);
    st_le32(t->ram.hva + PML4 + 4, P | W | PS | BIT(21));
    bt_tlb_flush_all(t->c);
    assert_int_equal(access(t, 0x401000, 0, BT_MMU_SUPER), PF_P | PF_RSVD);
}

static void test_pae(void **state)
{
    struct btvm *t = *state;
    uint64_t gpa;

    btvm_mode32(t);
    t->s.cr0 |= CR0_PG;
    t->s.cr4 |= CR4_PAE;
    t->s.efer = EFER_NXE;
    t->s.cr3 = PML4 + 0x20;
    load(t);
    put(t, PML4 + 0x20, 1, PD | P);
    put(t, PD, 1, PT | P | W | U);
    put(t, PT, 1, PAGE | P | W | U | NX);
    assert_int_equal(bt_translate(t->c, 0x40201008, PF_W, BT_MMU_USER, &gpa), 0);
    assert_int_equal(gpa, PAGE + 8);
    assert_int_equal(get(t, PML4 + 0x20, 1), PD | P); /* no A bit there */
    assert_int_equal(get(t, PT, 1), PAGE | P | W | U | NX | A | D);
    assert_int_equal(access(t, 0x40201000, PF_I, BT_MMU_USER), PF_P | PF_U | PF_I);
    put(t, PT, 1, PAGE | P | BIT64(52)); /* reserved here, unlike in long mode */
    bt_tlb_flush_all(t->c);
    assert_int_equal(access(t, 0x40201000, 0, BT_MMU_SUPER), PF_P | PF_RSVD);
    assert_true(bt_walk_pdptes_ok(t->c, PML4 + 0x20));
    put(t, PML4 + 0x20, 2, PD | P | W);
    assert_false(bt_walk_pdptes_ok(t->c, PML4 + 0x20));
}

static void test_protection_keys(void **state)
{
    struct btvm *t = *state;

    t->c->s.cr4 |= CR4_PKE;
    map4(t, PAGE | P | W | U | 3ull << 59);
    bt_pkru_set(t->c, 1u << 6); /* key 3: no access */
    assert_int_equal(access(t, LIN, 0, BT_MMU_USER), PF_P | PF_U | PF_PK);
    assert_int_equal(access(t, LIN, 0, BT_MMU_SUPER), PF_P | PF_PK);
    assert_int_equal(access(t, LIN, PF_I, BT_MMU_USER), NOFAULT);
    bt_pkru_set(t->c, 2u << 6); /* no writes */
    assert_int_equal(access(t, LIN, 0, BT_MMU_USER), NOFAULT);
    assert_int_equal(access(t, LIN, PF_W, BT_MMU_USER), PF_P | PF_U | PF_W | PF_PK);
    bt_pkru_set(t->c, 0);
    assert_int_equal(access(t, LIN, PF_W, BT_MMU_USER), NOFAULT);
    bt_pkru_set(t->c, 3u << 6);
    assert_int_equal(access(t, LIN, 0, BT_MMU_USER), PF_P | PF_U | PF_PK);
}

/* Does a changed leaf take effect? */
static bool sees_change(struct btvm *t)
{
    uint64_t gpa = 0;
    struct bt_tlb_entry *e = bt_tlb_at(t->c, LIN, BT_MMU_SUPER);

    if (e->tag_r == (LIN & PAGE_MASK))
        return false;
    assert_int_equal(bt_translate(t->c, LIN, 0, BT_MMU_SUPER, &gpa), 0);
    return gpa == OTHER;
}

static void cache_then_change(struct btvm *t, uint64_t flags)
{
    map4(t, PAGE | flags);
    assert_int_equal(access(t, LIN, 0, BT_MMU_SUPER), NOFAULT);
    put(t, PT, 1, OTHER | flags);
}

static void test_flushes(void **state)
{
    struct btvm *t = *state;

    cache_then_change(t, P | W);
    assert_false(sees_change(t));
    bt_tlb_flush_page(t->c, LIN);
    assert_true(sees_change(t));
    cache_then_change(t, P | W);
    bt_tlb_set_cr3(t->c, PML4);
    assert_true(sees_change(t));
    cache_then_change(t, P | W | G);
    bt_tlb_set_cr3(t->c, PML4);
    assert_false(sees_change(t)); /* global */
    bt_tlb_flush_page(t->c, LIN);
    assert_true(sees_change(t));
    cache_then_change(t, P | W | G);
    bt_tlb_flush_all(t->c);
    assert_true(sees_change(t));
}

static void test_invlpg_covers_large_pages(void **state)
{
    struct btvm *t = *state;

    map4(t, 0);
    put(t, PD, 1, P | W | PS);
    assert_int_equal(access(t, LIN, 0, BT_MMU_SUPER), NOFAULT);
    assert_int_equal(access(t, LIN + 0x5000, 0, BT_MMU_SUPER), NOFAULT);
    bt_tlb_flush_page(t->c, LIN + 0x100000); /* another piece of the same 2 MiB */
    assert_int_not_equal(bt_tlb_at(t->c, LIN, BT_MMU_SUPER)->tag_r, LIN & PAGE_MASK);
    assert_int_not_equal(bt_tlb_at(t->c, LIN + 0x5000, BT_MMU_SUPER)->tag_r,
                         (LIN + 0x5000) & PAGE_MASK);
}

static void test_pcid(void **state)
{
    struct btvm *t = *state;

    t->c->s.cr4 |= CR4_PCIDE;
    bt_tlb_set_cr3(t->c, PML4 | 1);
    cache_then_change(t, P | W);
    bt_tlb_set_cr3(t->c, PML4 | 2);
    assert_true(sees_change(t)); /* of its own, empty */
    bt_tlb_set_cr3(t->c, PML4 | 1 | BIT64(63));
    assert_int_equal(t->c->s.cr3, PML4 | 1);
    assert_false(sees_change(t)); /* kept */
    bt_tlb_invpcid(t->c, 1, 2, 0);
    assert_false(sees_change(t)); /* another's */
    bt_tlb_invpcid(t->c, 0, 1, LIN);
    assert_true(sees_change(t));
    cache_then_change(t, P | W);
    bt_tlb_invpcid(t->c, 3, 0, 0);
    assert_true(sees_change(t));
    cache_then_change(t, P | W);
    bt_tlb_set_cr3(t->c, PML4 | 1); /* without bit 63 */
    assert_true(sees_change(t));
    cache_then_change(t, P | W);
    for (uint64_t pcid = 2; pcid < 20; pcid++) /* more than there are slots */
        bt_tlb_set_cr3(t->c, PML4 | pcid | BIT64(63));
    bt_tlb_set_cr3(t->c, PML4 | 1 | BIT64(63));
    assert_true(sees_change(t));
}

static void test_dirty_log(void **state)
{
    struct btvm *t = *state;

    map4(t, PAGE | P | W | U);
    assert_int_equal(access(t, LIN, PF_W, BT_MMU_USER), NOFAULT);
    assert_int_equal(physmap_log_start(&t->vm->mem), 0);
    bt_tlb_request(t->c, BT_TLB_REQ_FLUSH);
    assert_true(bt_tlb_request_pending(t->c));
    bt_tlb_serve(t->c);
    assert_false(bt_tlb_request_pending(t->c));
    assert_int_equal(access(t, LIN, 0, BT_MMU_USER), NOFAULT);
    assert_false(bitmap_test(t->ram.dirty, PAGE >> PAGE_SHIFT));
    assert_true(bt_tlb_is_none(bt_tlb_at(t->c, LIN, BT_MMU_USER)->tag_w));
    assert_int_equal(access(t, LIN, PF_W, BT_MMU_USER), NOFAULT);
    assert_true(bitmap_test(t->ram.dirty, PAGE >> PAGE_SHIFT));
    assert_int_equal(bt_tlb_at(t->c, LIN, BT_MMU_USER)->tag_w, LIN & PAGE_MASK);
    put(t, PT, 1, PAGE | P | W | U); /* A and D bits are writes, too */
    bitmap_clear_atomic(t->ram.dirty, PT >> PAGE_SHIFT);
    bt_tlb_flush_all(t->c);
    assert_int_equal(access(t, LIN, PF_W, BT_MMU_USER), NOFAULT);
    assert_true(bitmap_test(t->ram.dirty, PT >> PAGE_SHIFT));
    physmap_log_stop(&t->vm->mem);
}

static void test_rom_and_code(void **state)
{
    struct btvm *t = *state;

    map4(t, PAGE | P | W);
    st_le32(t->ram.hva + PAGE, 7);
    t->ram.readonly = true;
    assert_int_equal(access(t, LIN, PF_W, BT_MMU_SUPER), NOFAULT);
    assert_int_equal(ld_le32(t->ram.hva + PAGE), 7); /* dropped */
    t->ram.readonly = false;
    bt_tlb_flush_all(t->c);
    assert_int_equal(access(t, LIN, PF_W, BT_MMU_SUPER), NOFAULT);
    assert_int_equal(bt_tlb_at(t->c, LIN, BT_MMU_SUPER)->tag_w, LIN & PAGE_MASK);
    bitmap_set_atomic(t->ram.code, PAGE >> PAGE_SHIFT);
    bt_tlb_protect(t->c, PAGE);
    assert_true(bt_tlb_is_none(bt_tlb_at(t->c, LIN, BT_MMU_SUPER)->tag_w));
    assert_int_equal(bt_tlb_at(t->c, LIN, BT_MMU_SUPER)->tag_r, LIN & PAGE_MASK);
}

/* Both pages are checked before a byte changes. */
static void test_crossing(void **state)
{
    struct btvm *t = *state;
    uint64_t val;

    map4(t, PAGE | P | W);
    st_le32(t->ram.hva + PAGE + 0xffc, 0x11111111);
    assert_int_equal(bt_lin_write(t->c, LIN + 0xffe, 4, 0xaabbccdd, BT_MMU_SUPER), BT_FAULT);
    assert_int_equal(t->c->s.cr2, (LIN & PAGE_MASK) + 0x1000);
    assert_int_equal(ld_le32(t->ram.hva + PAGE + 0xffc), 0x11111111);
    put(t, PT, 2, OTHER | P | W);
    assert_int_equal(bt_lin_write(t->c, LIN + 0xffe, 4, 0xaabbccdd, BT_MMU_SUPER), 0);
    assert_int_equal(ld_le16(t->ram.hva + OTHER), 0xaabb);
    assert_int_equal(bt_lin_read(t->c, LIN + 0xffe, 4, &val, BT_MMU_SUPER), 0);
    assert_int_equal(val, 0xaabbccdd);
}

static void test_segment_limits(void **state)
{
    struct btvm *t = *state;
    uint64_t lin;

    btvm_mode32(t);
    t->s.seg[X86_DS].limit = 0xfff;
    t->s.seg[X86_DS].base = 0x1000;
    t->s.seg[X86_ES].limit = 0xfff;
    t->s.seg[X86_ES].attr |= SEG_DC; /* expand-down */
    t->s.seg[X86_FS].attr = SEG_UNUSABLE;
    load(t);
    assert_int_equal(bt_linear(t->c, X86_DS, 0xffc, 4, true, &lin), 0);
    assert_int_equal(lin, 0x1ffc);
    assert_int_equal(bt_linear(t->c, X86_DS, 0xffd, 4, true, &lin), BT_FAULT);
    assert_int_equal(t->c->s.exception_vector, X86_GP);
    assert_int_equal(bt_linear(t->c, X86_ES, 0xfff, 1, true, &lin), BT_FAULT);
    assert_int_equal(bt_linear(t->c, X86_ES, 0x1000, 1, true, &lin), 0);
    assert_int_equal(bt_linear(t->c, X86_FS, 0, 1, false, &lin), BT_FAULT);
    assert_int_equal(bt_linear(t->c, X86_CS, 0, 1, true, &lin), BT_FAULT);
    t->c->s.seg[X86_SS].limit = 0;
    assert_int_equal(bt_linear(t->c, X86_SS, 0, 2, false, &lin), BT_FAULT);
    assert_int_equal(t->c->s.exception_vector, X86_SS_FAULT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_four_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_present_and_reserved, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rights, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cached_rights, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_32_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pae, setup, teardown),
        cmocka_unit_test_setup_teardown(test_protection_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flushes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_invlpg_covers_large_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pcid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dirty_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rom_and_code, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crossing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_segment_limits, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
