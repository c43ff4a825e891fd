#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bzlib.h>
#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/endian.h"
#include "boot/boot.h"
#include "boot/payload.h"
#include "mem/guest.h"

#include <elf.h> /* last: its PF_W would break x86/regs.h */

enum {
    RAM = 32 * MIB,
    KERNEL_GPA = 0x1000000,
    BUF = 256 * KIB,
    CODE_LEN = 3000,
};

/* A guest with RAM, files on disk, and a kernel image under construction. */
struct fixture {
    struct ram_region ram;
    struct physmap mem;
    struct boot_params p;
    struct x86_state s;
    struct err e;
    char dir[64], kernel[96], initrd[96];
    uint8_t img[BUF];
    size_t len;
};

static int setup(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    assert_int_equal(ram_alloc(&f->ram, "low", 0, RAM, NULL), 0);
    assert_int_equal(physmap_add(&f->mem, &f->ram), 0);
    snprintf(f->dir, sizeof(f->dir), "/tmp/test_boot.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->kernel, sizeof(f->kernel), "%s/kernel", f->dir);
    snprintf(f->initrd, sizeof(f->initrd), "%s/initrd", f->dir);
    f->p = (struct boot_params){ .kernel = f->kernel,
                                 .append = "console=ttyS0",
                                 .mem = &f->mem,
                                 .rsdp_gpa = 0xe0000,
                                 .initrd_max = RAM,
                                 .n_e820 = 3 };
    f->p.e820[0] = (struct boot_e820){ 0, 0x9fc00, E820_RAM };
    f->p.e820[1] = (struct boot_e820){ 0xe0000, 0x20000, E820_RESERVED };
    f->p.e820[2] = (struct boot_e820){ MIB, RAM - MIB, E820_RAM };
    *ctx = f;
    return 0;
}

static int teardown(void **ctx)
{
    struct fixture *f = *ctx;

    unlink(f->kernel);
    unlink(f->initrd);
    rmdir(f->dir);
    physmap_remove(&f->mem, &f->ram);
    ram_free(&f->ram);
    free(f);
    return 0;
}

static void write_file(const char *path, const void *data, size_t len)
{
    FILE *out = fopen(path, "w");

    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, len, out), len);
    fclose(out);
}

static int boot_bytes(struct fixture *f, const void *data, size_t len)
{
    write_file(f->kernel, data, len);
    f->e = (struct err){ 0 };
    memset(&f->s, 0, sizeof(f->s));
    return boot_kernel(&f->p, &f->s, &f->e);
}

static int boot(struct fixture *f)
{
    return boot_bytes(f, f->img, f->len);
}

static void expect_error(struct fixture *f, int ret, const char *word)
{
    assert_int_equal(ret, -f->e.code);
    assert_int_not_equal(ret, 0);
    if (!strstr(f->e.msg, word))
        fail_msg("'%s' is not in '%s'", word, f->e.msg);
}

static uint8_t code_byte(size_t i)
{
    return (uint8_t)(i * 7 + i / 256);
}

/* A one-segment ELF64 executable, linked high, at KERNEL_GPA; with a PVH note if asked. */
static size_t make_elf64(uint8_t *out, bool pvh)
{
    Elf64_Ehdr h = { .e_type = ET_EXEC,
                     .e_machine = EM_X86_64,
                     .e_version = 1,
                     .e_entry = KERNEL_GPA + 0x40,
                     .e_phoff = sizeof(h),
                     .e_ehsize = sizeof(h),
                     .e_phentsize = sizeof(Elf64_Phdr),
                     .e_phnum = pvh ? 2 : 1 };
    Elf64_Phdr ph[2] = {
        { .p_type = PT_LOAD,
          .p_offset = 0x200,
          .p_filesz = CODE_LEN,
          .p_memsz = CODE_LEN + 5000,
          .p_vaddr = 0xffffffff81000000,
          .p_paddr = KERNEL_GPA },
        { .p_type = PT_NOTE, .p_offset = 0x180, .p_filesz = 20, .p_memsz = 20, .p_align = 4 },
    };
    uint32_t note[5] = { 4, 4, 18, 0x006e6558, KERNEL_GPA + 0x80 };

    memset(out, 0, 0x200);
    memcpy(h.e_ident, ELFMAG, SELFMAG);
    h.e_ident[EI_CLASS] = ELFCLASS64;
    h.e_ident[EI_DATA] = ELFDATA2LSB;
    memcpy(out, &h, sizeof(h));
    memcpy(out + sizeof(h), ph, sizeof(ph));
    memcpy(out + 0x180, note, sizeof(note));
    for (size_t i = 0; i < CODE_LEN; i++)
        out[0x200 + i] = code_byte(i);
    return 0x200 + CODE_LEN;
}

