/*
 * Small guests under accel_kvm, each ending with a write to the debug-exit port. Skipped, and said so,
 * where there is no usable /dev/kvm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "accel/accel.h"
#include "accel/kvm/kvm.h"
#include "base/bitmap.h"
#include "base/endian.h"
#include "kvmvm.h"

enum {
    VECTOR = 0x51,
    TSC_PAUSE_MS = 80,
    TSC_SLACK_MS = 20,
};
#define MSI_ADDR 0xfee00000ull

static int setup(void **ctx)
{
    *ctx = kvmvm_create(&accel_kvm, 1);
    return 0;
}

static int setup_smp(void **ctx)
{
    *ctx = kvmvm_create(&accel_kvm, 2);
    return 0;
}

static int teardown(void **ctx)
{
    kvmvm_destroy(*ctx);
    return 0;
}

GUEST(real, 16,
      "mov al, 0x42; mov dx, 0x510; out dx, al; in al, dx; out dx, al\n"
      "mov dx, 0x5f4; mov al, 5; out dx, al; hlt")

static void test_real_mode(void **ctx)
{
    struct kvmvm *f = *ctx;

    LOAD(f, real);
    memcpy(f->ram.hva + 0x8000, f->ram.hva + KVMVM_CODE, PAGE_SIZE);
    f->s.seg[X86_CS].base = f->s.seg[X86_CS].sel = 0;
    f->s.rip = 0x8000;
    assert_int_equal(kvmvm_run(f), 5);
    assert_int_equal(f->writes, 2);
    assert_int_equal(f->log[0], 0x42);
    assert_int_equal(f->log[1], 0x43);
}

GUEST(prot, 32,
      "mov eax, 0xaabbccdd; mov dx, 0x510; out dx, eax; in ax, dx\n"
      "mov edi, 0x20000010; mov [edi], eax; mov ebx, [edi+4]\n"
      "mov [edi+8], ebx; mov dx, 0x5f4; mov eax, 6; out dx, eax; hlt")

static void test_protected_mode(void **ctx)
{
    struct kvmvm *f = *ctx;

    LOAD(f, prot);
    boot_place_enter32(&f->boot, &f->s, KVMVM_CODE);
    assert_int_equal(kvmvm_run(f), 6);
    assert_int_equal(f->last, 0xaabbccdd);
    assert_int_equal(f->mmio_off, 0x18);
    assert_int_equal(f->mmio_last, 0x5566779c);
}

GUEST(strings, 64,
      "cld; lea rsi, [rip+strings_text]; mov ecx, 5; mov dx, 0x510; rep outsb\n"
      "lea rdi, [rsp-64]; mov ecx, 3; rep insb; mov al, [rsp-62]; mov dx, 0x5f4\n"
      "out dx, al; hlt; strings_text: .ascii \"hello\"")

static void test_string_io(void **ctx)
{
    struct kvmvm *f = *ctx;

    LOAD(f, strings);
    kvmvm_start64(f);
    assert_int_equal(kvmvm_run(f), 'o' + 1);
    assert_int_equal(f->writes, 5);
    assert_memory_equal(f->log, "hello", 5);
}

GUEST(wait, 64,
      "sti; 1: hlt; jmp 1b; .org wait_start+64\n"
      "mov al, 7; mov dx, 0x5f4; out dx, al; 1: jmp 1b\n"
      ".org wait_start+128; mov edi, 0xfee000b0; mov dword ptr [rdi], 0\n"
      "mov dx, 0x510; in al, dx; mov al, 8; mov dx, 0x5f4; out dx, al; 1: jmp 1b")
enum { WAIT_HANDLER = KVMVM_CODE + 64, WAIT_EOI_HANDLER = KVMVM_CODE + 128 };

/* The APIC is off after reset (spurious vector register): on. */
static void enable_apic(struct kvmvm *f)
{
    st_le32(f->s.lapic + 0xf0, 0x1ff);
}

static void fire_msi(struct loop_timer *t)
{
    vm_msi(container_of(t, struct kvmvm, timer)->vm, MSI_ADDR, VECTOR);
}

