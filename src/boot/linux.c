/*
 * linux.c: Documentation/arch/x86/boot.rst ("The Linux/x86 Boot Protocol") and zero-page.rst.
 *
 *   file     0x1f1  setup header, ends at 0x202 + byte at 0x201
 *            (setup_sects + 1) * 512: the protected-mode part; in it, at payload_offset, the packed vmlinux
 *
 * The vmlinux is unpacked here and entered directly at its linked address, where it needs no relocation
 * (so there is no KASLR, as with "nokaslr"). Where the packing is unknown, the protected-mode part is
 * loaded as it is and unpacks itself.
 */
#include "boot/linux.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/log.h"
#include "boot/payload.h"

/* Offsets in the zero page; from 0x1f1 on they are also those in the file. */
enum {
    ZP_VIDEO_MODE = 0x006,
    ZP_VIDEO_COLS = 0x007,
    ZP_VIDEO_EGA = 0x00a,
    ZP_VIDEO_LINES = 0x00e,
    ZP_VIDEO_IS_VGA = 0x00f,
    ZP_VIDEO_POINTS = 0x010,
    ZP_ACPI_RSDP_ADDR = 0x070,
    ZP_EXT_RAMDISK_IMAGE = 0x0c0,
    ZP_EXT_RAMDISK_SIZE = 0x0c4,
    ZP_E820_ENTRIES = 0x1e8,
    ZP_HEADER = 0x1f1,
    ZP_SETUP_SECTS = 0x1f1,
    ZP_VID_MODE = 0x1fa,
    ZP_BOOT_FLAG = 0x1fe,
    ZP_HEADER_JUMP = 0x201,
    ZP_HEADER_MAGIC = 0x202,
    ZP_VERSION = 0x206,
    ZP_TYPE_OF_LOADER = 0x210,
    ZP_LOADFLAGS = 0x211,
    ZP_CODE32_START = 0x214,
    ZP_RAMDISK_IMAGE = 0x218,
    ZP_RAMDISK_SIZE = 0x21c,
    ZP_CMD_LINE_PTR = 0x228,
    ZP_INITRD_ADDR_MAX = 0x22c,
    ZP_XLOADFLAGS = 0x236,
    ZP_CMDLINE_SIZE = 0x238,
    ZP_PAYLOAD_OFFSET = 0x248,
    ZP_PAYLOAD_LENGTH = 0x24c,
    ZP_PREF_ADDRESS = 0x258,
    ZP_INIT_SIZE = 0x260,
    ZP_HEADER_END = 0x290,
    ZP_E820_TABLE = 0x2d0,
    ZP_SIZE = 0x1000,
};
enum {
    LINUX_MAGIC = 0x53726448, /* "HdrS" */
    LINUX_LOADED_HIGH = BIT(0),
    LINUX_KASLR = BIT(1),
    LINUX_XLF_KERNEL_64 = BIT(0),
    LINUX_LOADER_UNDEFINED = 0xff,
    LINUX_VID_NORMAL = 0xffff,
    LINUX_ENTRY64 = 0x200, /* from the start of the protected-mode part */
    LINUX_DEFAULT_ADDR = 0x100000,
    LINUX_INITRD_MAX_OLD = 0x37ffffff,
    LINUX_CMDLINE_OLD = 255,
    LINUX_CMDLINE_NOW = 2047,
    LINUX_E820_ENTRY = 20,
};

/* What the file's setup header says; absent fields as old protocols define them. */
struct linux_header {
    const uint8_t *file;
    uint64_t len;
    const uint8_t *kernel; /* protected-mode part */
    uint64_t kernel_len;
    uint16_t version;
    uint8_t loadflags;
    bool is64;
    uint32_t payload_off, payload_len; /* len 0: unknown */
    uint64_t pref_address, init_size, initrd_addr_max, cmdline_size;
};

bool linux_is_bzimage(const void *data, uint64_t len)
{
    return len >= ZP_VERSION + 2 && ld_le32((const uint8_t *)data + ZP_HEADER_MAGIC) == LINUX_MAGIC;
}

static int linux_bad(const struct boot_params *p, const char *why, struct err *e)
{
    return err_set(e, EINVAL, "the kernel '%s' is a damaged or unsuitable Linux kernel: %s",
                   p->kernel, why);
}

static int linux_header_parse(const struct boot_params *p, const uint8_t *data, uint64_t len,
                              struct linux_header *h, struct err *e)
{
    uint64_t setup = ((uint64_t)(data[ZP_SETUP_SECTS] ? data[ZP_SETUP_SECTS] : 4) + 1) * 512;