static size_t pack_gzip(const uint8_t *in, size_t len, uint8_t *out)
{
    z_stream z = { .next_in = (uint8_t *)(uintptr_t)in,
                   .avail_in = (uInt)len,
                   .next_out = out,
                   .avail_out = BUF / 2 };

    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, 0), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return BUF / 2 - z.avail_out;
}

static size_t pack_lzma(const uint8_t *in, size_t len, uint8_t *out)
{
    lzma_stream s = LZMA_STREAM_INIT;
    lzma_options_lzma opt;

    lzma_lzma_preset(&opt, 6);
    assert_int_equal(lzma_alone_encoder(&s, &opt), LZMA_OK);
    s.next_in = in;
    s.avail_in = len;
    s.next_out = out;
    s.avail_out = BUF / 2;
    assert_int_equal(lzma_code(&s, LZMA_FINISH), LZMA_STREAM_END);
    lzma_end(&s);
    return BUF / 2 - s.avail_out;
}

static size_t pack(enum payload_format format, const uint8_t *in, size_t len, uint8_t *out)
{
    unsigned bz_len = BUF / 2;
    size_t n = 0;

    switch (format) {
    case PAYLOAD_GZIP:
        return pack_gzip(in, len, out); /* has its size at the end already */
    case PAYLOAD_BZIP2:
        assert_int_equal(BZ2_bzBuffToBuffCompress((char *)out, &bz_len, (char *)(uintptr_t)in,
                                                  (unsigned)len, 9, 0, 0),
                         BZ_OK);
        n = bz_len;
        break;
    case PAYLOAD_LZMA:
        n = pack_lzma(in, len, out);
        break;
    case PAYLOAD_XZ:
        assert_int_equal(
            lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, in, len, out, &n, BUF / 2), LZMA_OK);
        break;
    case PAYLOAD_LZ4:
        st_le32(out, 0x184c2102);
        n = (size_t)LZ4_compress_default((const char *)in, (char *)out + 8, (int)len, BUF / 2);
        st_le32(out + 4, (uint32_t)n);
        n += 8;
        break;
    case PAYLOAD_ZSTD:
        n = ZSTD_compress(out, BUF / 2, in, len, 3);
        break;
    case PAYLOAD_PLAIN:
        memcpy(out, in, len);
        return len;
    case PAYLOAD_UNKNOWN:
        memcpy(out, "\x89LZO", 4);
        n = 100;
        break;
    }
    st_le32(out + n, (uint32_t)len);
    return n + 4;
}

/* A bzImage of boot protocol 2.15 around a packed ELF file. */
static void make_bzimage(struct fixture *f, enum payload_format format)
{
    uint8_t *elf = malloc(BUF), *h = f->img;
    size_t elf_len, payload_len;

    assert_non_null(elf);
    elf_len = make_elf64(elf, true);
    memset(f->img, 0, BUF);
    payload_len = pack(format, elf, elf_len, f->img + 1024 + 0x300);
    free(elf);
    h[0x1f1] = 1;
    st_le16(h + 0x1fe, 0xaa55);
    h[0x201] = 0x6a;
    memcpy(h + 0x202, "HdrS", 4);
    st_le16(h + 0x206, 0x20f);
    h[0x211] = 1;
    st_le32(h + 0x214, 0x100000);
    st_le32(h + 0x22c, 0x7fffffff);
    st_le16(h + 0x236, 1);
    st_le32(h + 0x238, 2047);
    st_le32(h + 0x248, 0x300);
    st_le32(h + 0x24c, (uint32_t)payload_len);
    st_le64(h + 0x258, KERNEL_GPA);
    st_le32(h + 0x260, 2 * MIB);
    f->len = 1024 + 0x300 + payload_len;
}

