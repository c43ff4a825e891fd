/*
 * bt_run.c: the run loop of the interpreter and the accelerator made of it (struct accel_ops accel_bt).
 *
 * Blocks chain to each other without coming back here; they do come back for faults, events, kicks, mode
 * changes and code that is not decoded yet. Single steps, instruction breakpoints and the one instruction
 * under an interrupt shadow run as blocks of one instruction.
 */
#include <cpuid.h>
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "accel/bt/bt_block.h"
#include "accel/bt/bt_code.h"
#include "accel/bt/bt_form.h"
#include "accel/bt/bt_jit.h"
#include "accel/bt/bt_native.h"
#include "accel/bt/bt_sys.h"
#include "base/bitmap.h"
#include "base/clock.h"
#include "base/pages.h"

enum { BT_STACK_BOUND = 64 * KIB }; /* of chained blocks */

/* --- mode --- */
/* A writable data segment of 4 GiB? Its base is another matter. */
static bool bt_mode_whole(const struct x86_seg *s)
{
    const unsigned looked = SEG_UNUSABLE | SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_DC;

    return (s->attr & looked) == (SEG_P | SEG_S | SEG_RW) && s->limit == ~0u;
}

/* Protected 32-bit code whose offsets are linear addresses: what the translator knows of segments. */
static uint32_t bt_mode_flat_key(const struct bt_cpu *c)
{
    const struct x86_seg *seg = c->s.seg;
    uint32_t key = BT_KEY_FLAT;

    if (seg[X86_CS].base || seg[X86_CS].limit != ~0u || c->stack_size != 4)
        return 0;
    for (unsigned i = X86_ES; i <= X86_DS; i++)
        if (i != X86_CS && (seg[i].base || !bt_mode_whole(&seg[i])))
            return 0;
    if (bt_mode_whole(&seg[X86_FS]))
        key |= BT_KEY_FS;
    if (bt_mode_whole(&seg[X86_GS]))
        key |= BT_KEY_GS;
    return key;
}

/* What translated code is for, apart from its size. */
static uint32_t bt_mode_jit_key(const struct bt_cpu *c)
{
    const uint64_t avx = XCR0_SSE | XCR0_AVX;
    const uint64_t avx512 = avx | XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM;
    const struct x86_state *s = &c->s;
    bool vector = (s->cr4 & CR4_OSXSAVE) && !(s->cr0 & CR0_TS);
    uint32_t key = 0;

    if (c->cpl < 3)
        key |= BT_KEY_SUPER;
    else if ((s->cr0 & CR0_AM) && (s->rflags & FLAG_AC))
        key |= BT_KEY_SLOW;
    if (c->cpl == 1 || c->cpl == 2)
        key |= BT_KEY_SLOW;
    if (s->cr4 & CR4_SMAP)
        key |= BT_KEY_SMAP;
    if (c->cpl == 0 || !(s->cr4 & CR4_TSD))
        key |= BT_KEY_TSC;
    if ((s->cr4 & CR4_OSFXSR) && !(s->cr0 & (CR0_EM | CR0_TS)))
        key |= BT_KEY_SSE;
    if (vector && (s->xcr0 & avx) == avx)
        key |= BT_KEY_AVX;
    if (vector && (s->xcr0 & avx512) == avx512)
        key |= BT_KEY_AVX512;
    return key | bt_fpu_key(c);
}