static void fire_level_msi(struct loop_timer *t)
{
    vm_msi(container_of(t, struct kvmvm, timer)->vm, MSI_ADDR, 0xc000 | VECTOR);
}

static void fire_nmi(struct loop_timer *t)
{
    vm_nmi_all(container_of(t, struct kvmvm, timer)->vm);
}

static void fire_intr(struct loop_timer *t)
{
    vm_intr(container_of(t, struct kvmvm, timer)->vm, true);
}

static void fire_irqfd(struct loop_timer *t)
{
    assert_int_equal(eventfd_write(container_of(t, struct kvmvm, timer)->irqfd, 1), 0);
}

static void in_20_ms(struct kvmvm *f, void (*fire)(struct loop_timer *t))
{
    loop_timer_init(f->vm->loop, &f->timer, fire);
    loop_timer_set(&f->timer, util_monotonic_ns() + 20000000);
}

static void test_msi(void **ctx)
{
    struct kvmvm *f = *ctx;

    LOAD(f, wait);
    kvmvm_start64(f);
    kvmvm_set_gate(f, VECTOR, WAIT_HANDLER);
    enable_apic(f);
    in_20_ms(f, fire_msi);
    assert_int_equal(kvmvm_run(f), 7);
    assert_int_equal(f->eois, 0);
}

static void test_level_msi_eoi(void **ctx)
{
    struct kvmvm *f = *ctx;

    LOAD(f, wait);
    kvmvm_start64(f);
    kvmvm_set_gate(f, VECTOR, WAIT_EOI_HANDLER);
    enable_apic(f);
    in_20_ms(f, fire_level_msi);
    assert_int_equal(kvmvm_run(f), 8);
    assert_int_equal(f->eois, 1);
    assert_int_equal(f->eoi_vector, VECTOR);
}

/* A level-triggered interrupt that was in service when the state was saved. */
static void test_eoi_after_load(void **ctx)
{
    enum { ISR = 0x100, TMR = 0x180 };
    struct kvmvm *f = *ctx;

    LOAD(f, wait);
    kvmvm_start64(f);
    enable_apic(f);
    st_le32(f->s.lapic + ISR + VECTOR / 32 * 16, BIT(VECTOR % 32));
    st_le32(f->s.lapic + TMR + VECTOR / 32 * 16, BIT(VECTOR % 32));
    f->s.rip = WAIT_EOI_HANDLER;
    assert_int_equal(kvmvm_run(f), 8);
    assert_int_equal(f->eois, 1);
    assert_int_equal(f->eoi_vector, VECTOR);
}

GUEST(pae, 32, "mov eax, [0x300000]; mov dx, 0x5f4; out dx, eax; hlt")

/* Registers are loaded before KVMVM_RAM, and with it the page directory pointers. */
static void test_pae_after_load(void **ctx)
{
    enum { PDPT = 0x30000, PD = 0x31000, LARGE = 0x83 };
    struct kvmvm *f = *ctx;

    boot_place_enter32(&f->boot, &f->s, KVMVM_CODE);
    f->s.cr3 = PDPT;
    f->s.cr4 |= CR4_PAE;
    f->s.cr0 |= CR0_PG;
    if (kvmvm_is_emulated()) { /* PVM has no paging outside of long mode, and the state is refused */
        assert_int_equal(vcpu_set_state(f->vm->vcpu[0], &f->s), -ENOTSUP);
        skip();
    }
    assert_int_equal(vcpu_set_state(f->vm->vcpu[0], &f->s), 0);
    LOAD(f, pae);
    st_le64(f->ram.hva + PDPT, PD | 1);
    st_le64(f->ram.hva + PD, LARGE);
    st_le64(f->ram.hva + PD + 8, 2 * MIB | LARGE);
    st_le32(f->ram.hva + 0x300000, 15);
    if (vm_run(f->vm) == VM_END_FAILED)
        fail_msg("%s", f->vm->end_reason);
    assert_int_equal(f->vm->end_status, 15);
}