static void expect_code(const struct fixture *f)
{
    for (size_t i = 0; i < CODE_LEN; i++)
        assert_int_equal(f->ram.hva[KERNEL_GPA + i], code_byte(i));
    for (size_t i = CODE_LEN; i < CODE_LEN + 5000; i++)
        assert_int_equal(f->ram.hva[KERNEL_GPA + i], 0);
}

static void expect_long_mode(const struct fixture *f, uint64_t rip)
{
    const uint64_t *pml4 = (const uint64_t *)(f->ram.hva + f->s.cr3);
    const uint64_t *pdpt = (const uint64_t *)(f->ram.hva + (pml4[0] & PAGE_MASK));
    const uint64_t *pd = (const uint64_t *)(f->ram.hva + (pdpt[3] & PAGE_MASK));

    assert_int_equal(f->s.rip, rip);
    assert_true(f->s.cr0 & CR0_PG && f->s.cr4 & CR4_PAE && f->s.efer & EFER_LMA);
    assert_int_equal(f->s.seg[X86_CS].sel, 0x10);
    assert_int_equal(f->s.seg[X86_CS].attr, 0xa09b);
    assert_int_equal(f->s.seg[X86_DS].attr, 0xc093);
    assert_int_equal(f->s.rflags, FLAG_1);
    assert_int_equal(pd[511] & PAGE_MASK, 4 * GIB - 2 * MIB);
    assert_int_equal(ld_le64(f->ram.hva + f->s.gdtr.base + 0x10), 0x00af9b000000ffff);
    assert_int_equal(ld_le64(f->ram.hva + f->s.gdtr.base + 0x18), 0x00cf93000000ffff);
}

static void test_bzimage_formats(void **ctx)
{
    struct fixture *f = *ctx;
    const uint8_t *zp;

    write_file(f->initrd, "initrd!", 7);
    f->p.initrd = f->initrd;
    for (enum payload_format format = PAYLOAD_PLAIN; format <= PAYLOAD_ZSTD; format++) {
        make_bzimage(f, format);
        memset(f->ram.hva + KERNEL_GPA, 0xcc, 64 * KIB);
        if (boot(f))
            fail_msg("%s: %s", payload_format_name(format), f->e.msg);
        expect_code(f);
        expect_long_mode(f, KERNEL_GPA + 0x40);
    }
    zp = f->ram.hva + f->s.gpr[X86_RSI];
    assert_memory_equal(zp + 0x202, "HdrS", 4);
    assert_int_equal(zp[0x210], 0xff);
    assert_int_equal(zp[0x1e8], 3);
    assert_int_equal(ld_le64(zp + 0x2d0 + 2 * 20 + 8), RAM - MIB);
    assert_int_equal(ld_le64(zp + 0x70), 0xe0000);
    assert_string_equal((const char *)f->ram.hva + ld_le32(zp + 0x228), "console=ttyS0");
    assert_int_equal(ld_le32(zp + 0x218), RAM - PAGE_SIZE);
    assert_int_equal(ld_le32(zp + 0x21c), 7);
    assert_memory_equal(f->ram.hva + RAM - PAGE_SIZE, "initrd!", 7);
}

static void test_bzimage_unknown_format(void **ctx)
{
    struct fixture *f = *ctx;

    make_bzimage(f, PAYLOAD_UNKNOWN);
    assert_int_equal(boot(f), 0);
    expect_long_mode(f, KERNEL_GPA + 0x200);
    assert_memory_equal(f->ram.hva + KERNEL_GPA, f->img + 1024, f->len - 1024);
    st_le16(f->img + 0x236, 0); /* a 32-bit kernel */
    assert_int_equal(boot(f), 0);
    assert_int_equal(f->s.rip, KERNEL_GPA);
    assert_int_equal(f->s.cr0, CR0_PE | CR0_ET);
}