void bt_mode_changed(struct bt_cpu *c)
{
    const struct x86_state *s = &c->s;
    bool big = (s->cr0 & CR0_PE) && !(s->rflags & FLAG_VM);

    c->long_mode = x86_long_mode(s);
    c->paging = s->cr0 & CR0_PG;
    c->cpl = (uint8_t)x86_cpl(s);
    if (x86_code64(s)) {
        c->code_size = c->stack_size = 8;
    } else { /* a big segment stays big in real mode until it is loaded again */
        c->code_size = (s->seg[X86_CS].attr & SEG_DB) ? 4 : 2;
        c->stack_size = (s->seg[X86_SS].attr & SEG_DB) ? 4 : 2;
    }
    c->flat = c->code_size == 8;
    if (c->cpl == 3)
        c->mmu = BT_MMU_USER;
    else
        c->mmu = (s->cr4 & CR4_SMAP) && !(s->rflags & FLAG_AC) ? BT_MMU_SUPER : BT_MMU_SUPER_AC;
    c->code_key = c->code_size | (uint32_t)c->stack_size << BT_KEY_STACK_SHIFT |
                  (big ? 0 : (uint32_t)BT_KEY_REAL) | bt_mode_jit_key(c);
    if (c->flat)
        c->code_key |= BT_KEY_FLAT;
    else if (big && c->code_size == 4)
        c->code_key |= bt_mode_flat_key(c);
    if (s->rflags & FLAG_IF)
        c->event_window = true;
}

void bt_skip(struct bt_cpu *c, const struct bt_insn *in)
{
    uint64_t rip = bt_rip(c, in) + in->len;

    c->s.rip = c->code_size == 8 ? rip : (uint32_t)rip;
}

/* --- run loop --- */

/* Runs from c->s.rip until something needs the loop: enum bt_ret. */
static int bt_execute(struct bt_cpu *c, bool one)
{
    int ret = 0;
    struct bt_block *b = bt_block_find(c, one, &ret);

    return b ? bt_enter(c, b, c->s.rip) : ret;
}

/* One instruction, with breakpoints, TF and interrupt shadows. */
static int bt_step(struct bt_cpu *c)
{
    bool tf = c->s.rflags & FLAG_TF;
    int ret = bt_debug_before(c);

    if (ret)
        return ret;
    if (c->s.shadow_sti || c->s.shadow_mov_ss)
        c->event_window = true;
    c->s.shadow_sti = c->s.shadow_mov_ss = false; /* they last for this instruction */
    ret = bt_execute(c, true);
    if (ret == BT_NEXT || ret == BT_JUMP || ret == BT_HALT) {
        int trap = bt_debug_after(c, tf);

        return trap ? trap : ret;
    }
    return ret;
}

static bool bt_must_step(const struct bt_cpu *c)
{
    return c->s.shadow_sti || c->s.shadow_mov_ss || (c->s.rflags & FLAG_TF) || c->single ||
           bt_debug_armed(c);
}

/* A debugger's single step should not end in the timer's handler each time; in a HLT it may. */
static bool bt_step_holds_irqs(const struct bt_cpu *c)
{
    return bt_debugged(c) && c->debug_step && !c->vcpu->debug.step_irqs &&
           !c->s.exception_pending && !c->s.interrupt_pending && c->s.mp_state == X86_MP_RUNNING;
}

/* Events first, then guest code: enum bt_ret. */
static int bt_turn(struct bt_cpu *c)
{
    bool shadow = c->s.shadow_sti || c->s.shadow_mov_ss;
    int ret;

    if (c->event_window && !shadow && !bt_step_holds_irqs(c)) {
        ret = bt_deliver_events(c);
        if (ret || c->debug_hit)
            return ret;
    }
    if (unlikely(c->s.mp_state != X86_MP_RUNNING)) {
        c->exit = RUN_HALT;
        return BT_EXIT;
    }
    if (unlikely(bt_must_step(c)))
        return bt_step(c);
    c->s.rflags &= ~(uint64_t)FLAG_RF; /* no breakpoint to suppress */
    return bt_execute(c, false);
}

static enum run_exit bt_loop(struct bt_cpu *c)
{
    c->stack_bound = (uintptr_t)__builtin_frame_address(0) - BT_STACK_BOUND;
    c->event_window = c->intr_check = c->nmi_check = true;
    for (;;) {
        int ret;

        if (bt_kicked(c)) {
            /* One kick can stand for several: whoever set it wrote down before what it is for. */
            atomic_exchange(&c->kick, false);
            bt_tlb_serve(c);
            return RUN_KICKED;
        }
        ret = bt_turn(c);
        if (ret == BT_FAULT && c->split.retry)
            c->split.retry = false;
        else if (ret == BT_FAULT || ret == BT_TRAP)
            ret = bt_deliver_exception(c);
        if (ret == BT_EXIT)
            return c->exit;
        if (ret == BT_HALT)
            c->event_window = true;
        if (c->single)
            return RUN_KICKED;
        if (bt_debugged(c) && bt_debugger_stops(c))
            return RUN_DEBUG;
    }
}

