/*
 * machine_pc_control.c: what the control socket does to the `pc` machine, beyond its screen.
 */
#include "vm/machine_pc_priv.h"

#include <errno.h>

#include "base/endian.h"
#include "chardev/chardev.h"
#include "display/input.h"
#include "hw/acpi_pm.h"
#include "mem/guest.h"

/* The BIOS data area's ring of keys (IBM PC/AT technical reference): 15 of two bytes. */
enum {
    PC_BDA_KEY_HEAD = 0x41a, /* and the tail behind it: offsets from 0x400 */
    PC_BDA_KEYS = 0x1e,
    PC_BDA_KEYS_END = 0x3e,
    PC_BDA_KEYS_ROOM = 8, /* of keys: well below the end, where a BIOS drops one */
};
#define PC_BIOS_PATIENCE_NS 3000000000ull

void machine_pc_power_button(struct vm *vm)
{
    acpi_pm_press_power(vm->machine->pm);
}

void machine_pc_keep_serial(struct vm *vm, struct tail_file *f)
{
    chardev_keep(vm->machine->serial, f);
}

static bool pc_is_key_offset(unsigned at)
{
    return at >= PC_BDA_KEYS && at < PC_BDA_KEYS_END && at % 2 == 0;
}

/* Keys that a BIOS keeps in flags instead: shift, control, alt, on both sides, and the locks. */
static bool pc_is_modifier(uint8_t key)
{
    static const uint8_t modifiers[] = { 0x1d, 0x2a, 0x36, 0x38, 0x3a, 0x45, 0x46, 0x9d, 0xb8 };

    for (size_t i = 0; i < ARRAY_SIZE(modifiers); i++)
        if (modifiers[i] == key)
            return true;
    return false;
}

/* Room for keys in the ring, whose tail goes to *tail; no limit if there is none. */
static unsigned pc_bios_keys(struct vm *vm, uint16_t *tail)
{
    const unsigned len = PC_BDA_KEYS_END - PC_BDA_KEYS;
    uint8_t ring[4];
    unsigned head;

    *tail = 0;
    if (!vm->cfg->firmware || !guest_read(&vm->mem, PC_BDA_KEY_HEAD, ring, sizeof(ring)))
        return 0;
    head = ld_le16(ring);
    *tail = ld_le16(ring + 2);
    if (!pc_is_key_offset(head) || !pc_is_key_offset(*tail))
        return 0;
    return (*tail + len - head) % len / 2;
}

/* Is a system at work that has left the BIOS behind? */
static bool pc_guest_has_paging(struct vm *vm)
{
    struct x86_state *s = malloc(sizeof(*s));
    bool paging = false;

    if (s && !vm->paused) {
        vm_pause(vm);
        paging = !vcpu_get_state(vm->vcpu[0], s) && (s->cr0 & CR0_PG);
        vm_resume(vm);
    }
    free(s);
    return paging;
}

/*
 * A BIOS takes a key at once and keeps it for whoever asks, and drops what does not fit. Whether it is still
 * the BIOS that takes keys shows in the ring, which grows by each. One that stays full may be what a BIOS left
 * behind: the processor tells, and is asked now and then.
 */
static bool pc_bios_has_room(struct machine *m, uint8_t key)
{
    struct pc_typing *t = &m->typing;
    uint64_t now = util_monotonic_ns();
    uint16_t tail;
    bool room = pc_bios_keys(m->vm, &tail) < PC_BDA_KEYS_ROOM || tail == t->bios_tail;

    if (!room && !t->full_since_ns)
        t->full_since_ns = now;
    if (!room && now - t->full_since_ns > PC_BIOS_PATIENCE_NS) {
        room = pc_guest_has_paging(m->vm);
        t->full_since_ns = now;
    }
    if (!room)
        return false;
    t->full_since_ns = 0;
    if (!pc_is_modifier(key))
        t->bios_tail = tail;
    return true;
}

int machine_pc_key(struct vm *vm, uint8_t key, bool down)
{
    int rc = input_key_ready(vm->machine->input);

    if (rc)
        return rc;
    if (down && !pc_bios_has_room(vm->machine, key))
        return -EAGAIN;
    input_key(vm->machine->input, key, down);
    return 0;
}
