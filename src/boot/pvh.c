/*
 * pvh.c: hvm_start_info version 1 (Xen's public/arch-x86/hvm/start_info.h) at PLACE_INFO, its module
 * list and memory map at PLACE_TABLES.
 */
#include "boot/pvh.h"

#include <errno.h>

enum {
    PVH_NOTE_PHYS32_ENTRY = 18,
    PVH_MAGIC = 0x336ec578,
    PVH_VERSION = 1,
    PVH_MODULES = PLACE_TABLES,
    PVH_MEMMAP = PLACE_TABLES + 0x100,
};

struct pvh_start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
    uint32_t memmap_entries, reserved;
};
struct pvh_module {
    uint64_t paddr, size, cmdline_paddr, reserved;
};
struct pvh_memmap {
    uint64_t addr, size;
    uint32_t type, reserved;
};

bool pvh_is(const struct elf_image *elf, uint64_t *entry)
{
    return elf_note(elf, "Xen", PVH_NOTE_PHYS32_ENTRY, entry);
}

static void pvh_start_info(const struct boot_params *p, const struct boot_blob *initrd)
{
    struct pvh_start_info info = { .magic = PVH_MAGIC,
                                   .version = PVH_VERSION,
                                   .cmdline_paddr = boot_place_at(p, PLACE_CMDLINE),
                                   .rsdp_paddr = p->rsdp_gpa,
                                   .memmap_paddr = boot_place_at(p, PVH_MEMMAP),
                                   .memmap_entries = p->n_e820 };
    struct pvh_module module = { .paddr = initrd->gpa, .size = initrd->len };
    struct pvh_memmap map[BOOT_E820_MAX] = { 0 };

    if (initrd->len) {
        info.nr_modules = 1;
        info.modlist_paddr = boot_place_at(p, PVH_MODULES);
        boot_place_copy(p, boot_place_at(p, PVH_MODULES), &module, sizeof(module));
    }
    for (unsigned i = 0; i < p->n_e820; i++)
        map[i] = (struct pvh_memmap){ p->e820[i].addr, p->e820[i].len, p->e820[i].type, 0 };
    boot_place_copy(p, boot_place_at(p, PVH_MEMMAP), map, sizeof(map));
    boot_place_copy(p, boot_place_at(p, PLACE_INFO), &info, sizeof(info));
}

int pvh_boot(const struct boot_params *p, const struct elf_image *elf, uint64_t entry,
             struct x86_state *s, struct err *e)
{
    struct boot_blob initrd;
    uint64_t end;
    int ret = elf_load(elf, p, &end, e);

    if (!ret)
        ret = boot_place_check(p, entry, 1, "PVH entry point", e);
    if (!ret && entry > UINT32_MAX)
        ret = err_set(e, EINVAL, "the kernel '%s' has its PVH entry point above 4 GiB", p->kernel);
    if (!ret)
        ret = boot_place_initrd(p, end, 4 * GIB, false, &initrd, e);
    if (!ret)
        ret = boot_place_cmdline(p, "", PLACE_CMDLINE_SIZE, e);
    if (ret)
        return ret;
    pvh_start_info(p, &initrd);
    boot_place_enter32(p, s, (uint32_t)entry);
    s->gpr[X86_RBX] = boot_place_at(p, PLACE_INFO);
    return 0;
}
