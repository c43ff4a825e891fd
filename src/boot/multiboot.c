/*
 * multiboot.c: Multiboot Specification 0.6.96: header (3.1), machine state (3.2), boot information (3.3).
 * The video mode that a header may ask for is not set: the flag is a wish, and there is no display.
 */
#include "boot/multiboot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "boot/elf.h"

enum {
    MB_HEADER_MAGIC = 0x1badb002,
    MB_LOADER_MAGIC = 0x2badb002,
    MB_SEARCH = 8192,
    /* header */
    MB_HDR_FLAGS = 4,
    MB_HDR_CHECKSUM = 8,
    MB_HDR_HEADER_ADDR = 12,
    MB_HDR_LOAD_ADDR = 16,
    MB_HDR_LOAD_END = 20,
    MB_HDR_BSS_END = 24,
    MB_HDR_ENTRY = 28,
    MB_HDR_SIZE = 32,
    MB_FLAG_ADDRESSES = BIT(16),
    MB_FLAGS_KNOWN = BIT(0) | BIT(1) | BIT(2), /* of those that must be understood: bits 0 to 15 */
    /* information */
    MB_INFO_MEMORY = BIT(0),
    MB_INFO_CMDLINE = BIT(2),
    MB_INFO_MODULES = BIT(3),
    MB_INFO_MMAP = BIT(6),
    MB_INFO_LOADER_NAME = BIT(9),
    MB_MODULES = PLACE_TABLES,
    MB_LOADER_NAME = PLACE_TABLES + 0x40,
    MB_MMAP = PLACE_TABLES + 0x100,
    MB_MODULE_STRING = PLACE_TABLES + 0x800,
    MB_MODULE_STRING_SIZE = 0x800,
};

struct multiboot_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
    uint32_t mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name;
};
struct multiboot_module {
    uint32_t start, end, string, reserved;
};
struct multiboot_mmap { /* size does not count itself */
    uint32_t size, addr_low, addr_high, len_low, len_high, type;
};

bool multiboot_find(const void *data, uint64_t len, uint64_t *at)
{
    const uint8_t *d = data;
    uint64_t end = min_u64(len, MB_SEARCH);

    for (uint64_t i = 0; i + 12 <= end; i += 4) {
        uint32_t sum =
            ld_le32(d + i) + ld_le32(d + i + MB_HDR_FLAGS) + ld_le32(d + i + MB_HDR_CHECKSUM);

        if (ld_le32(d + i) != MB_HEADER_MAGIC || sum)
            continue;
        *at = i;
        return true;
    }
    return false;
}

static int multiboot_bad(const struct boot_params *p, const char *why, struct err *e)
{
    return err_set(e, EINVAL, "the kernel '%s' has an unusable multiboot header: %s", p->kernel,
                   why);
}

/* By the header's address fields: one piece of the file, then zeros. */
static int multiboot_load_flat(const struct boot_params *p, const uint8_t *data, uint64_t len,
                               uint64_t at, uint64_t *entry, uint64_t *end, struct err *e)
{
    uint64_t header, load, load_end, bss_end, off, n;
    int ret;

    if (len - at < MB_HDR_SIZE)
        return multiboot_bad(p, "it is cut short", e);
    header = ld_le32(data + at + MB_HDR_HEADER_ADDR);
    load = ld_le32(data + at + MB_HDR_LOAD_ADDR);
    load_end = ld_le32(data + at + MB_HDR_LOAD_END);
    bss_end = ld_le32(data + at + MB_HDR_BSS_END);
    *entry = ld_le32(data + at + MB_HDR_ENTRY);
    if (load > header || header - load > at)
        return multiboot_bad(p, "its load address does not match the file", e);
    off = at - (header - load);
    if (!load_end)
        load_end = load + (len - off);
    if (load_end <= load || load_end - load > len - off)
        return multiboot_bad(p, "its load end address lies outside the file (is it cut short?)", e);
    n = load_end - load;
    *end = max_u64(load_end, bss_end);
    ret = boot_place_check(p, load, *end - load, "code", e);
    if (ret)
        return ret;
    if (*entry < load || *entry >= *end)
        return multiboot_bad(p, "its entry point lies outside the kernel", e);
    boot_place_copy(p, load, data + off, n);
    boot_place_zero(p, load_end, *end - load_end);
    return 0;
}

