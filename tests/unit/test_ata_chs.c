#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/endian.h"
#include "hw/ata_chs.h"

enum { MIB_SECTORS = 2048 };

static enum ata_translation how;

static struct ata_chs guess(uint64_t mib, unsigned end_head, unsigned end_sector)
{
    uint8_t mbr[512] = { 0 }, *second = mbr + 446 + 16;

    second[5] = (uint8_t)end_head;
    second[6] = (uint8_t)(end_sector | 0xc0); /* two bits of the cylinder */
    st_le32(second + 12, 1000);
    st_le16(mbr + 510, 0xaa55);
    return ata_chs_guess(mib * MIB_SECTORS, mbr, &how);
}

static void is(struct ata_chs chs, unsigned cylinders, unsigned heads, unsigned sectors,
               enum ata_translation expected)
{
    assert_int_equal(chs.cylinders, cylinders);
    assert_int_equal(chs.heads, heads);
    assert_int_equal(chs.sectors, sectors);
    assert_int_equal(how, expected);
}

static void test_unpartitioned(void **ctx)
{
    uint8_t mbr[512];

    (void)ctx;
    memset(mbr, 0xff, sizeof(mbr)); /* no signature */
    is(ata_chs_guess(500 * MIB_SECTORS, mbr, &how), 1015, 16, 63, ATA_TRANSLATE_NONE);
    is(ata_chs_guess(768 * MIB_SECTORS, mbr, &how), 1560, 16, 63, ATA_TRANSLATE_LBA);
    is(ata_chs_guess(1, mbr, &how), 1, 16, 63, ATA_TRANSLATE_NONE);
    is(ata_chs_guess(1ull << 40, mbr, &how), 16383, 16, 63, ATA_TRANSLATE_LBA);
    memset(mbr, 0, sizeof(mbr));
    st_le16(mbr + 510, 0xaa55);
    is(ata_chs_guess(500 * MIB_SECTORS, mbr, &how), 1015, 16, 63, ATA_TRANSLATE_NONE);
}

/* Of another geometry: an old drive, or one of another VMM. */
static void test_partitions_tell(void **ctx)
{
    (void)ctx;
    is(guess(20, 3, 17), 602, 4, 17, ATA_TRANSLATE_NONE);
    is(guess(768, 15, 63), 1560, 16, 63, ATA_TRANSLATE_NONE); /* all cylinders, firmware or not */
}

/* More heads than a drive has are firmware's. */
static void test_translated(void **ctx)
{
    (void)ctx;
    is(guess(2000, 63, 63), 4063, 16, 63, ATA_TRANSLATE_LARGE);
    is(guess(8000, 254, 63), 16253, 16, 63, ATA_TRANSLATE_LBA);
    is(guess(8000, 255, 63), 16253, 16, 63, ATA_TRANSLATE_LBA);
}

static void test_nonsense(void **ctx)
{
    (void)ctx;
    is(guess(500, 15, 0), 1015, 16, 63, ATA_TRANSLATE_NONE);
    is(guess(500, 0, 63), 1015, 16, 63, ATA_TRANSLATE_NONE);
    is(guess(1, 254, 63), 2, 16, 63, ATA_TRANSLATE_NONE);       /* less than a cylinder */
    is(guess(100000, 3, 17), 16383, 16, 63, ATA_TRANSLATE_LBA); /* too many */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unpartitioned),
        cmocka_unit_test(test_partitions_tell),
        cmocka_unit_test(test_translated),
        cmocka_unit_test(test_nonsense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
