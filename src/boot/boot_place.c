/*
 * boot_place.c: addresses in guest RAM and entry states. Linux Documentation/arch/x86/boot.rst ("64-bit
 * boot protocol", "32-bit boot protocol"), SDM 3A 3.4.5 (descriptors), 4.5 (paging).
 */
#include "boot/boot_place.h"

#include <errno.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/endian.h"
#include "mem/guest.h"

enum {
    PLACE_SEL_LINUX = 0x10, /* of code; the data segment is the next: __BOOT_CS, __BOOT_DS */
    PLACE_SEL_FIRST = 0x08,
    PLACE_ATTR_DATA = SEG_S | SEG_P | SEG_DB | SEG_G | SEG_RW | SEG_ACCESSED,
    PLACE_ATTR_CODE32 = PLACE_ATTR_DATA | SEG_CODE,
    PLACE_ATTR_CODE64 = (PLACE_ATTR_CODE32 & ~SEG_DB) | SEG_L,
    PLACE_ATTR_TSS = SEG_P | 11, /* busy TSS: what VM entry requires */
    PLACE_PTE_P = BIT(0),
    PLACE_PTE_RW = BIT(1),
    PLACE_PTE_PS = BIT(7),
    PLACE_IDENTITY_GIB = 4,
    PLACE_COPY_PIECE = 4 * MIB,
    PLACE_BASE = 0x1000, /* page 0 stays free: it is where old programs look for the BIOS data */
};

/* The RAM range of the memory map that holds all of [gpa, gpa+len), and that is backed. */
static bool boot_place_is_ram(const struct boot_params *p, uint64_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < p->n_e820; i++) {
        const struct boot_e820 *r = &p->e820[i];

        if (r->type == E820_RAM && gpa >= r->addr && gpa - r->addr < r->len &&
            len <= r->len - (gpa - r->addr))
            return guest_ptr(p->mem, gpa, len ? len : 1, true);
    }
    return false;
}

/* Is [base, +PLACE_AREA_SIZE) conventional memory that the kernel leaves alone? */
static bool boot_place_fits(const struct boot_params *p, uint64_t base)
{
    for (uint64_t at = base; at < base + PLACE_AREA_SIZE; at += PAGE_SIZE)
        if (at >= PLACE_LOW_END || bitmap_test(p->place->taken, at / PAGE_SIZE))
            return false;
    return boot_place_is_ram(p, base, PLACE_AREA_SIZE);
}

int boot_place_init(const struct boot_params *p, struct err *e)
{
    *p->place = (struct boot_place){ .base = PLACE_BASE };
    if (boot_place_fits(p, PLACE_BASE))
        return 0;
    return err_set(e, ENOMEM,
                   "the guest has too little memory to start a kernel: give more --memory");
}

uint64_t boot_place_at(const struct boot_params *p, uint64_t off)
{
    return p->place->base + off;
}

static int boot_place_make_way(const struct boot_params *p, uint64_t gpa, uint64_t len,
                               struct err *e)
{
    uint64_t base = PLACE_BASE;

    for (uint64_t at = align_down(gpa, PAGE_SIZE); at < min_u64(gpa + len, PLACE_LOW_END);
         at += PAGE_SIZE)
        bitmap_set_atomic(p->place->taken, at / PAGE_SIZE);
    while (base < PLACE_LOW_END && !boot_place_fits(p, base))
        base += PAGE_SIZE;
    if (base >= PLACE_LOW_END)
        return err_set(e, ENOMEM,
                       "the kernel '%s' fills the memory below 1 MiB and leaves no room there for "
                       "its boot information",
                       p->kernel);
    p->place->base = base;
    return 0;
}

int boot_place_check(const struct boot_params *p, uint64_t gpa, uint64_t len, const char *what,
                     struct err *e)
{
    if (boot_place_is_ram(p, gpa, len))
        return boot_place_make_way(p, gpa, len, e);
    return err_set(
        e, ENOMEM,
        "the kernel '%s' wants its %s at address 0x%llx, %llu KiB, where the guest has no "
        "memory: give more --memory, if the file is not damaged",
        p->kernel, what, (unsigned long long)gpa, (unsigned long long)(len / KIB));
}

void boot_place_copy(const struct boot_params *p, uint64_t gpa, const void *data, uint64_t len)
{
    if (len)
        BUG_ON(!guest_write(p->mem, gpa, data, len)); /* the caller has checked */
}

