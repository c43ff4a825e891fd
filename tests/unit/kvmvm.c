#include "kvmvm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

#include "accel/accel.h"
#include "base/endian.h"

static uint64_t kvmvm_echo_read(struct device *d, uint64_t off, unsigned size)
{
    (void)off;
    (void)size;
    return container_of(d, struct kvmvm, dev)->last + 1;
}

static void kvmvm_echo_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct kvmvm *f = container_of(d, struct kvmvm, dev);

    (void)off;
    (void)size;
    f->last = val;
    if (f->writes < sizeof(f->log))
        f->log[f->writes] = (uint8_t)val;
    f->writes++;
}

static void kvmvm_exit_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)off;
    (void)size;
    vm_debug_exit(d->vm, (int)val);
}

static uint64_t kvmvm_hole_read(struct device *d, uint64_t off, unsigned size)
{
    (void)d;
    (void)size;
    return 0x1122334455667788 + off;
}

static void kvmvm_hole_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct kvmvm *f = container_of(d, struct kvmvm, dev);

    (void)size;
    f->mmio_off = off;
    f->mmio_last = val;
}

static void kvmvm_on_eoi(struct vm *vm, uint8_t vector)
{
    struct kvmvm *f = container_of(vm->cfg, struct kvmvm, cfg);

    f->eois++;
    f->eoi_vector = vector;
}

static const struct io_ops kvmvm_echo_io = { kvmvm_echo_read, kvmvm_echo_write, 1, 4 };
static const struct io_ops kvmvm_exit_io = { NULL, kvmvm_exit_write, 1, 4 };
static const struct io_ops kvmvm_hole_io = { kvmvm_hole_read, kvmvm_hole_write, 1, 8 };

struct kvmvm *kvmvm_create(const struct accel_ops *accel, unsigned cpus)
{
    struct kvmvm *f = calloc(1, sizeof(*f));
    struct err e = { 0 };

    assert_non_null(f);
    config_init(&f->cfg);
    f->cfg.cpus = cpus;
    if (vm_create(&f->vm, &f->cfg, accel, &e))
        fail_msg("%s", e.msg);
    pthread_mutex_init(&f->dev.lock, NULL);
    f->dev.vm = f->vm;
    f->dev.id = "test";
    assert_int_equal(bus_claim(&f->vm->pio, KVMVM_PORT_ECHO, 4, &kvmvm_echo_io, &f->dev, &e), 0);
    assert_int_equal(bus_claim(&f->vm->pio, KVMVM_PORT_EXIT, 4, &kvmvm_exit_io, &f->dev, &e), 0);
    assert_int_equal(bus_claim(&f->vm->mmio, KVMVM_HOLE, PAGE_SIZE, &kvmvm_hole_io, &f->dev, &e),
                     0);
    assert_int_equal(ram_alloc(&f->ram, "low", 0, KVMVM_RAM, &e), 0);
    assert_int_equal(physmap_add(&f->vm->mem, &f->ram), 0);
    if (vm_create_vcpus(f->vm, &e))
        fail_msg("%s", e.msg);
    f->vm->eoi = kvmvm_on_eoi;
    f->place.base = KVMVM_BOOT_AREA;
    f->boot.place = &f->place;
    f->boot.mem = &f->vm->mem;
    x86_state_reset(&f->s, 0, true);
    return f;
}

void kvmvm_destroy(struct kvmvm *f)
{
    vm_destroy(f->vm);
    ram_free(&f->ram);
    pthread_mutex_destroy(&f->dev.lock);
    config_fini(&f->cfg);
    free(f);
}

void kvmvm_load(struct kvmvm *f, const char *start, const char *end)
{
    memcpy(f->ram.hva + KVMVM_CODE, start, (size_t)(end - start));
}

void kvmvm_start64(struct kvmvm *f)
{
    boot_place_enter64(&f->boot, &f->s, KVMVM_CODE);
    f->s.gpr[X86_RSP] = KVMVM_STACK;
}

int kvmvm_run(struct kvmvm *f)
{
    assert_int_equal(vcpu_set_state(f->vm->vcpu[0], &f->s), 0);
    if (vm_run(f->vm) == VM_END_FAILED)
        fail_msg("%s", f->vm->end_reason);
    assert_int_equal(f->vm->end, VM_END_DEBUG_EXIT);
    return f->vm->end_status;
}

void kvmvm_set_gate(struct kvmvm *f, unsigned vector, uint64_t handler)
{
    uint8_t *gate = f->ram.hva + KVMVM_IDT + 16 * vector;

    st_le32(gate, (uint32_t)(0x10 << 16 | (handler & 0xffff)));
    st_le32(gate + 4, (uint32_t)((handler & 0xffff0000) | 0x8e00));
    st_le64(gate + 8, 0);
    f->s.idtr = (struct x86_dtable){ KVMVM_IDT, 0xfff };
}

bool kvmvm_is_emulated(void)
{
    struct accel_probe p;

    accel_probe(&p);
    return p.kvm == ACCEL_KVM_EMULATED;
}