    *h = (struct linux_header){ .file = data,
                                .len = len,
                                .pref_address = LINUX_DEFAULT_ADDR,
                                .initrd_addr_max = LINUX_INITRD_MAX_OLD,
                                .cmdline_size = LINUX_CMDLINE_OLD };
    if (len < ZP_HEADER_END || setup >= len)
        return linux_bad(p, "it is cut short", e);
    h->version = ld_le16(data + ZP_VERSION);
    h->loadflags = data[ZP_LOADFLAGS];
    if (h->version < 0x202 || !(h->loadflags & LINUX_LOADED_HIGH))
        return linux_bad(p, "it is of the last century (boot protocol before 2.02, or zImage)", e);
    h->kernel = data + setup;
    h->kernel_len = len - setup;
    if (h->version >= 0x203)
        h->initrd_addr_max = ld_le32(data + ZP_INITRD_ADDR_MAX);
    if (h->version >= 0x206)
        h->cmdline_size = ld_le32(data + ZP_CMDLINE_SIZE);
    if (h->version >= 0x208) {
        h->payload_off = ld_le32(data + ZP_PAYLOAD_OFFSET);
        h->payload_len = ld_le32(data + ZP_PAYLOAD_LENGTH);
    }
    if (h->version >= 0x20a) {
        h->pref_address = ld_le64(data + ZP_PREF_ADDRESS);
        h->init_size = ld_le32(data + ZP_INIT_SIZE);
    }
    if (h->version >= 0x20c)
        h->is64 = ld_le16(data + ZP_XLOADFLAGS) & LINUX_XLF_KERNEL_64;
    /* Linux says where it expects to be loaded, whatever its age. */
    if (!h->is64 && !ld_le32(data + ZP_CODE32_START))
        return err_set(e, EINVAL,
                       "the kernel '%s' has no 32-bit and no 64-bit entry: its 16-bit code needs a "
                       "BIOS, so boot it from a disk or CD, for instance by GRUB's linux16",
                       p->kernel);
    if (h->payload_len &&
        (h->payload_off > h->kernel_len || h->payload_len > h->kernel_len - h->payload_off))
        return linux_bad(p, "its compressed part lies outside the file (is it cut short?)", e);
    return 0;
}

/* What int 10h would say of text mode 3. */
static void linux_screen(uint8_t *zp)
{
    zp[ZP_VIDEO_MODE] = 3;
    zp[ZP_VIDEO_COLS] = 80;
    st_le16(zp + ZP_VIDEO_EGA, 3); /* 256 KiB, in colour */
    zp[ZP_VIDEO_LINES] = 25;
    zp[ZP_VIDEO_IS_VGA] = 1;
    st_le16(zp + ZP_VIDEO_POINTS, 16);
}

/* Everything that does not come from the file's header. */
static void linux_zero_page(const struct boot_params *p, uint8_t *zp,
                            const struct boot_blob *initrd)
{
    if (p->vga_text)
        linux_screen(zp);
    zp[ZP_TYPE_OF_LOADER] = LINUX_LOADER_UNDEFINED;
    zp[ZP_LOADFLAGS] &= (uint8_t)~LINUX_KASLR;
    st_le16(zp + ZP_VID_MODE, LINUX_VID_NORMAL);
    st_le32(zp + ZP_CMD_LINE_PTR, (uint32_t)boot_place_at(p, PLACE_CMDLINE));
    st_le32(zp + ZP_RAMDISK_IMAGE, (uint32_t)initrd->gpa);
    st_le32(zp + ZP_RAMDISK_SIZE, (uint32_t)initrd->len);
    st_le32(zp + ZP_EXT_RAMDISK_IMAGE, (uint32_t)(initrd->gpa >> 32));
    st_le32(zp + ZP_EXT_RAMDISK_SIZE, (uint32_t)(initrd->len >> 32));
    st_le64(zp + ZP_ACPI_RSDP_ADDR, p->rsdp_gpa);
    zp[ZP_E820_ENTRIES] = (uint8_t)p->n_e820;
    for (unsigned i = 0; i < p->n_e820; i++) {
        uint8_t *entry = zp + ZP_E820_TABLE + i * LINUX_E820_ENTRY;

        st_le64(entry, p->e820[i].addr);
        st_le64(entry + 8, p->e820[i].len);
        st_le32(entry + 16, p->e820[i].type);
    }
    boot_place_copy(p, boot_place_at(p, PLACE_INFO), zp, ZP_SIZE);
}

static void linux_enter(const struct boot_params *p, struct x86_state *s, uint64_t rip, bool is64)
{
    if (is64)
        boot_place_enter64(p, s, rip);
    else
        boot_place_enter32(p, s, (uint32_t)rip);
    s->gpr[X86_RSI] = boot_place_at(p, PLACE_INFO);
}