static void test_bzimage_refusals(void **ctx)
{
    struct fixture *f = *ctx;
    char longline[3000];

    make_bzimage(f, PAYLOAD_GZIP);
    st_le32(f->img + f->len - 4, 0x7fffffff);
    expect_error(f, boot(f), "more --memory");
    st_le32(f->img + f->len - 4, CODE_LEN);
    expect_error(f, boot(f), "gzip");
    make_bzimage(f, PAYLOAD_ZSTD);
    st_le32(f->img + 0x24c, 0x7fffffff);
    expect_error(f, boot(f), "cut short");
    make_bzimage(f, PAYLOAD_ZSTD);
    st_le32(f->img + 0x260, 0x7fffffff);
    expect_error(f, boot(f), "more --memory");
    make_bzimage(f, PAYLOAD_ZSTD);
    st_le16(f->img + 0x206, 0x201);
    expect_error(f, boot(f), "protocol");
    make_bzimage(f, PAYLOAD_ZSTD);
    memset(longline, 'x', sizeof(longline));
    longline[sizeof(longline) - 1] = 0;
    f->p.append = longline;
    expect_error(f, boot(f), "2047");
    f->p.append = NULL;
    f->p.initrd = f->initrd;
    expect_error(f, boot(f), "initrd");
    write_file(f->initrd, "", 0);
    expect_error(f, boot(f), "empty");
    write_file(f->initrd, "x", 1);
    assert_int_equal(truncate(f->initrd, RAM), 0);
    expect_error(f, boot(f), "does not fit");
}

/* As iPXE's: a boot sector and a BIOS's caller, dressed as Linux. */
static void test_linux_16bit_only(void **ctx)
{
    struct fixture *f = *ctx;

    make_bzimage(f, PAYLOAD_GZIP);
    st_le16(f->img + 0x236, 0);
    st_le32(f->img + 0x214, 0);
    expect_error(f, boot(f), "needs a BIOS");
}

static void test_files(void **ctx)
{
    struct fixture *f = *ctx;

    f->e = (struct err){ 0 };
    expect_error(f, boot_kernel(&f->p, &f->s, &f->e), "check the path");
    f->e = (struct err){ 0 };
    f->p.kernel = f->dir;
    expect_error(f, boot_kernel(&f->p, &f->s, &f->e), "directory");
    f->p.kernel = f->kernel;
    expect_error(f, boot_bytes(f, "", 0), "empty");
    expect_error(f, boot_bytes(f, "x", 1), "neither");
    expect_error(f, boot_bytes(f, "MZ and more", 11), "EFI");
    assert_int_equal(truncate(f->kernel, (off_t)(2 * GIB)), 0);
    f->e = (struct err){ 0 };
    expect_error(f, boot_kernel(&f->p, &f->s, &f->e), "no kernel");
    f->p.e820[0].len = 0x1000;
    f->e = (struct err){ 0 };
    expect_error(f, boot_kernel(&f->p, &f->s, &f->e), "--memory");
}

static void test_pvh(void **ctx)
{
    struct fixture *f = *ctx;
    const uint8_t *info, *module;

    write_file(f->initrd, "abc", 3);
    f->p.initrd = f->initrd;
    f->len = make_elf64(f->img, true);
    assert_int_equal(boot(f), 0);
    expect_code(f);
    assert_int_equal(f->s.rip, KERNEL_GPA + 0x80);
    assert_int_equal(f->s.cr0, CR0_PE | CR0_ET);
    assert_int_equal(f->s.seg[X86_CS].attr, 0xc09b);
    info = f->ram.hva + f->s.gpr[X86_RBX];
    assert_int_equal(ld_le32(info), 0x336ec578);
    assert_int_equal(ld_le32(info + 12), 1);
    module = f->ram.hva + ld_le64(info + 16);
    assert_memory_equal(f->ram.hva + ld_le64(module), "abc", 3);
    assert_int_equal(ld_le64(module + 8), 3);
    assert_string_equal((const char *)f->ram.hva + ld_le64(info + 24), "console=ttyS0");
    assert_int_equal(ld_le64(info + 32), 0xe0000);
    assert_int_equal(ld_le32(info + 48), 3);
    assert_int_equal(ld_le64(f->ram.hva + ld_le64(info + 40) + 24), 0xe0000);
}

