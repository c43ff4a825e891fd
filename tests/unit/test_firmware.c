#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/firmware.h"

static int load_file(uint64_t len, struct firmware *f, struct err *e)
{
    int fd = memfd_create("image", MFD_CLOEXEC), rc;
    char path[64];

    assert_int_equal(ftruncate(fd, (off_t)len), 0);
    assert_int_equal(pwrite(fd, "\xea", 1, (off_t)len - 16), 1);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    rc = firmware_load(f, path, 0, e);
    close(fd);
    return rc;
}

static void test_file(void **ctx)
{
    struct firmware f;
    struct err e = { 0 };

    (void)ctx;
    assert_int_equal(load_file(128 * KIB, &f, &e), 0);
    assert_int_equal(f.code_len, 128 * KIB);
    assert_int_equal(f.code[128 * KIB - 16], 0xea);
    assert_null(f.vars);
    firmware_free(&f);
    assert_int_equal(load_file(100 * KIB + 5, &f, &e), -EINVAL);
    assert_int_equal(load_file(32 * KIB, &f, &e), -EINVAL);
    assert_int_equal(load_file(FIRMWARE_MAX + 4096, &f, &e), -EINVAL);
    assert_null(f.code);
    assert_int_equal(firmware_load(&f, "/nonexistent/bios.bin", 0, &e), -ENOENT);
}

/* Also by a link that is not called so. */
static void test_needs_smm(void **ctx)
{
    char dir[] = "/tmp/ruche-firmware-XXXXXX", path[2][64];
    struct err e = { 0 };
    struct firmware f;
    int fd;

    (void)ctx;
    assert_non_null(mkdtemp(dir));
    snprintf(path[0], sizeof(path[0]), "%s/OVMF_CODE_4M.secboot.fd", dir);
    snprintf(path[1], sizeof(path[1]), "%s/OVMF_CODE_4M.ms.fd", dir);
    fd = open(path[0], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 128 * KIB), 0);
    close(fd);
    assert_int_equal(symlink(path[0], path[1]), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(firmware_load(&f, path[i], 0, &e), -ENOTSUP);
        assert_non_null(strstr(e.msg, "System Management Mode"));
        assert_non_null(strstr(e.msg, "--firmware uefi"));
    }
    unlink(path[1]);
    unlink(path[0]);
    rmdir(dir);
}

/* Either the package is there, or the error says which to install. */
static void test_packages(void **ctx)
{
    static const char *const which[] = { "bios", "uefi" }, *const package[] = { "seabios", "ovmf" };

    (void)ctx;
    for (unsigned i = 0; i < ARRAY_SIZE(which); i++) {
        struct err e = { 0 };
        struct firmware f;

        if (firmware_load(&f, which[i], 0, &e)) {
            assert_non_null(strstr(e.msg, package[i]));
            continue;
        }
        assert_int_equal(!f.vars, i == 0);
        assert_true(f.code_len >= FIRMWARE_MIN);
        firmware_free(&f);
    }
}

/* A variable store's size chooses the image; one for which there is none is explained. */
static void test_variable_store(void **ctx)
{
    struct err e = { 0 };
    struct firmware f;

    (void)ctx;
    if (firmware_load(&f, "uefi", 0, &e))
        skip();
    firmware_free(&f);
    assert_int_equal(firmware_load(&f, "uefi", 12345, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "variable store"));
    if (!access("/usr/share/OVMF/OVMF_VARS.fd", R_OK)) {
        assert_int_equal(firmware_load(&f, "uefi", 128 * KIB, &e), 0);
        assert_int_equal(f.code_len + f.vars_len, 2 * MIB);
        firmware_free(&f);
    }
}

static void test_option_rom(void **ctx)
{
    struct err e = { 0 };
    uint8_t *data = NULL;
    uint32_t len;

    (void)ctx;
    if (firmware_load_rom("vgabios-stdvga.bin", &data, &len, &e)) {
        assert_non_null(strstr(e.msg, "seabios"));
        skip();
    }
    assert_memory_equal(data, "\x55\xaa", 2);
    assert_int_equal(len % 512, 0);
    free(data);
}

static void put_gpt(uint8_t *head, unsigned n, const void *type, uint8_t attributes)
{
    memcpy(head + 1024 + 128 * n, type, 16);
    head[1024 + 128 * n + 48] = attributes;
}

static void test_disk(void **ctx)
{
    static const uint8_t esp[16] = { 0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
                                     0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b };
    static uint8_t head[FIRMWARE_DISK_HEAD];

    (void)ctx;
    assert_false(firmware_disk_is_uefi(head));
    head[510] = 0x55;
    head[511] = 0xaa;
    assert_false(firmware_disk_is_uefi(head));
    head[446 + 4] = 0xef; /* MBR: the boot sector's code decides */
    assert_true(firmware_disk_is_uefi(head));
    head[0] = 0xeb;
    assert_false(firmware_disk_is_uefi(head));
    head[446 + 4] = 0xee; /* GPT: the partitions do */
    memcpy(head + 512, "EFI PART", 8);
    head[512 + 72] = 2;
    head[512 + 80] = 128;
    head[512 + 84] = 128;
    assert_false(firmware_disk_is_uefi(head));
    put_gpt(head, 3, esp, 0);
    assert_true(firmware_disk_is_uefi(head));
    put_gpt(head, 127, "Hah!IdontNeedEFI", 0);
    assert_false(firmware_disk_is_uefi(head));
    put_gpt(head, 127, "some other type.", 4);
    assert_false(firmware_disk_is_uefi(head));
    put_gpt(head, 127, "some other type.", 0);
    assert_true(firmware_disk_is_uefi(head));
    memset(head + 512 + 72, 0xff, 16); /* rubbish */
    assert_false(firmware_disk_is_uefi(head));
    head[512 + 84] = 0;
    assert_false(firmware_disk_is_uefi(head));
}

static void test_font(void **ctx)
{
    static uint8_t rom[8 * KIB];
    static const uint8_t smile[] = { 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e };
    uint8_t *bios;
    uint32_t len;

    (void)ctx;
    memset(rom, 0x55, 100);
    memcpy(rom + 100 + 18, smile, sizeof(smile));
    assert_ptr_equal(firmware_find_font(rom, sizeof(rom)), rom + 100);
    assert_null(firmware_find_font(rom, 100 + FIRMWARE_FONT_LEN - 1)); /* cut short */
    assert_null(firmware_find_font(rom + 200, 4096 + 100));
    if (firmware_load_rom("vgabios-stdvga.bin", &bios, &len, NULL))
        return;
    assert_non_null(firmware_find_font(bios, len));
    free(bios);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),       cmocka_unit_test(test_packages),
        cmocka_unit_test(test_needs_smm),  cmocka_unit_test(test_variable_store),
        cmocka_unit_test(test_option_rom), cmocka_unit_test(test_disk),
        cmocka_unit_test(test_font),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