/* The unpacked vmlinux: entry and end of what it occupies. */
static int linux_load_payload(const struct boot_params *p, const struct linux_header *h,
                              enum payload_format format, uint64_t *entry, uint64_t *end,
                              bool *is64, struct err *e)
{
    uint64_t ram = 0, vmlinux_len;
    struct elf_image elf = { 0 };
    uint8_t *vmlinux;
    int ret;

    for (unsigned i = 0; i < p->mem->n; i++)
        ram += p->mem->region[i]->hidden ? 0 : p->mem->region[i]->len;
    ret = payload_unpack(format, h->kernel + h->payload_off, h->payload_len, ram, &vmlinux,
                         &vmlinux_len, e);
    if (ret)
        return err_prefix(e, "the kernel '%s'", p->kernel);
    if (!elf_is(vmlinux, vmlinux_len))
        ret = linux_bad(p, "its compressed part holds no ELF file", e);
    else
        ret = elf_parse(&elf, vmlinux, vmlinux_len, p, e);
    if (!ret)
        ret = elf_load(&elf, p, end, e);
    if (!ret)
        ret = elf_entry(&elf, p, entry, e);
    if (!ret)
        *is64 = elf.is64;
    free(vmlinux);
    return ret;
}

/* The protected-mode part as it is; it unpacks itself within init_size. */
static int linux_load_packed(const struct boot_params *p, const struct linux_header *h,
                             uint64_t *entry, uint64_t *end, struct err *e)
{
    uint64_t len = max_u64(h->init_size, h->kernel_len);
    int ret = boot_place_check(p, h->pref_address, len, "code", e);

    if (ret)
        return ret;
    if (h->pref_address >= 4 * GIB)
        return linux_bad(p, "its preferred address is above 4 GiB", e);
    boot_place_copy(p, h->pref_address, h->kernel, h->kernel_len);
    *entry = h->pref_address + (h->is64 ? LINUX_ENTRY64 : 0);
    *end = h->pref_address + len;
    return 0;
}

static int linux_load(const struct boot_params *p, const struct linux_header *h, uint64_t *entry,
                      uint64_t *end, bool *is64, struct err *e)
{
    enum payload_format format = PAYLOAD_UNKNOWN;
    int ret;

    *is64 = h->is64;
    if (h->payload_len)
        format = payload_format(h->kernel + h->payload_off, h->payload_len);
    log_debug("boot", "kernel '%s': boot protocol %u.%02u, %s payload", p->kernel, h->version >> 8,
              h->version & 0xff, payload_format_name(format));
    if (format == PAYLOAD_UNKNOWN)
        return linux_load_packed(p, h, entry, end, e);
    ret = linux_load_payload(p, h, format, entry, end, is64, e);
    if (ret)
        return ret;
    /* init_size: what it uses before it has read the memory map. */
    *end = max_u64(*end, h->pref_address + h->init_size);
    if (h->init_size)
        ret = boot_place_check(p, h->pref_address, h->init_size, "working memory", e);
    return ret;
}

int linux_boot_bzimage(const struct boot_params *p, const uint8_t *data, uint64_t len,
                       struct x86_state *s, struct err *e)
{
    uint8_t zp[ZP_SIZE] = { 0 };
    uint64_t entry, end, header_end;
    struct boot_blob initrd;
    struct linux_header h;
    bool is64;
    int ret = linux_header_parse(p, data, len, &h, e);

    if (!ret)
        ret = linux_load(p, &h, &entry, &end, &is64, e);
    if (!ret)
        ret = boot_place_initrd(p, end, h.initrd_addr_max + 1, false, &initrd, e);
    if (!ret)
        ret = boot_place_cmdline(p, "", h.cmdline_size, e);
    if (ret)
        return ret;
    header_end = min_u64(ZP_HEADER_MAGIC + (uint64_t)data[ZP_HEADER_JUMP], ZP_HEADER_END);
    memcpy(zp + ZP_HEADER, data + ZP_HEADER, header_end - ZP_HEADER);
    st_le32(zp + ZP_CODE32_START, (uint32_t)h.pref_address);
    linux_zero_page(p, zp, &initrd);
    linux_enter(p, s, entry, is64);
    return 0;
}

int linux_boot_vmlinux(const struct boot_params *p, const struct elf_image *elf,
                       struct x86_state *s, struct err *e)
{
    uint8_t zp[ZP_SIZE] = { 0 };
    struct boot_blob initrd;
    uint64_t entry, end;
    int ret = elf_load(elf, p, &end, e);

    if (!ret)
        ret = elf_entry(elf, p, &entry, e);
    if (!ret)
        ret = boot_place_initrd(p, end, 4 * GIB, false, &initrd, e);
    if (!ret)
        ret = boot_place_cmdline(p, "", LINUX_CMDLINE_NOW, e);
    if (ret)
        return ret;
    st_le16(zp + ZP_BOOT_FLAG, 0xaa55);
    st_le32(zp + ZP_HEADER_MAGIC, LINUX_MAGIC);
    st_le16(zp + ZP_VERSION, 0x20c);
    zp[ZP_LOADFLAGS] = LINUX_LOADED_HIGH;
    linux_zero_page(p, zp, &initrd);
    linux_enter(p, s, entry, elf->is64);
    return 0;
}