static void test_nmi(void **ctx)
{
    struct kvmvm *f = *ctx;

    LOAD(f, wait);
    kvmvm_start64(f);
    kvmvm_set_gate(f, X86_NMI, WAIT_HANDLER);
    enable_apic(f);
    in_20_ms(f, fire_nmi);
    assert_int_equal(kvmvm_run(f), 7);
}

static int give_vector(struct vm *vm)
{
    vm_intr(vm, false);
    return VECTOR;
}

static void test_pic(void **ctx)
{
    struct kvmvm *f = *ctx;

    LOAD(f, wait);
    kvmvm_start64(f);
    kvmvm_set_gate(f, VECTOR, WAIT_HANDLER);
    enable_apic(f);
    st_le32(f->s.lapic + 0x350, 0x700); /* LINT0: ExtINT */
    f->vm->inta = give_vector;
    in_20_ms(f, fire_intr);
    assert_int_equal(kvmvm_run(f), 7);
}

static void test_irqfd(void **ctx)
{
    struct kvmvm *f = *ctx;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), other = eventfd(0, EFD_CLOEXEC);

    LOAD(f, wait);
    kvmvm_start64(f);
    kvmvm_set_gate(f, VECTOR, WAIT_HANDLER);
    enable_apic(f);
    assert_int_equal(f->vm->irqchip->irqfd(f->vm, other, MSI_ADDR, 0x60, true), 0);
    assert_int_equal(f->vm->irqchip->irqfd(f->vm, fd, MSI_ADDR, 0x50, true), 0);
    assert_int_equal(f->vm->irqchip->irqfd(f->vm, fd, MSI_ADDR, VECTOR, true), 0);
    assert_int_equal(f->vm->irqchip->irqfd(f->vm, other, 0, 0, false), 0);
    assert_int_equal(f->vm->irqchip->irqfd(f->vm, other, 0, 0, false), -ENOENT);
    f->irqfd = fd;
    in_20_ms(f, fire_irqfd);
    assert_int_equal(kvmvm_run(f), 7);
    assert_int_equal(f->vm->irqchip->irqfd(f->vm, fd, 0, 0, false), 0);
    close(fd);
    close(other);
}

GUEST(bell, 64,
      "mov edi, 0x20000100; mov word ptr [rdi], 3; mov word ptr [rdi+2], 4\n"
      "mov dx, 0x5f4; mov al, 9; out dx, al; hlt")

static void test_doorbell(void **ctx)
{
    struct kvmvm *f = *ctx;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    eventfd_t count;

    LOAD(f, bell);
    kvmvm_start64(f);
    assert_int_equal(vm_doorbell(f->vm, KVMVM_HOLE + 0x100, 2, fd, true), 0);
    assert_int_equal(kvmvm_run(f), 9);
    assert_int_equal(eventfd_read(fd, &count), 0);
    assert_int_equal(count, 1);
    assert_int_equal(f->mmio_off, 0x102); /* the other one arrived by the slow way */
    assert_int_equal(vm_doorbell(f->vm, KVMVM_HOLE + 0x100, 2, fd, false), 0);
    close(fd);
}

GUEST(spin, 64, "1: inc rbx; jmp 1b")

static void stop_loop(struct loop_timer *t)
{
    loop_stop(container_of(t, struct kvmvm, timer)->vm->loop);
}

static void test_kick(void **ctx)
{
    struct kvmvm *f = *ctx;
    uint64_t before = 0;

    LOAD(f, spin);
    kvmvm_start64(f);
    assert_int_equal(vcpu_set_state(f->vm->vcpu[0], &f->s), 0);
    for (unsigned i = 0; i < 20; i++) {
        loop_timer_init(f->vm->loop, &f->timer, stop_loop);
        loop_timer_set(&f->timer, util_monotonic_ns() + 10000000);
        assert_int_equal(vm_run(f->vm), VM_RUNNING);
        assert_int_equal(vcpu_get_state(f->vm->vcpu[0], &f->s), 0);
        assert_true(f->s.gpr[X86_RBX] >= before); /* a busy host may not get to run it */
        before = f->s.gpr[X86_RBX];
    }
    assert_true(before > 0);
}

