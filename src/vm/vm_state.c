/*
 * vm_state.c: the whole machine through one cursor: header, clock, vCPUs, devices; RAM apart.
 * Format: little-endian sections of state/state.h; the same under every accelerator.
 *
 * A load goes over the whole stream's shape first: what was cut short, is newer or belongs to another
 * machine is refused while the VM is still as it was. A lie inside a section is found only when it is
 * applied; then the VM is marked, and does not run until it was reset or loaded again.
 *
 * Not in it: what lives outside of the guest. Connections through user networking and what the serial
 * line has not yet written are gone; disks are the caller's.
 */
#include "vm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vm/pvclock.h"

enum { VM_STATE_VERSION = 3, VM_STATE_OLDEST = 2, CLOCK_STATE_VERSION = 1, RAM_STATE_VERSION = 1 };

/* The CPU that the guest has seen: the processor here must be able to go on as it. */
static void vm_state_cpu(struct vm *vm, struct state *s)
{
    char model[sizeof(vm->cpuid.model)], vendor[sizeof(vm->cpuid.vendor)], names[160];
    struct cpuid_words need;
    uint32_t phys_bits = vm->cpuid.phys_bits;

    memcpy(model, vm->cpuid.model, sizeof(model));
    memcpy(vendor, vm->cpuid.vendor, sizeof(vendor));
    cpuid_features_of(&vm->cpuid, &need);
    state_bytes(s, model, sizeof(model));
    state_bytes(s, vendor, sizeof(vendor));
    state_u32(s, &phys_bits);
    for (unsigned i = 0; i < (state_version(s) < 3 ? CPUID_7_2_EDX : CPUID_WORDS); i++)
        state_u32(s, &need.word[i]);
    model[sizeof(model) - 1] = '\0';
    state_require(s, !memcmp(vendor, vm->cpuid.vendor, sizeof(vendor)),
                  "saved on a CPU of another vendor");
    state_require(s, phys_bits <= vm->cpuid.phys_bits,
                  "saved on a CPU with more bits of physical address");
    if (!state_error(s) && cpuid_lacks(&vm->cpuid, &need, names, sizeof(names))) {
        char what[sizeof(s->what)];

        snprintf(
            what, sizeof(what),
            "saved with CPU features that this VM does not have:%s; give the same --cpu (%.31s), "
            "on a CPU and an accelerator that have them",
            names, model);
        state_require(s, false, what);
    }
}

/* What must be equal on both sides, checked before anything is touched. */
static void vm_state_header(struct vm *vm, struct state *s)
{
    char magic[8] = "ruchevm";
    uint32_t ncpus = vm->nvcpus, regions = vm->mem.n;

    state_begin(s, "machine", "pc", VM_STATE_VERSION);
    state_bytes(s, magic, sizeof(magic));
    state_require(s, !memcmp(magic, "ruchevm", 8), "this is not a machine state");
    state_require(s, s->saving || state_error(s) || state_version(s) >= VM_STATE_OLDEST,
                  "saved by an older version, whose states do not tell the CPU's features");
    vm_state_cpu(vm, s);
    state_u32(s, &ncpus);
    state_require(s, ncpus == vm->nvcpus,
                  "saved with another number of CPUs: give the same --cpus");
    state_u32(s, &regions);
    state_require(s, regions == vm->mem.n, "saved with another memory layout");
    for (unsigned i = 0; i < vm->mem.n; i++) {
        const struct ram_region *r = vm->mem.region[i];
        uint64_t at = r->moves ? 0 : r->gpa, gpa = at, len = r->len;

        state_u64(s, &gpa);
        state_u64(s, &len);
        state_require(s, gpa == at && len == r->len,
                      "saved with another memory size: give the same --memory");
    }
    state_end(s);
}

/*
 * What the guest's TSC would be without TSC_ADJUST. An accelerator that cannot move the TSC (an emulated
 * KVM) has another one than our clock; whoever loads this gives the guest the one it had.
 */
static uint64_t vm_state_tsc(struct vm *vm, struct state *s)
{
    struct x86_state *x = calloc(1, sizeof(*x));
    uint64_t tsc = 0;

    state_require(s, x && vcpu_get_state(vm->vcpu[0], x) == 0,
                  "the accelerator cannot give its state");
    if (x)
        tsc = x->tsc - x->tsc_adjust;
    free(x);
    return tsc;
}

static void vm_state_clock(struct vm *vm, struct state *s)
{
    uint64_t now = clock_now_ns(vm->clock), tsc = s->saving ? vm_state_tsc(vm, s) : 0;
    uint32_t khz = clock_tsc_khz(vm->clock);

    state_begin(s, "clock", "clock", CLOCK_STATE_VERSION);
    state_u64(s, &now);
    state_u64(s, &tsc);
    state_u32(s, &khz);
    state_require(s, now < INT64_MAX / 4, "the clock is absurd"); /* 73 years */
    state_end(s);
    if (s->saving || state_error(s))
        return;
    state_require(s, clock_set_tsc_khz(vm->clock, khz) == 0,
                  "saved on a host whose TSC has another frequency");
    clock_set(vm->clock, now, tsc);
}

struct vcpu_id {
    char text[8];
};

static struct vcpu_id vm_state_vcpu_id(const struct vcpu *c)
{
    return (struct vcpu_id){ { 'c', 'p', 'u', (char)('0' + c->index / 10),
                               (char)('0' + c->index % 10), 0 } };
}