void boot_place_zero(const struct boot_params *p, uint64_t gpa, uint64_t len)
{
    if (len)
        BUG_ON(!guest_fill(p->mem, gpa, 0, len));
}

/* The highest or lowest page aligned place of len bytes in [floor, ceiling) that is RAM; 0: none. */
static uint64_t boot_place_find(const struct boot_params *p, uint64_t len, uint64_t floor,
                                uint64_t ceiling, bool low)
{
    uint64_t best = 0;

    for (unsigned i = 0; i < p->n_e820; i++) {
        const struct boot_e820 *r = &p->e820[i];
        uint64_t start, end, at;

        if (r->type != E820_RAM || ckd_add(&end, r->addr, r->len))
            continue;
        start = align_up(max_u64(r->addr, floor), PAGE_SIZE);
        end = min_u64(end, ceiling);
        if (start >= end || end - start < len)
            continue;
        at = low ? start : align_down(end - len, PAGE_SIZE);
        if (at >= start && boot_place_is_ram(p, at, len) && (!best || (at > best) != low))
            best = at;
    }
    return best;
}

/* Straight from the file into guest RAM: an initrd can be larger than what we want to hold twice. */
static int boot_place_read(const struct boot_params *p, struct boot_file *f, uint64_t gpa,
                           struct err *e)
{
    for (uint64_t off = 0; off < f->len; off += PLACE_COPY_PIECE) {
        uint64_t n = min_u64(f->len - off, PLACE_COPY_PIECE);
        void *to = guest_ptr(p->mem, gpa + off, n, true);
        int ret;

        BUG_ON(!to);
        ret = boot_file_read(f, off, to, n, e);
        if (ret)
            return ret;
        guest_written(p->mem, gpa + off, n);
    }
    return 0;
}

int boot_place_initrd(const struct boot_params *p, uint64_t floor, uint64_t ceiling, bool low,
                      struct boot_blob *blob, struct err *e)
{
    struct boot_file f;
    int ret;

    *blob = (struct boot_blob){ 0 };
    if (!p->initrd)
        return 0;
    ret = boot_file_open(&f, p->initrd, "initrd", e);
    if (ret)
        return ret;
    floor = max_u64(floor, PLACE_LOW_END);
    if (p->initrd_max)
        ceiling = min_u64(ceiling, p->initrd_max);
    blob->len = f.len;
    blob->gpa = boot_place_find(p, f.len, floor, ceiling, low);
    if (blob->gpa)
        ret = boot_place_read(p, &f, blob->gpa, e);
    else
        ret = err_set(
            e, ENOMEM,
            "the initrd '%s' (%llu MiB) does not fit into guest memory between the kernel's "
            "end at %llu MiB and %llu MiB: give more --memory",
            p->initrd, (unsigned long long)(f.len / MIB), (unsigned long long)(floor / MIB),
            (unsigned long long)(ceiling / MIB));
    boot_file_close(&f);
    return ret;
}

int boot_place_cmdline(const struct boot_params *p, const char *prefix, uint64_t max, struct err *e)
{
    const char *append = p->append ? p->append : "";
    size_t prefix_len = strlen(prefix), len = strlen(append);
    uint64_t room = min_u64(max, PLACE_CMDLINE_SIZE - 1);

    if (len > room || prefix_len > room - len)
        return err_set(e, E2BIG,
                       "the kernel's command line is %llu bytes long, but '%s' takes at most %llu: "
                       "shorten --append",
                       (unsigned long long)prefix_len + len, p->kernel, (unsigned long long)room);
    boot_place_copy(p, boot_place_at(p, PLACE_CMDLINE), prefix, prefix_len);
    boot_place_copy(p, boot_place_at(p, PLACE_CMDLINE + prefix_len), append, len + 1);
    return 0;
}

/* RAM from start on without a gap, in KiB. */
static uint32_t boot_place_run_kib(const struct boot_params *p, uint64_t start)
{
    for (unsigned i = 0; i < p->n_e820; i++) {
        const struct boot_e820 *r = &p->e820[i];

        if (r->type == E820_RAM && start >= r->addr && start - r->addr < r->len)
            return (uint32_t)min_u64((r->len - (start - r->addr)) / KIB, UINT32_MAX);
    }
    return 0;
}