GUEST(tsc, 64, "rdtsc; shl rdx, 32; or rax, rdx; mov rbx, rax; 1: jmp 1b")

/* The guest's TSC stands while it is paused, and is what the state says. */
static void test_tsc(void **ctx)
{
    struct kvmvm *f = *ctx;
    uint64_t saved, start, latest, khz = clock_tsc_khz(f->vm->clock);

    if (kvmvm_is_emulated())
        skip(); /* PVM executes RDTSC natively, without an offset */
    LOAD(f, tsc);
    kvmvm_start64(f);
    f->s.tsc = 1ull << 40;
    for (unsigned i = 0; i < 3; i++) {
        f->s.rip = KVMVM_CODE;
        assert_int_equal(vcpu_set_state(f->vm->vcpu[0], &f->s), 0);
        saved = f->s.tsc;
        usleep(TSC_PAUSE_MS * 1000);
        loop_timer_init(f->vm->loop, &f->timer, stop_loop);
        start = util_monotonic_ns();
        loop_timer_set(&f->timer, start + 30000000);
        vm_run(f->vm);
        latest = saved + khz * ((util_monotonic_ns() - start) / 1000000 + TSC_SLACK_MS);
        usleep(TSC_PAUSE_MS * 1000);
        assert_int_equal(vcpu_get_state(f->vm->vcpu[0], &f->s), 0);
        assert_in_range(f->s.gpr[X86_RBX], saved, latest);
        assert_in_range(f->s.tsc, f->s.gpr[X86_RBX], latest);
    }
}

GUEST(dirty, 64,
      "mov byte ptr [0x300000], 1; mov byte ptr [0x302fff], 1\n"
      "mov dx, 0x5f4; mov al, 10; out dx, al; hlt")

static void test_dirty_log(void **ctx)
{
    struct kvmvm *f = *ctx;
    uint64_t bits[KVMVM_RAM / PAGE_SIZE / 64];

    LOAD(f, dirty);
    kvmvm_start64(f);
    assert_int_equal(physmap_log_start(&f->vm->mem), 0);
    assert_int_equal(f->vm->accel->ram_map(f->vm, &f->ram), 0);
    assert_int_equal(kvmvm_run(f), 10);
    assert_non_null(guest_ptr(&f->vm->mem, 0x310000, 1, true)); /* a device */
    assert_int_equal(f->vm->accel->dirty_fetch(f->vm, &f->ram, bits), 0);
    assert_true(bitmap_test(bits, 0x300) && bitmap_test(bits, 0x302) && bitmap_test(bits, 0x310));
    assert_false(bitmap_test(bits, 0x301) || bitmap_test(bits, 0x303));
    assert_int_equal(f->vm->accel->dirty_fetch(f->vm, &f->ram, bits), 0);
    assert_false(bitmap_test(bits, 0x300) || bitmap_test(bits, 0x310));
    /* RAM that makes way for something else takes the kernel's log along */
    assert_int_equal(kvmvm_run(f), 10);
    f->vm->accel->ram_unmap(f->vm, &f->ram);
    assert_int_equal(f->vm->accel->dirty_fetch(f->vm, &f->ram, bits), 0);
    assert_true(bitmap_test(bits, 0x300) && bitmap_test(bits, 0x302));
    assert_false(bitmap_test(bits, 0x301) || bitmap_test(bits, 0x310));
    physmap_log_stop(&f->vm->mem);
    assert_int_equal(f->vm->accel->ram_map(f->vm, &f->ram), 0);
}