static void vm_state_vcpu(struct vcpu *c, struct state *s)
{
    struct vcpu_id id = vm_state_vcpu_id(c);
    struct x86_state *x = calloc(1, sizeof(*x));

    state_require(s, x != NULL, "out of memory");
    if (!x)
        return;
    if (s->saving)
        state_require(s, vcpu_get_state(c, x) == 0, "the accelerator cannot give its state");
    x86_state_io(x, s, id.text);
    if (!s->saving && !state_error(s))
        state_require(s, vcpu_set_state(c, x) == 0, "the accelerator refuses this state");
    free(x);
}

/* Is every section of the machine there, whole and not too new? Then back to where the cursor was. */
static void vm_state_scan(struct vm *vm, struct state *s)
{
    size_t start = s->pos;

    vm_state_header(vm, s);
    state_begin(s, "clock", "clock", CLOCK_STATE_VERSION);
    state_skip(s);
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        state_begin(s, X86_STATE_TYPE, vm_state_vcpu_id(vm->vcpu[i]).text, X86_STATE_VERSION);
        state_skip(s);
    }
    for (const struct device *d = vm->devices; d; d = d->next) {
        state_begin(s, d->ops->type, d->id, d->ops->version);
        state_skip(s);
    }
    s->pos = start;
}

int vm_state(struct vm *vm, struct state *s)
{
    BUG_ON(!vm->paused);
    if (state_loading(s)) {
        vm_state_scan(vm, s);
        if (state_error(s))
            return state_error(s);
        vm->half_loaded = true;
    }
    vm_state_header(vm, s);
    vm_state_clock(vm, s);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vm_state_vcpu(vm->vcpu[i], s);
    if (!state_error(s))
        device_state_all(vm->devices, s);
    if (state_loading(s) && vm->layout)
        vm->layout(vm);
    if (!state_error(s))
        vm->half_loaded = false;
    return state_error(s);
}

static bool vm_page_is_zero(const uint8_t *p)
{
    return p[0] == 0 && !memcmp(p, p + 1, PAGE_SIZE - 1);
}

/* Pages that are not zero, as {page number, contents}, ended by ~0. */
static void vm_ram_save(struct ram_region *r, struct state *s)
{
    uint64_t end = ~0ull;

    for (uint64_t page = 0; page < r->len >> PAGE_SHIFT; page++) {
        uint8_t *p = r->hva + (page << PAGE_SHIFT);

        if (vm_page_is_zero(p))
            continue;
        state_u64(s, &page);
        state_bytes(s, p, PAGE_SIZE);
    }
    state_u64(s, &end);
}

/* By its host address, because it may be hidden. A VM that ran before forgets what it translated. */
static void vm_ram_put(struct vm *vm, struct ram_region *r, uint64_t page, const uint8_t *data)
{
    uint64_t off = page << PAGE_SHIFT;

    memcpy(r->hva + off, data, PAGE_SIZE);
    guest_region_written(&vm->mem, r, off, PAGE_SIZE);
}

static void vm_ram_clear(struct vm *vm, struct ram_region *r, uint64_t from, uint64_t to)
{
    static const uint8_t zero[PAGE_SIZE];

    for (uint64_t page = from; page < to; page++)
        if (!vm_page_is_zero(r->hva + (page << PAGE_SHIFT))) /* holes stay holes */
            vm_ram_put(vm, r, page, zero);
}

static void vm_ram_load(struct vm *vm, struct ram_region *r, struct state *s)
{
    uint64_t pages = r->len >> PAGE_SHIFT, page = ~0ull, next = 0;
    uint8_t buf[PAGE_SIZE];

    for (state_u64(s, &page); page != ~0ull && !state_error(s); state_u64(s, &page)) {
        state_require(s, page >= next && page < pages, "a RAM page is out of range");
        state_bytes(s, buf, sizeof(buf));
        if (state_error(s))
            return;
        vm_ram_clear(vm, r, next, page);
        vm_ram_put(vm, r, page, buf);
        next = page + 1;
    }
    if (!state_error(s))
        vm_ram_clear(vm, r, next, pages);
}

static void vm_ram_scan(struct vm *vm, struct state *s)
{
    size_t start = s->pos;

    for (unsigned i = 0; i < vm->mem.n; i++) {
        if (vm->mem.region[i]->rom)
            continue;
        state_begin(s, "ram", vm->mem.region[i]->name, RAM_STATE_VERSION);
        state_skip(s);
    }
    s->pos = start;
}

void vm_ram_state(struct vm *vm, struct state *s)
{
    BUG_ON(!vm->paused);
    if (state_loading(s)) {
        vm_ram_scan(vm, s);
        vm->half_loaded = true; /* the machine was loaded before: without its RAM it is nothing */
    }
    for (unsigned i = 0; i < vm->mem.n && !state_error(s); i++) {
        struct ram_region *r = vm->mem.region[i];

        if (r->rom)
            continue;
        state_begin(s, "ram", r->name, RAM_STATE_VERSION);
        if (s->saving)
            vm_ram_save(r, s);
        else
            vm_ram_load(vm, r, s);
        state_end(s);
    }
    if (state_loading(s))
        vm->half_loaded = state_error(s) != 0;
}
