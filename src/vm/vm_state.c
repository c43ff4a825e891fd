/*
 * vm_state.c: the whole machine through one cursor: header, clock, vCPUs, devices; RAM apart.
 * Format: little-endian sections of state/state.h; the same under every accelerator.
 */
#include "vm/vm.h"

#include <errno.h>
#include <string.h>

#include "vm/pvclock.h"

enum { VM_STATE_VERSION = 1, CLOCK_STATE_VERSION = 1, RAM_STATE_VERSION = 1 };

/* What must be equal on both sides, checked before anything is touched. */
static void vm_state_header(struct vm *vm, struct state *s)
{
    char magic[8] = "ruchevm", model[sizeof(vm->cpuid.model)];
    uint32_t ncpus = vm->nvcpus, regions = vm->mem.n;

    state_begin(s, "machine", "pc", VM_STATE_VERSION);
    state_bytes(s, magic, sizeof(magic));
    state_require(s, !memcmp(magic, "ruchevm", 8), "this is not a machine state");
    memcpy(model, vm->cpuid.model, sizeof(model));
    state_bytes(s, model, sizeof(model));
    state_require(s, !memcmp(model, vm->cpuid.model, sizeof(model)),
                  "saved with another CPU model: give the same --cpu");
    state_u32(s, &ncpus);
    state_require(s, ncpus == vm->nvcpus,
                  "saved with another number of CPUs: give the same --cpus");
    state_u32(s, &regions);
    state_require(s, regions == vm->mem.n, "saved with another memory layout");
    for (unsigned i = 0; i < vm->mem.n; i++) {
        uint64_t gpa = vm->mem.region[i]->gpa, len = vm->mem.region[i]->len;

        state_u64(s, &gpa);
        state_u64(s, &len);
        state_require(s, gpa == vm->mem.region[i]->gpa && len == vm->mem.region[i]->len,
                      "saved with another memory size: give the same --memory");
    }
    state_end(s);
}

static void vm_state_clock(struct vm *vm, struct state *s)
{
    uint64_t now = clock_now_ns(vm->clock), tsc = clock_tsc(vm->clock);
    uint32_t khz = clock_tsc_khz(vm->clock);

    state_begin(s, "clock", "clock", CLOCK_STATE_VERSION);
    state_u64(s, &now);
    state_u64(s, &tsc);
    state_u32(s, &khz);
    state_require(s, now < INT64_MAX, "the clock is absurd");
    state_end(s);
    if (!s->saving && !state_error(s))
        clock_set(vm->clock, now, tsc);
}

static void vm_state_vcpu(struct vcpu *c, struct state *s)
{
    static const char *const digits = "0123456789";
    char id[8] = { 'c', 'p', 'u', digits[c->index / 10], digits[c->index % 10], 0 };
    struct x86_state *x = calloc(1, sizeof(*x));

    state_require(s, x != NULL, "out of memory");
    if (!x)
        return;
    if (s->saving)
        state_require(s, vcpu_get_state(c, x) == 0, "the accelerator cannot give its state");
    x86_state_io(x, s, id);
    if (!s->saving && !state_error(s))
        state_require(s, vcpu_set_state(c, x) == 0, "the accelerator refuses this state");
    free(x);
}

int vm_state(struct vm *vm, struct state *s)
{
    BUG_ON(!vm->paused);
    vm_state_header(vm, s);
    vm_state_clock(vm, s);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        vm_state_vcpu(vm->vcpu[i], s);
    if (!state_error(s))
        device_state_all(vm->devices, s);
    return state_error(s);
}

static bool vm_page_is_zero(const uint8_t *p)
{
    return p[0] == 0 && !memcmp(p, p + 1, PAGE_SIZE - 1);
}

/* Pages that are not zero, as {page number, contents}, ended by ~0. Loading clears the others. */
static void vm_ram_region_state(struct ram_region *r, struct state *s)
{
    uint64_t pages = r->len >> PAGE_SHIFT, page, next = 0;

    state_begin(s, "ram", r->name, RAM_STATE_VERSION);
    for (page = 0; s->saving && page < pages; page++) {
        uint8_t *p = r->hva + (page << PAGE_SHIFT);

        if (vm_page_is_zero(p))
            continue;
        state_u64(s, &page);
        state_bytes(s, p, PAGE_SIZE);
    }
    page = ~0ull;
    state_u64(s, &page);
    if (!s->saving)
        memset(r->hva, 0, r->len);
    while (!s->saving && page != ~0ull && !state_error(s)) {
        state_require(s, page >= next && page < pages, "a RAM page is out of range");
        if (state_error(s))
            break;
        state_bytes(s, r->hva + (page << PAGE_SHIFT), PAGE_SIZE);
        next = page + 1;
        state_u64(s, &page);
    }
    state_end(s);
}

void vm_ram_state(struct vm *vm, struct state *s)
{
    BUG_ON(!vm->paused);
    for (unsigned i = 0; i < vm->mem.n; i++)
        if (!vm->mem.region[i]->readonly)
            vm_ram_region_state(vm->mem.region[i], s);
}