static void fill_state(struct x86_state *s)
{
    for (unsigned i = 0; i < 16; i++)
        s->gpr[i] = 0x1111111111111111ull * i;
    s->cr2 = 0xdead000;
    s->cr4 |= CR4_OSFXSR | CR4_PGE;
    s->dr[0] = 0x1000;
    s->dr[3] = 0x4000;
    s->star = 0x0023001000000000;
    s->lstar = 0xffffffff81000000;
    s->cstar = 0xffffffff81000100;
    s->sfmask = 0x47700;
    s->kernel_gs_base = 0xffff888000000000;
    s->seg[X86_FS].base = 0x7f0000001000;
    s->seg[X86_GS].base = 0xffff888000001000;
    s->sysenter_cs = 0x10;
    s->sysenter_esp = 0x82000000; /* AMD has 32 bits of it */
    s->sysenter_eip = 0x82000100;
    s->tsc_aux = 3;
    s->efer |= EFER_SCE | EFER_NXE;
    s->mtrr_def_type = 0xc06;
    s->mtrr_fix[0] = 0x0606060606060606;
    s->mtrr_var[1][0] = 0x80000000;
    s->mtrr_var[1][1] = 0xff80000800;
    s->nmi_masked = true;
    s->mp_state = X86_MP_HALTED;
    for (unsigned i = 0; i < 8; i++) /* XMM registers */
        memset(s->xsave + 160 + 16 * i, (int)(0x30 + i), 16);
    s->xsave[512] = 3;
    st_le32(s->lapic + 0xf0, 0x1ff);
    st_le32(s->lapic + 0x320, 0x20040 + 0x10000); /* LVT timer: periodic, masked */
    st_le32(s->lapic + 0x80, 0x20);               /* TPR, and with it CR8 */
    s->cr8 = 2;
}

#define SAME(field) assert_memory_equal(&a->field, &b->field, sizeof(a->field))

static void expect_same(const struct x86_state *a, const struct x86_state *b)
{
    SAME(gpr);
    SAME(rip);
    SAME(rflags);
    for (unsigned i = 0; i < X86_NSREGS; i++) {
        SAME(seg[i].base);
        SAME(seg[i].limit);
        SAME(seg[i].sel);
        SAME(seg[i].attr);
    }
    SAME(tr.attr);
    SAME(gdtr.base);
    SAME(idtr.limit);
    SAME(cr0);
    SAME(cr2);
    SAME(cr3);
    SAME(cr4);
    SAME(cr8);
    SAME(efer);
    SAME(xcr0);
    SAME(dr);
    SAME(star);
    SAME(lstar);
    SAME(cstar);
    SAME(sfmask);
    SAME(kernel_gs_base);
    SAME(sysenter_esp);
    SAME(sysenter_eip);
    SAME(pat);
    SAME(tsc_aux);
    SAME(apic_base);
    SAME(mtrr_def_type);
    SAME(mtrr_fix);
    SAME(mtrr_var);
    SAME(nmi_masked);
    SAME(mp_state);
    for (unsigned i = 0; i < X86_LAPIC_SIZE; i += 16)
        if (i != 0x30 &&
            i != 0xa0) /* the version is the accelerator's own, the PPR follows from others */
            assert_int_equal(ld_le32(a->lapic + i), ld_le32(b->lapic + i));
    assert_memory_equal(a->xsave + 160, b->xsave + 160, 128);
}

static void test_state_round_trip(void **ctx)
{
    struct kvmvm *f = *ctx;
    struct x86_state got;

    kvmvm_start64(f);
    fill_state(&f->s);
    assert_int_equal(vcpu_set_state(f->vm->vcpu[0], &f->s), 0);
    memset(&got, 0xee, sizeof(got));
    assert_int_equal(vcpu_get_state(f->vm->vcpu[0], &got), 0);
    expect_same(&f->s, &got);
}

GUEST(fault, 64, "lidt [rip+fault_none]; ud2; fault_none: .quad 0, 0")

static void test_triple_fault(void **ctx)
{
    struct kvmvm *f = *ctx;

    LOAD(f, fault);
    kvmvm_start64(f);
    assert_int_equal(vcpu_set_state(f->vm->vcpu[0], &f->s), 0);
    assert_int_equal(vm_run(f->vm), VM_END_FAILED);
    assert_non_null(strstr(f->vm->end_reason, "triple fault"));
}

/* ESI: table of {leaf, subleaf, four results}; ends at leaf ~0 */
GUEST(cpuid, 64,
      "mov esi, 0x300000; 1: mov eax, [rsi]; cmp eax, -1; je 2f; mov ecx, [rsi+4]; cpuid\n"
      "mov [rsi+8], eax; mov [rsi+12], ebx; mov [rsi+16], ecx; mov [rsi+20], edx\n"
      "add esi, 24; jmp 1b; 2: mov dx, 0x5f4; mov al, 14; out dx, al; hlt")