uint32_t boot_place_lower_kib(const struct boot_params *p)
{
    return (uint32_t)min_u64(boot_place_run_kib(p, 0), 640);
}

uint32_t boot_place_upper_kib(const struct boot_params *p)
{
    return boot_place_run_kib(p, PLACE_LOW_END);
}

/* SDM 3A figure 3-8, for a flat segment with the attributes of enum x86_seg. */
static uint64_t boot_place_descriptor(uint16_t attr)
{
    return 0x000f00000000ffffull | (uint64_t)(attr & 0xff) << 40 | (uint64_t)(attr >> 12) << 52;
}

/* sel: of code; data is the next one. */
static void boot_place_segments(const struct boot_params *p, struct x86_state *s, uint16_t sel,
                                uint16_t code)
{
    uint64_t gdt[4] = { 0 };
    uint16_t data = (uint16_t)(sel + sizeof(gdt[0]));

    gdt[sel / sizeof(gdt[0])] = boot_place_descriptor(code);
    gdt[data / sizeof(gdt[0])] = boot_place_descriptor(PLACE_ATTR_DATA);
    boot_place_copy(p, boot_place_at(p, PLACE_GDT), gdt, sizeof(gdt));
    for (unsigned i = 0; i < X86_NSREGS; i++)
        s->seg[i] = (struct x86_seg){ 0, UINT32_MAX, data, PLACE_ATTR_DATA };
    s->seg[X86_CS].sel = sel;
    s->seg[X86_CS].attr = code;
    s->tr = (struct x86_seg){ .limit = 0x67, .attr = PLACE_ATTR_TSS };
    s->ldtr = (struct x86_seg){ .attr = SEG_UNUSABLE };
    s->gdtr = (struct x86_dtable){ boot_place_at(p, PLACE_GDT), sizeof(gdt) - 1 };
    s->idtr = (struct x86_dtable){ 0 };
    memset(s->gpr, 0, sizeof(s->gpr));
    s->rflags = FLAG_1;
}

static void boot_place_page_tables(const struct boot_params *p)
{
    uint64_t entry[512] = { boot_place_at(p, PLACE_PDPT) | PLACE_PTE_P | PLACE_PTE_RW };

    boot_place_copy(p, boot_place_at(p, PLACE_PML4), entry, sizeof(entry));
    memset(entry, 0, sizeof(entry));
    for (uint64_t gib = 0; gib < PLACE_IDENTITY_GIB; gib++)
        entry[gib] = boot_place_at(p, PLACE_PD + gib * PAGE_SIZE) | PLACE_PTE_P | PLACE_PTE_RW;
    boot_place_copy(p, boot_place_at(p, PLACE_PDPT), entry, sizeof(entry));
    for (uint64_t gib = 0; gib < PLACE_IDENTITY_GIB; gib++) {
        for (uint64_t i = 0; i < 512; i++)
            entry[i] = (gib << 30 | i << 21) | PLACE_PTE_P | PLACE_PTE_RW | PLACE_PTE_PS;
        boot_place_copy(p, boot_place_at(p, PLACE_PD + gib * PAGE_SIZE), entry, sizeof(entry));
    }
}

void boot_place_enter64(const struct boot_params *p, struct x86_state *s, uint64_t rip)
{
    boot_place_segments(p, s, PLACE_SEL_LINUX, PLACE_ATTR_CODE64);
    boot_place_page_tables(p);
    s->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    s->cr3 = boot_place_at(p, PLACE_PML4);
    s->cr4 = CR4_PAE;
    s->efer = EFER_LME | EFER_LMA;
    s->rip = rip;
}

static void boot_place_flat32(const struct boot_params *p, struct x86_state *s, uint16_t sel,
                              uint32_t rip)
{
    boot_place_segments(p, s, sel, PLACE_ATTR_CODE32);
    s->cr0 = CR0_PE | CR0_ET;
    s->cr3 = 0;
    s->cr4 = 0;
    s->efer = 0;
    s->rip = rip;
}

void boot_place_enter32(const struct boot_params *p, struct x86_state *s, uint32_t rip)
{
    boot_place_flat32(p, s, PLACE_SEL_LINUX, rip);
}

void boot_place_multiboot(const struct boot_params *p, struct x86_state *s, uint32_t rip)
{
    boot_place_flat32(p, s, PLACE_SEL_FIRST, rip);
}