/* --- the processor --- */
enum { BT_CPU_BYTES = (sizeof(struct bt_jit_cpu) + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE };

struct bt_cpu *bt_cpu_create(struct vcpu *v, struct err *e)
{
    struct bt_jit_cpu *whole = pages_alloc(BT_CPU_BYTES, 0);
    struct bt_cpu *c;

    if (!whole)
        return err_oom(e);
    c = &whole->cpu;
    c->vcpu = v;
    c->vm = v->vm;
    c->mem = &v->vm->mem;
    if (bt_native_init(c, e))
        goto fail;
    if (bt_mem_create(c)) {
        err_oom(e);
        goto fail;
    }
    if (bt_cache_create(&c->cache, e))
        goto fail;
    c->forms = bt_forms_create();
    if (!c->forms) {
        err_oom(e);
        goto fail;
    }
    if (bt_code_of(c->vm) && bt_jit_create(c, e))
        goto fail;
    x86_state_reset(&c->s, v->apic_id, v->index == 0);
    bt_sys_state_loaded(c);
    return c;
fail:
    bt_cpu_destroy(c);
    return NULL;
}

void bt_cpu_destroy(struct bt_cpu *c)
{
    if (!c)
        return;
    bt_jit_destroy(c);
    bt_forms_destroy(c->forms);
    bt_cache_destroy(c->cache);
    bt_mem_destroy(c);
    bt_native_fini(c);
    pages_free((uint8_t *)c - offsetof(struct bt_jit_cpu, cpu), BT_CPU_BYTES, 0);
}

static void bt_load(struct bt_cpu *c, const struct x86_state *s)
{
    bt_fpu_store(c);
    c->s = *s;
    c->block = NULL;
    bt_sys_state_loaded(c);
}

enum run_exit bt_step_one(struct bt_cpu *c, struct x86_state *s)
{
    enum run_exit why;

    bt_load(c, s);
    bt_sys_enter(c);
    atomic_store(&c->kick, false);
    c->single = true;
    why = bt_loop(c);
    c->single = false;
    bt_fpu_store(c);
    bt_sys_state_store(c);
    *s = c->s;
    return why;
}

/* --- struct accel_ops --- */
static void bt_on_code_written(void *opaque, uint64_t gpa, uint64_t len)
{
    bt_code_written(opaque, gpa, len);
}

static int bt_vm_init(struct vm *vm, struct err *e)
{
    struct bt_code *code;
    int rc = bt_code_create(vm, &code, e);

    if (rc)
        return rc;
    vm->accel_data = code;
    vm->mem.code_written = bt_on_code_written;
    vm->mem.opaque = vm;
    return 0;
}

static void bt_vm_fini(struct vm *vm)
{
    vm->mem.code_written = NULL;
    bt_code_destroy(vm->accel_data);
    vm->accel_data = NULL;
}

static void bt_limits(struct vm *vm, struct cpuid_limits *l)
{
    uint32_t eax, ebx, ecx, edx;
    uint64_t xcr0 = 0;

    __cpuid_count(1, 0, eax, ebx, ecx, edx);
    if (ecx & bit_OSXSAVE) {
        uint32_t lo, hi;

        __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
        xcr0 = lo | (uint64_t)hi << 32;
    }
    __cpuid_count(7, 0, eax, ebx, ecx, edx); /* PKU: the layout of XSAVE's PKRU is the host's */
    *l = (struct cpuid_limits){
        .tsc_deadline = true,
        .x2apic = true,
        .kvm_pv = true,
        .pcid = true,
        .invpcid = true,
        .smap = true,
        .smep = true,
        .umip = true,
        .fsgsbase = true,
        .pku = xcr0 && (ecx & bit_PKU),
        .xsave = xcr0 != 0,
        .avx = xcr0 & XCR0_AVX,
        .avx512 = xcr0 & XCR0_ZMM_HI256,
        .isolated = true,
        .tsc_khz = clock_tsc_khz(vm->clock),
    };
}

static int bt_vcpu_init(struct vcpu *v, struct err *e)
{
    v->accel = bt_cpu_create(v, e);
    return v->accel ? 0 : e ? -e->code : -ENOMEM;
}

static void bt_vcpu_fini(struct vcpu *v)
{
    bt_cpu_destroy(v->accel);
    v->accel = NULL;
}

static enum run_exit bt_run(struct vcpu *v)
{
    struct bt_cpu *c = v->accel;
    enum run_exit why;