/* What CPUID answers a guest, as a table. */
static void ask_cpuid(struct kvmvm *f, uint32_t ask[][2], unsigned n, struct cpuid *seen)
{
    uint32_t *table = (uint32_t *)(void *)(f->ram.hva + 0x300000);

    LOAD(f, cpuid);
    kvmvm_start64(f);
    for (unsigned i = 0; i < n; i++)
        memcpy(table + 6 * i, ask[i], sizeof(ask[i]));
    table[6 * n] = ~0u;
    assert_int_equal(kvmvm_run(f), 14);
    memset(seen, 0, sizeof(*seen));
    for (unsigned i = 0; i < n; i++, table += 6)
        seen->entry[seen->n++] = (struct cpuid_entry){ table[0], table[1], false,   table[2],
                                                       table[3], table[4], table[5] };
}

/* The guest sees the table of its model. */
static void test_cpuid(void **ctx)
{
    uint32_t ask[][2] = {
        { 0, 0 },   { 4, 0 },   { 4, 2 },   { 0xb, 1 },        { 0xd, 2 },
        { 0xd, 5 }, { 0xd, 7 }, { 0xd, 9 }, { 0x80000002, 0 }, { 0x40000000, 0 },
    };
    struct kvmvm *f = *ctx;
    struct cpuid seen;

    ask_cpuid(f, ask, ARRAY_SIZE(ask), &seen);
    for (unsigned i = 0; i < ARRAY_SIZE(ask); i++) {
        uint32_t want[4];

        cpuid_query(&f->vm->cpuid, ask[i][0], ask[i][1], 0, f->s.cr4, f->s.xcr0, want);
        assert_memory_equal(&seen.entry[i].eax, want, sizeof(want));
    }
}

/* And no feature that the table, and so a saved state, does not know of. */
static void test_cpuid_features(void **ctx)
{
    struct kvmvm *f = *ctx;
    uint32_t ask[CPUID_WORDS][2];
    struct cpuid_words want, got;
    struct cpuid seen;
    unsigned reg;

    for (unsigned i = 0; i < CPUID_WORDS; i++)
        cpuid_word_place((enum cpuid_word)i, &ask[i][0], &ask[i][1], &reg);
    ask_cpuid(f, ask, CPUID_WORDS, &seen);
    cpuid_features_of(&f->vm->cpuid, &want);
    cpuid_features_of(&seen, &got);
    for (unsigned i = 0; i < CPUID_WORDS; i++)
        assert_int_equal(got.word[i], want.word[i]);
}

/* Some KVMs emulate neither of these; none emulates SSE arithmetic on a device. */
GUEST(hard, 64,
      "mov rax, cr4; or eax, 0x600; mov cr4, rax\n"
      "xor eax, eax; xor edx, edx; mov ebx, 0x55; mov ecx, 0x66\n"
      "lock cmpxchg16b [0x300000]; jnz 9f; lock cmpxchg16b [0x300000]; jz 9f\n"
      "cmp eax, 0x55; jne 9f; cmp edx, 0x66; jne 9f\n"
      "pxor xmm0, xmm0; mov edi, 0x20000000; paddd xmm0, [rdi]; movq rax, xmm0\n"
      "mov dx, 0x510; out dx, eax; mov al, 12; mov dx, 0x5f4; out dx, al; hlt\n"
      "9: mov al, 1; mov dx, 0x5f4; out dx, al; hlt")

static void test_emulation_failure(void **ctx)
{
    struct kvmvm *f = *ctx;

    LOAD(f, hard);
    kvmvm_start64(f);
    assert_int_equal(kvmvm_run(f), 12);
    assert_int_equal(f->last, 0x55667788);
}