static int multiboot_load(const struct boot_params *p, const uint8_t *data, uint64_t len,
                          uint64_t at, uint64_t *entry, uint64_t *end, struct err *e)
{
    uint32_t flags = ld_le32(data + at + MB_HDR_FLAGS);
    struct elf_image elf;
    int ret;

    if (flags & 0xffff & ~MB_FLAGS_KNOWN)
        return multiboot_bad(p, "it requires features that are not in the specification", e);
    if (flags & MB_FLAG_ADDRESSES)
        return multiboot_load_flat(p, data, len, at, entry, end, e);
    if (!elf_is(data, len))
        return multiboot_bad(p, "the file is not ELF and the header gives no addresses", e);
    ret = elf_parse(&elf, data, len, p, e);
    if (!ret)
        ret = elf_load(&elf, p, end, e);
    if (!ret)
        ret = elf_entry(&elf, p, entry, e);
    if (!ret && *entry > UINT32_MAX)
        ret = multiboot_bad(p, "its entry point lies above 4 GiB", e);
    return ret;
}

static void multiboot_place_mmap(const struct boot_params *p)
{
    struct multiboot_mmap map[BOOT_E820_MAX] = { 0 };

    for (unsigned i = 0; i < p->n_e820; i++) {
        const struct boot_e820 *r = &p->e820[i];

        map[i] = (struct multiboot_mmap){ sizeof(map[i]) - 4,        (uint32_t)r->addr,
                                          (uint32_t)(r->addr >> 32), (uint32_t)r->len,
                                          (uint32_t)(r->len >> 32),  r->type };
    }
    boot_place_copy(p, boot_place_at(p, MB_MMAP), map, p->n_e820 * sizeof(map[0]));
}

static void multiboot_place_module(const struct boot_params *p, const struct boot_blob *initrd)
{
    struct multiboot_module module = { (uint32_t)initrd->gpa, (uint32_t)(initrd->gpa + initrd->len),
                                       (uint32_t)boot_place_at(p, MB_MODULE_STRING), 0 };
    char string[MB_MODULE_STRING_SIZE];

    snprintf(string, sizeof(string), "%s", p->initrd);
    boot_place_copy(p, boot_place_at(p, MB_MODULES), &module, sizeof(module));
    boot_place_copy(p, boot_place_at(p, MB_MODULE_STRING), string, strlen(string) + 1);
}

static void multiboot_place_info(const struct boot_params *p, const struct boot_blob *initrd)
{
    static const char name[] = "ruche";
    struct multiboot_info info = {
        .flags =
            MB_INFO_MEMORY | MB_INFO_CMDLINE | MB_INFO_MODULES | MB_INFO_MMAP | MB_INFO_LOADER_NAME,
        .mem_lower = boot_place_lower_kib(p),
        .mem_upper = boot_place_upper_kib(p),
        .cmdline = (uint32_t)boot_place_at(p, PLACE_CMDLINE),
        .mods_addr = (uint32_t)boot_place_at(p, MB_MODULES),
        .mmap_length = (uint32_t)(p->n_e820 * sizeof(struct multiboot_mmap)),
        .mmap_addr = (uint32_t)boot_place_at(p, MB_MMAP),
        .boot_loader_name = (uint32_t)boot_place_at(p, MB_LOADER_NAME),
    };

    if (initrd->len) {
        info.mods_count = 1;
        multiboot_place_module(p, initrd);
    }
    multiboot_place_mmap(p);
    boot_place_copy(p, boot_place_at(p, MB_LOADER_NAME), name, sizeof(name));
    boot_place_copy(p, boot_place_at(p, PLACE_INFO), &info, sizeof(info));
}

/* The first word of the command line is the kernel's name, as GRUB passes it. */
static int multiboot_cmdline(const struct boot_params *p, struct err *e)
{
    size_t len = strlen(p->kernel) + 2;
    char *prefix = malloc(len);
    int ret;

    if (!prefix)
        return err_set(e, ENOMEM, "out of memory");
    snprintf(prefix, len, "%s%s", p->kernel, p->append ? " " : "");
    ret = boot_place_cmdline(p, prefix, PLACE_CMDLINE_SIZE, e);
    free(prefix);
    return ret;
}

int multiboot_boot(const struct boot_params *p, const uint8_t *data, uint64_t len, uint64_t at,
                   struct x86_state *s, struct err *e)
{
    struct boot_blob initrd;
    uint64_t entry, end;
    int ret = multiboot_load(p, data, len, at, &entry, &end, e);

    if (!ret) /* low: small kernels map only the memory around themselves */
        ret = boot_place_initrd(p, end, 4 * GIB, true, &initrd, e);
    if (!ret)
        ret = multiboot_cmdline(p, e);
    if (ret)
        return ret;
    multiboot_place_info(p, &initrd);
    boot_place_multiboot(p, s, (uint32_t)entry);
    s->gpr[X86_RAX] = MB_LOADER_MAGIC;
    s->gpr[X86_RBX] = boot_place_at(p, PLACE_INFO);
    return 0;
}