/* A kernel may lie anywhere in RAM: what the loader needs makes way. */
static void test_low_kernel(void **ctx)
{
    struct fixture *f = *ctx;
    uint64_t end = 0x4000 + CODE_LEN + 5000;

    f->len = make_elf64(f->img, false);
    st_le64(f->img + 24, 0x4040);      /* entry */
    st_le64(f->img + 64 + 24, 0x4000); /* paddr */
    assert_int_equal(boot(f), 0);
    assert_int_equal(f->s.rip, 0x4040);
    assert_memory_equal(f->ram.hva + 0x4000, f->img + 0x200, CODE_LEN);
    assert_true(f->s.gdtr.base >= end && f->s.cr3 >= end && f->s.gpr[X86_RSI] >= end);
    assert_int_equal(ld_le16(f->ram.hva + f->s.gpr[X86_RSI] + 0x1fe), 0xaa55);
    st_le64(f->img + 24, 0x80040);
    st_le64(f->img + 64 + 24, 0x80000);
    assert_int_equal(boot(f), 0);
    assert_int_equal(f->s.gdtr.base, 0x1000);
    st_le64(f->img + 24, 0x4040);
    st_le64(f->img + 64 + 24, 0x4000);
    st_le64(f->img + 64 + 40, 0x9b000); /* memsz: all that there is */
    expect_error(f, boot(f), "no room");
    st_le64(f->img + 64 + 24, 0x9f000);
    expect_error(f, boot(f), "no memory");
}

static void test_vmlinux(void **ctx)
{
    struct fixture *f = *ctx;

    f->len = make_elf64(f->img, false);
    assert_int_equal(boot(f), 0);
    expect_code(f);
    expect_long_mode(f, KERNEL_GPA + 0x40);
    st_le64(f->img + 24, 0xffffffff81000010); /* a virtual entry is translated */
    assert_int_equal(boot(f), 0);
    expect_long_mode(f, KERNEL_GPA + 0x10);
    st_le64(f->img + 24, 0x10);
    expect_error(f, boot(f), "entry");
    f->len = make_elf64(f->img, false);
    st_le64(f->img + 64 + 24, 0xfffffffffffff000);
    expect_error(f, boot(f), "no memory");
    f->len = make_elf64(f->img, false);
    st_le64(f->img + 64 + 32, 0xffffffffffffff00); /* filesz */
    expect_error(f, boot(f), "outside the file");
    f->len = make_elf64(f->img, false);
    st_le16(f->img + 18, EM_AARCH64);
    expect_error(f, boot(f), "processor");
}

/* Header at 0x10 with address fields, code after it. */
static void make_multiboot(struct fixture *f)
{
    uint32_t flags = BIT(0) | BIT(1) | BIT(16), load = 0x200000;
    uint32_t h[8] = { 0x1badb002, flags,        -(0x1badb002 + flags), load + 0x10,
                      load,       load + 0x400, load + 0x2000,         load + 0x30 };

    for (size_t i = 0; i < 0x500; i++)
        f->img[i] = code_byte(i);
    memcpy(f->img + 0x10, h, sizeof(h));
    f->len = 0x500;
}