enum { SUM_ROUNDS = 400000, SUM_ADD = 7 };
GUEST(sum, 64,
      "mov rax, cr4; or eax, 0x600; mov cr4, rax; xor eax, eax; mov ebx, 0x10dcd\n"
      "mov edx, 7; movq xmm1, rdx; pxor xmm0, xmm0; mov ecx, 400000\n"
      "1: imul rax, rbx; add rax, rcx; mov [0x300000], rax; push rax; pop rsi\n"
      "paddq xmm0, xmm1; loop 1b\n"
      "movq [0x300008], xmm0; mov dx, 0x5f4; mov al, 13; out dx, al; hlt")

static uint64_t expected_sum(void)
{
    uint64_t sum = 0;

    for (uint64_t i = SUM_ROUNDS; i; i--)
        sum = sum * 0x10dcd + i;
    return sum;
}

/* One guest, handed to and fro between the accelerators in the middle of its work. */
static void test_hand_over(void **ctx)
{
    struct kvmvm *f[2] = { *ctx, kvmvm_create(&accel_bt, 1) };
    const uint64_t slice_ns[2] = { kvmvm_is_emulated() ? 8000000 : 100000, 300000 };
    unsigned now = 0, swaps = 0;

    LOAD(f[0], sum);
    kvmvm_start64(f[0]);
    assert_int_equal(vcpu_set_state(f[0]->vm->vcpu[0], &f[0]->s), 0);
    for (;;) {
        loop_timer_init(f[now]->vm->loop, &f[now]->timer, stop_loop);
        loop_timer_set(&f[now]->timer, util_monotonic_ns() + slice_ns[now]);
        if (vm_run(f[now]->vm) != VM_RUNNING)
            break;
        loop_timer_cancel(&f[now]->timer);
        assert_int_equal(vcpu_get_state(f[now]->vm->vcpu[0], &f[now]->s), 0);
        assert_int_equal(vcpu_set_state(f[!now]->vm->vcpu[0], &f[now]->s), 0);
        memcpy(f[!now]->ram.hva, f[now]->ram.hva, KVMVM_RAM);
        now = !now;
        swaps++;
    }
    if (f[now]->vm->end != VM_END_DEBUG_EXIT)
        fail_msg("after %u swaps: %s", swaps, f[now]->vm->end_reason);
    assert_int_equal(f[now]->vm->end_status, 13);
    assert_int_equal(ld_le64(f[now]->ram.hva + 0x300000), expected_sum());
    assert_int_equal(ld_le64(f[now]->ram.hva + 0x300008), SUM_ROUNDS * SUM_ADD);
    assert_true(swaps > 0);
    print_message("%u swaps\n", swaps);
    kvmvm_destroy(f[1]);
}

GUEST(smp, 64,
      "mov edi, 0xfee00300; mov dword ptr [rdi+0x10], 0x01000000\n"
      "mov dword ptr [rdi], 0x000c4630; 1: pause; cmp byte ptr [0x20000], 0x77; jne 1b\n"
      "mov dx, 0x5f4; mov al, 11; out dx, al; hlt")
GUEST(ap, 16, "mov ax, 0x2000; mov ds, ax; mov byte ptr [0], 0x77; 1: hlt; jmp 1b")

/* A SIPI to page 0x30, where the other processor says that it is there. */
static void test_smp(void **ctx)
{
    struct kvmvm *f = *ctx;

    LOAD(f, ap);
    memcpy(f->ram.hva + 0x30000, f->ram.hva + KVMVM_CODE, 64);
    LOAD(f, smp);
    kvmvm_start64(f);
    enable_apic(f);
    assert_int_equal(kvmvm_run(f), 11);
}

