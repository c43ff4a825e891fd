#include "btvm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"

struct btvm *btvm_create(void)
{
    struct btvm *t = aligned_alloc(64, align_up(sizeof(*t), 64));
    struct err e = { 0 };

    assert_non_null(t);
    memset(t, 0, sizeof(*t));
    config_init(&t->cfg);
    assert_int_equal(vm_create(&t->vm, &t->cfg, &accel_bt, &e), 0);
    assert_int_equal(ram_alloc(&t->ram, "low", 0, BTVM_RAM, &e), 0);
    assert_int_equal(physmap_add(&t->vm->mem, &t->ram), 0);
    assert_int_equal(vm_create_vcpus(t->vm, &e), 0);
    t->c = t->vm->vcpu[0]->accel;
    btvm_mode64(t);
    return t;
}

void btvm_destroy(struct btvm *t)
{
    vm_destroy(t->vm);
    ram_free(&t->ram);
    config_fini(&t->cfg);
    free(t);
}

static void btvm_segments(struct btvm *t, uint64_t base, uint32_t limit, unsigned code,
                          unsigned data)
{
    x86_state_reset(&t->s, 0, true);
    for (unsigned i = 0; i < X86_NSREGS; i++)
        t->s.seg[i] = (struct x86_seg){ base, limit, (uint16_t)(base >> 4), (uint16_t)data };
    t->s.seg[X86_CS].attr = (uint16_t)code;
    t->s.idtr.limit = 0;
    t->s.rip = BTVM_CODE;
    t->s.gpr[X86_RSP] = BTVM_STACK;
}

void btvm_mode64(struct btvm *t)
{
    uint8_t *tables = t->ram.hva + BTVM_TABLES;

    btvm_segments(t, 0, ~0u, SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED | SEG_L | SEG_G,
                  SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | SEG_G | SEG_DB);
    st_le64(tables, (BTVM_TABLES + 0x1000) | 7);
    st_le64(tables + 0x1000, (BTVM_TABLES + 0x2000) | 7);
    st_le64(tables + 0x2000, 0x87);
    st_le64(tables + 0x2008, 0x200087);
    t->s.cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET | CR0_NE;
    t->s.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    t->s.cr3 = BTVM_TABLES;
    t->s.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
}

void btvm_mode32(struct btvm *t)
{
    btvm_segments(t, 0, ~0u, SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED | SEG_DB | SEG_G,
                  SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | SEG_G | SEG_DB);
    t->s.cr0 = CR0_PE | CR0_ET | CR0_NE;
}

void btvm_mode16(struct btvm *t)
{
    btvm_segments(t, BTVM_CODE, 0xffff, SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED,
                  SEG_P | SEG_S | SEG_RW | SEG_ACCESSED);
    t->s.rip = 0;
    t->s.gpr[X86_RSP] = 0x8000;
}

enum run_exit btvm_go(struct btvm *t)
{
    struct vcpu *v = t->vm->vcpu[0];
    enum run_exit why;

    assert_int_equal(accel_bt.set_state(v, &t->s), 0);
    do
        why = accel_bt.run(v);
    while (why == RUN_KICKED);
    assert_int_equal(accel_bt.get_state(v, &t->s), 0);
    return why;
}

enum run_exit btvm_run(struct btvm *t, const void *code, size_t len)
{
    memcpy(t->ram.hva + BTVM_CODE, code, len);
    memcpy(t->ram.hva + BTVM_CODE + len, "\x0f\x0b", 2);
    bt_code_written(t->vm, BTVM_CODE, len + 2);
    return btvm_go(t);
}