    bt_sys_enter(c);
    why = bt_loop(c);
    bt_fpu_store(c);
    return why;
}

static void bt_kick(struct vcpu *v)
{
    struct bt_cpu *c = v->accel;

    atomic_store(&c->kick, true);
    bt_jit_kick(c);
}

static int bt_get_state(struct vcpu *v, struct x86_state *s)
{
    struct bt_cpu *c = v->accel;

    bt_sys_state_store(c);
    *s = c->s;
    return 0;
}

static int bt_set_state(struct vcpu *v, const struct x86_state *s)
{
    bt_load(v->accel, s);
    return 0;
}

/* Asks every vCPU (BT_TLB_REQ_*); all: and waits until those that are running have done so. */
static void bt_flush_vcpus(struct vm *vm, unsigned what, bool all)
{
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (vm->vcpu[i] && vm->vcpu[i]->accel)
            bt_tlb_request(vm->vcpu[i]->accel, what);
    for (unsigned i = 0; all && i < vm->nvcpus; i++)
        while (vm->vcpu[i] && vm->vcpu[i]->accel && atomic_load(&vm->vcpu[i]->in_run) &&
               bt_tlb_request_pending(vm->vcpu[i]->accel))
            sched_yield();
}

static int bt_ram_map(struct vm *vm, struct ram_region *r)
{
    int rc = bt_code_map(vm->accel_data, r);

    bt_flush_vcpus(vm, BT_TLB_REQ_FLUSH | BT_TLB_REQ_STALE, false);
    return rc;
}

/* What was decoded of it is kept until bt_vm_fini(): blocks point to its pages' versions. */
static void bt_ram_unmap(struct vm *vm, struct ram_region *r)
{
    (void)r;
    bt_flush_vcpus(vm, BT_TLB_REQ_FLUSH, false);
}

/*
 * Bits are taken first and TLBs dropped second: a write through an old tag_w in between belongs to a page
 * whose bit was taken, and is there once the caller copies the page.
 */
static int bt_dirty_fetch(struct vm *vm, struct ram_region *r, uint64_t *bits)
{
    size_t words = bitmap_words(r->len >> PAGE_SHIFT);

    if (!r->dirty)
        return -EINVAL;
    for (size_t i = 0; i < words; i++)
        bits[i] = __atomic_exchange_n(&r->dirty[i], 0, __ATOMIC_ACQ_REL);
    bt_flush_vcpus(vm, BT_TLB_REQ_FLUSH, true);
    return 0;
}

const struct accel_ops accel_bt = {
    .name = "bt",
    .limits = bt_limits,
    .vm_init = bt_vm_init,
    .vm_fini = bt_vm_fini,
    .vcpu_init = bt_vcpu_init,
    .vcpu_fini = bt_vcpu_fini,
    .run = bt_run,
    .kick = bt_kick,
    .get_state = bt_get_state,
    .set_state = bt_set_state,
    .ram_map = bt_ram_map,
    .ram_unmap = bt_ram_unmap,
    .dirty_fetch = bt_dirty_fetch,
    .set_debug = bt_debugger_set,
};