static void test_probe(void **ctx)
{
    const struct accel_ops *accel = NULL;
    struct accel_probe p;
    struct err e = { 0 };
    char reason[200];

    (void)ctx;
    accel_probe(&p);
    assert_int_not_equal(p.kvm, ACCEL_KVM_ABSENT);
    assert_true(p.loop_ns > 0);
    print_message("%s\n", p.reason);
    assert_int_equal(accel_choose("auto", &accel, reason, sizeof(reason), &e), 0);
    assert_ptr_equal(accel, p.kvm == ACCEL_KVM_REAL ? &accel_kvm : &accel_bt);
    assert_int_equal(accel_choose("kvm", &accel, reason, sizeof(reason), &e), 0);
    assert_ptr_equal(accel, p.kvm == ACCEL_KVM_REAL ? &accel_kvm : &accel_bt);
    assert_non_null(strstr(reason, "kvm was asked for"));
    assert_int_equal(accel_choose("kvm-only", &accel, NULL, 0, &e), 0);
    assert_ptr_equal(accel, &accel_kvm);
    assert_int_equal(accel_choose("xen", &accel, reason, sizeof(reason), &e), -EINVAL);
}

/* Events whose delivery was cut short, as KVM shows them then, become such that any accelerator goes on with. */
static void test_events_cut_short(void **ctx)
{
    struct kvmvm *f = *ctx;
    struct vcpu *c = f->vm->vcpu[0];
    struct kvm_vcpu_events nmi = { .nmi = { .injected = 1, .masked = 1 } };
    struct kvm_vcpu_events int3 = { .exception = { .injected = 1, .nr = X86_BP } };
    struct kvm_vcpu_events soft = { .interrupt = { .injected = 1, .nr = 0x80, .soft = 1 } };
    int fd = kvm_vcpu_of(c)->fd;

    if (kvmvm_is_emulated())
        skip(); /* RIP is behind INT3 there */
    LOAD(f, spin);
    kvmvm_start64(f);
    assert_int_equal(vcpu_set_state(c, &f->s), 0);
    assert_int_equal(kvm_ioctl(fd, KVM_SET_VCPU_EVENTS, &nmi), 0);
    assert_int_equal(vcpu_get_state(c, &f->s), 0);
    assert_true(f->s.nmi_pending && !f->s.nmi_masked);
    assert_int_equal(kvm_ioctl(fd, KVM_SET_VCPU_EVENTS, &int3), 0);
    assert_int_equal(vcpu_get_state(c, &f->s), 0);
    assert_false(f->s.exception_pending || f->s.nmi_pending);
    assert_int_equal(kvm_ioctl(fd, KVM_SET_VCPU_EVENTS, &soft), 0);
    assert_int_equal(vcpu_get_state(c, &f->s), 0);
    assert_false(f->s.interrupt_pending);
}

/* KVM's paravirtual MSRs are there only if CPUID says so: asynchronous page faults are not in the state. */
GUEST(pv, 64,
      "mov ecx, 0x4b564d02; xor eax, eax; xor edx, edx; wrmsr\n"
      "mov dx, 0x5f4; mov al, 1; out dx, al; hlt\n"
      ".org pv_start+256; mov dx, 0x5f4; mov al, 12; out dx, al; hlt")

static void test_pv_not_offered(void **ctx)
{
    struct kvmvm *f = *ctx;

    LOAD(f, pv);
    kvmvm_start64(f);
    kvmvm_set_gate(f, X86_GP, KVMVM_CODE + 256);
    assert_int_equal(kvmvm_run(f), 12);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe),
        TEST(test_real_mode),
        TEST(test_protected_mode),
        TEST(test_string_io),
        TEST(test_msi),
        TEST(test_level_msi_eoi),
        TEST(test_eoi_after_load),
        TEST(test_pae_after_load),
        TEST(test_nmi),
        TEST(test_pic),
        TEST(test_irqfd),
        TEST(test_doorbell),
        TEST(test_kick),
        TEST(test_tsc),
        TEST(test_dirty_log),
        TEST(test_state_round_trip),
        TEST(test_triple_fault),
        TEST(test_cpuid),
        TEST(test_cpuid_features),
        TEST(test_emulation_failure),
        TEST(test_events_cut_short),
        TEST(test_pv_not_offered),
        TEST(test_hand_over),
        cmocka_unit_test_setup_teardown(test_smp, setup_smp, teardown),
    };
    struct accel_probe p;

    accel_probe(&p);
    if (p.kvm == ACCEL_KVM_ABSENT) {
        printf("skipped: %zu tests: %s\n", ARRAY_SIZE(tests), p.reason);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