static void test_multiboot(void **ctx)
{
    struct fixture *f = *ctx;
    const uint8_t *info, *mmap;
    char line[200];

    make_multiboot(f);
    write_file(f->initrd, "module", 6);
    f->p.initrd = f->initrd;
    memset(f->ram.hva + 0x200000, 0xcc, 0x3000);
    assert_int_equal(boot(f), 0);
    assert_memory_equal(f->ram.hva + 0x200000, f->img, 0x400);
    assert_int_equal(f->ram.hva[0x200400], 0);
    assert_int_equal(f->ram.hva[0x201fff], 0);
    assert_int_equal(f->s.rip, 0x200030);
    assert_int_equal(f->s.gpr[X86_RAX], 0x2badb002);
    assert_int_equal(f->s.seg[X86_CS].sel, 0x08);
    assert_int_equal(f->s.seg[X86_DS].sel, 0x10);
    assert_int_equal(ld_le64(f->ram.hva + f->s.gdtr.base + 8), 0x00cf9b000000ffff);
    info = f->ram.hva + f->s.gpr[X86_RBX];
    assert_int_equal(ld_le32(info) & 0x4d, 0x4d);
    assert_int_equal(ld_le32(info + 4), 639);
    assert_int_equal(ld_le32(info + 8), (RAM - MIB) / KIB);
    snprintf(line, sizeof(line), "%s console=ttyS0", f->kernel);
    assert_string_equal((const char *)f->ram.hva + ld_le32(info + 16), line);
    assert_int_equal(ld_le32(info + 20), 1);
    assert_int_equal(ld_le32(f->ram.hva + ld_le32(info + 24)), 0x202000);
    assert_memory_equal(f->ram.hva + 0x202000, "module", 6);
    mmap = f->ram.hva + ld_le32(info + 48);
    assert_int_equal(ld_le32(info + 44), 3 * 24);
    assert_int_equal(ld_le32(mmap), 20);
    assert_int_equal(ld_le64(mmap + 24 + 4), 0xe0000);
    f->img[0x10 + 4] |= 8; /* an unknown requirement */
    f->img[0x10 + 8] = (uint8_t)(f->img[0x10 + 8] - 8);
    expect_error(f, boot(f), "features");
    make_multiboot(f);
    st_le32(f->img + 0x10 + 20, 0x200000 + 0x10000);
    expect_error(f, boot(f), "load end");
    make_multiboot(f);
    st_le32(f->img + 0x10 + 12, 0x100000);
    expect_error(f, boot(f), "load address");
}

static void test_multiboot_elf(void **ctx)
{
    struct fixture *f = *ctx;
    uint32_t h[3] = { 0x1badb002, 0, -0x1badb002u };

    f->len = make_elf64(f->img, true);
    memcpy(f->img + 0x1a0, h, sizeof(h));
    assert_int_equal(boot(f), 0);
    expect_code(f);
    assert_int_equal(f->s.rip, KERNEL_GPA + 0x40);
    assert_int_equal(f->s.gpr[X86_RAX], 0x2badb002);
}

/* Whatever the bytes: success or a sentence, and nothing outside of guest memory (sanitizers watch). */
static void damage(struct fixture *f, unsigned *seed)
{
    uint8_t *good = malloc(BUF);

    assert_non_null(good);
    memcpy(good, f->img, f->len);
    for (size_t cut = 1; cut < f->len; cut += 1 + f->len / 200)
        if (boot_bytes(f, good, cut))
            assert_true(f->e.msg[0]);
    for (unsigned round = 0; round < 300; round++) {
        size_t head = round % 2 ? min_u64(f->len, 0x300) : f->len;

        memcpy(f->img, good, f->len);
        for (unsigned i = 0; i < 1 + round % 4; i++)
            f->img[(size_t)rand_r(seed) % head] = (uint8_t)rand_r(seed);
        if (boot(f))
            assert_true(f->e.msg[0]);
    }
    free(good);
}

static void test_damage(void **ctx)
{
    struct fixture *f = *ctx;
    unsigned seed = 1;

    for (enum payload_format format = PAYLOAD_UNKNOWN; format <= PAYLOAD_ZSTD; format++) {
        make_bzimage(f, format);
        damage(f, &seed);
    }
    f->len = make_elf64(f->img, true);
    damage(f, &seed);
    make_multiboot(f);
    damage(f, &seed);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_bzimage_formats),
        TEST(test_bzimage_unknown_format),
        TEST(test_bzimage_refusals),
        TEST(test_linux_16bit_only),
        TEST(test_files),
        TEST(test_pvh),
        TEST(test_low_kernel),
        TEST(test_vmlinux),
        TEST(test_multiboot),
        TEST(test_multiboot_elf),
        TEST(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
