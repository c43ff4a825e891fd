/*
 * machine_pc_memory.c: what answers where in the guest memory of the `pc` machine.
 *
 *  gpa                      what
 *  0                        RAM "base"
 *  a0000                    RAM "smram" while the host bridge opens it; else the screen's window
 *  c0000 .. fffff           RAM "shadow", by segments; where the host bridge says so, PCI instead: the end
 *                           of the firmware's image at e0000, nothing below
 *  100000 .. memory, 3 GiB  RAM "main"; while the A20 gate is closed only "above", from 200000 on, and the first
 *                           MiB once more; all of them are views of the block "low"
 *  c0000000 .. febfffff     PCI memory window, in it RAM "vga": the screen
 *  fec00000                 IOAPIC            fed00000  HPET        fee00000  local APICs
 *  ff000000                 the test device, with --test-device
 *  .. ffffffff              UEFI variables "vars" (flash), above them the firmware's image "rom"
 *  4 GiB ..                 RAM "high"; above it the 64-bit PCI window
 */
#include "vm/machine_pc_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hw/isa_misc.h"
#include "hw/pflash.h"

static void pc_layout_a20(struct machine *m, unsigned pass)
{
    bool open = isa_misc_a20(m->misc);

    if (open == pass)
        vm_show_ram(m->vm, &m->main, open, false);
    if (m->above.hva && open != pass)
        vm_show_ram(m->vm, &m->above, !open, false);
}

/* First what makes way, then what takes its place. */
static void pc_layout(struct vm *vm)
{
    struct machine *m = vm->machine;

    for (unsigned pass = 0; m->host && pass < 2; pass++) {
        bool smram = i440fx_smram_open(m->host);

        for (unsigned i = 0; i < I440FX_SEGMENTS; i++) {
            bool ram = i440fx_reads_ram(m->host, i);

            if (ram == pass)
                vm_show_ram(vm, &m->shadow[i], ram, !i440fx_writes_ram(m->host, i));
            if (m->rom_low[i].hva && ram != pass)
                vm_show_ram(vm, &m->rom_low[i], !ram, true);
        }
        if (m->pflash && pflash_reads_array(m->pflash) == pass)
            vm_show_ram(vm, &m->vars, pass, true);
        if (smram == pass)
            vm_show_ram(vm, &m->smram, smram, false);
        pc_layout_a20(m, pass);
    }
    pc_place_vram(m);
}

static int pc_add_view(struct machine *m, struct ram_region *v, const char *name, uint64_t gpa,
                       uint64_t len, bool hidden)
{
    if (!len)
        return 0;
    ram_view(v, &m->low, name, gpa, gpa, len);
    v->hidden = hidden;
    return physmap_add(&m->vm->mem, v);
}

static int pc_add_low(struct machine *m)
{
    int rc = pc_add_view(m, &m->base, "base", 0, PC_VGA_HOLE, false);

    if (!rc)
        rc = pc_add_view(m, &m->smram, "smram", I440FX_SMRAM, I440FX_SMRAM_LEN, true);
    for (unsigned i = 0; !rc && i < I440FX_SEGMENTS; i++) {
        char name[16];

        snprintf(name, sizeof(name), "shadow%x", (unsigned)i440fx_segment_at(i) >> 12);
        rc = pc_add_view(m, &m->shadow[i], name, i440fx_segment_at(i), i440fx_segment_len(i), true);
    }
    if (!rc)
        rc = pc_add_view(m, &m->main, "main", PC_1M, m->low.len - PC_1M, false);
    if (!rc)
        rc = pc_add_view(m, &m->above, "above", PC_2M, m->low.len - PC_2M, true);
    m->above.rom = true; /* its contents are main's */
    return rc;
}

int pc_create_ram(struct machine *m, struct err *e)
{
    uint64_t memory = m->vm->cfg->memory, low = min_u64(memory, PC_LOW_MAX);
    int rc = ram_alloc(&m->low, "low", 0, low, e);

    if (!rc)
        rc = pc_add_low(m);
    if (!rc && memory > low) {
        rc = ram_alloc(&m->high, "high", PC_HIGH, memory - low, e);
        if (!rc)
            rc = physmap_add(&m->vm->mem, &m->high);
    }
    m->vm->layout = pc_layout;
    return rc;
}

/* The image's end by segments of shadow RAM, as far down as e0000. */
static int pc_add_rom_low(struct machine *m)
{
    uint64_t len = min_u64(m->rom.len, PC_1M - PC_BIOS), start = PC_1M - len;
    int rc = 0;

    for (unsigned i = 0; !rc && i < I440FX_SEGMENTS; i++) {
        uint64_t at = i440fx_segment_at(i);
        char name[16];

        if (at < start)
            continue;
        snprintf(name, sizeof(name), "rom%x", (unsigned)at >> 12);
        ram_view(&m->rom_low[i], &m->rom, name, at, m->rom.len - (PC_1M - at),
                 i440fx_segment_len(i));
        m->rom_low[i].hidden = m->rom_low[i].readonly = true;
        rc = physmap_add(&m->vm->mem, &m->rom_low[i]);
    }
    return rc;
}

int pc_create_rom(struct machine *m, const void *image, uint64_t len, struct err *e)
{
    int rc = ram_alloc(&m->rom, "rom", PC_HIGH - len, len, e);

    if (rc)
        return rc;
    memcpy(m->rom.hva, image, len);
    m->rom.rom = m->rom.readonly = true;
    rc = physmap_add(&m->vm->mem, &m->rom);
    if (!rc)
        rc = pc_add_rom_low(m);
    pc_layout(m->vm);
    return rc;
}

int pc_create_vars(struct machine *m, const void *vars, uint64_t len, int fd, struct err *e)
{
    int rc = ram_alloc(&m->vars, "vars", m->rom.gpa - len, len, e);

    if (rc)
        return rc;
    memcpy(m->vars.hva, vars, len);
    m->vars.rom = m->vars.readonly = true;
    rc = physmap_add(&m->vm->mem, &m->vars);
    if (rc)
        return err_set(e, -rc, "no room for the UEFI variables");
    m->pflash = pflash_create(m->vm, &m->vars, fd, e);
    return m->pflash ? 0 : -e->code;
}

void pc_free_memory(struct machine *m)
{
    for (unsigned i = 0; i < I440FX_SEGMENTS; i++) {
        ram_free(&m->shadow[i]);
        ram_free(&m->rom_low[i]);
    }
    ram_free(&m->base);
    ram_free(&m->smram);
    ram_free(&m->main);
    ram_free(&m->above);
    ram_free(&m->low);
    ram_free(&m->vars);
    ram_free(&m->vram);
    ram_free(&m->rom);
    ram_free(&m->high);
}

uint64_t pc_ram_end(const struct machine *m)
{
    return m->high.len ? m->high.gpa + m->high.len : PC_HIGH;
}
