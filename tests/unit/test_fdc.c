#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "block/drive.h"
#include "hw/fdc.h"
#include "testvm.h"

enum { FDC = 0x3f0, DOR = 0x3f2, MSR = 0x3f4, FIFO = 0x3f5, DIR = 0x3f7, CCR = 0x3f7, CHANNEL = 2 };
enum { RAM = 0x100000, DATA = 0x20000, SECTOR = 512, TURNS = 200 };
enum { READ_MODE = 0x4a, WRITE_MODE = 0x46 }; /* of the DMA controller, channel 2; of memory */

struct fixture {
    struct testvm *t;
    struct blk *disk[FDC_DRIVES];
    struct i8237 *dma;
    bool irq;
};

/* Each sector is filled with a byte of its number. */
static uint8_t pattern(unsigned lba)
{
    return (uint8_t)(lba * 7 + 1);
}

static struct blk *make_disk(struct testvm *t, uint64_t size, bool readonly)
{
    char path[] = "/tmp/ruche-fdc-XXXXXX";
    struct blk_opts o = {
        .path = path, .format = "raw", .loop = t->vm->loop, .readonly = readonly
    };
    int fd = mkstemp(path);
    struct blk *disk;

    assert_true(fd >= 0);
    for (unsigned lba = 0; lba * SECTOR < size; lba++) {
        uint8_t sector[SECTOR];

        memset(sector, pattern(lba), sizeof(sector));
        assert_int_equal(util_write_all(fd, sector, sizeof(sector)), 0);
    }
    close(fd);
    disk = blk_open(&o, NULL);
    assert_non_null(disk);
    unlink(path);
    return disk;
}

static struct fixture *make_fixture(void)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->t = testvm_create(RAM);
    return f;
}

static void make_controller(struct fixture *f)
{
    static const struct i8237_at dma = { 0x00, 0xc0, 0x81 };
    struct fdc_at at = { FDC, testvm_irq(&f->irq), NULL, CHANNEL };

    at.dma = f->dma = i8237_create(f->t->vm, &dma, NULL);
    assert_non_null(fdc_create(f->t->vm, &at, f->disk, NULL));
    testvm_out(f->t, DOR, 1, 0x1c); /* motor A on */
    testvm_out(f->t, CCR, 1, 0);
}

static struct fixture *start(uint64_t size_a, uint64_t size_b)
{
    struct fixture *f = make_fixture();

    f->disk[0] = make_disk(f->t, size_a, false);
    f->disk[1] = size_b ? make_disk(f->t, size_b, true) : NULL;
    make_controller(f);
    return f;
}

static void finish(struct fixture *f)
{
    testvm_destroy(f->t);
    free(f);
}

static void wait_irq(struct fixture *f)
{
    for (int i = 0; i < TURNS && !f->irq; i++) {
        clock_advance(vm_clock(f->t->vm), 1000000);
        loop_poll(vm_loop(f->t->vm), f->irq ? 0 : 5);
    }
    assert_true(f->irq);
}

static void command(struct fixture *f, const uint8_t *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(testvm_in(f->t, MSR, 1) & 0xc0, 0x80);
        testvm_out(f->t, FIFO, 1, bytes[i]);
    }
}

static void result(struct fixture *f, uint8_t *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(testvm_in(f->t, MSR, 1) & 0xd0, 0xd0);
        bytes[i] = (uint8_t)testvm_in(f->t, FIFO, 1);
    }
    assert_int_equal(testvm_in(f->t, MSR, 1) & 0xd0, 0x80);
}

#define COMMAND(f, ...)                                                                            \
    command(f, (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }))

static void expect_sense(struct fixture *f, uint8_t st0, uint8_t cyl)
{
    uint8_t res[2];

    COMMAND(f, 0x08);
    result(f, res, 2);
    assert_int_equal(res[0], st0);
    assert_int_equal(res[1], cyl);
}

static void seek(struct fixture *f, uint8_t unit, uint8_t cyl)
{
    COMMAND(f, 0x0f, unit, cyl);
    wait_irq(f);
    expect_sense(f, 0x20 | unit, cyl);
    assert_false(f->irq);
}

static void dma_program(struct fixture *f, uint8_t mode, unsigned len)
{
    testvm_out(f->t, 0x0a, 1, 4 | CHANNEL);
    testvm_out(f->t, 0x0c, 1, 0);
    testvm_out(f->t, 0x0b, 1, mode);
    testvm_out(f->t, 0x04, 1, DATA & 0xff);
    testvm_out(f->t, 0x04, 1, DATA >> 8 & 0xff);
    testvm_out(f->t, 0x05, 1, (len - 1) & 0xff);
    testvm_out(f->t, 0x05, 1, (len - 1) >> 8);
    testvm_out(f->t, 0x81, 1, DATA >> 16);
    testvm_out(f->t, 0x0a, 1, CHANNEL);
}

static void expect_result(struct fixture *f, uint8_t st0, uint8_t st1, uint8_t st2)
{
    uint8_t res[7];

    wait_irq(f);
    result(f, res, 7);
    assert_false(f->irq);
    assert_int_equal(res[0], st0);
    assert_int_equal(res[1], st1);
    assert_int_equal(res[2], st2);
}

static void assert_sectors(struct fixture *f, unsigned lba, unsigned n)
{
    for (unsigned i = 0; i < n * SECTOR; i++)
        assert_int_equal(f->t->ram.hva[DATA + i], pattern(lba + i / SECTOR));
}

/* --- the controller --- */

static void test_reset(void **ctx)
{
    struct fixture *f = start(1440 * KIB, 0);
    uint8_t res[1];

    (void)ctx;
    testvm_out(f->t, DOR, 1, 0x00);
    assert_int_equal(testvm_in(f->t, MSR, 1), 0);
    testvm_out(f->t, DOR, 1, 0x0c);
    assert_false(f->irq); /* it takes a moment */
    wait_irq(f);
    for (uint8_t unit = 0; unit < 4; unit++)
        expect_sense(f, 0xc0 | unit, 0);
    assert_false(f->irq);
    COMMAND(f, 0x08);
    result(f, res, 1);
    assert_int_equal(res[0], 0x80);
    finish(f);
}

static void test_identity(void **ctx)
{
    struct fixture *f = start(1440 * KIB, 0);
    uint8_t res[10];

    (void)ctx;
    COMMAND(f, 0x10);
    result(f, res, 1);
    assert_int_equal(res[0], 0x90);
    COMMAND(f, 0x03, 0xdf, 0x02);
    COMMAND(f, 0x13, 0, 0x57, 5);
    COMMAND(f, 0x94);
    result(f, res, 1);
    assert_int_equal(res[0], 0x10);
    testvm_out(f->t, MSR, 1, 0x80); /* a reset by DSR leaves what is locked */
    wait_irq(f);
    for (uint8_t unit = 0; unit < 4; unit++)
        expect_sense(f, 0xc0 | unit, 0);
    COMMAND(f, 0x0e);
    result(f, res, 10);
    assert_int_equal(res[4], 0xdf);
    assert_int_equal(res[5], 0x02);
    assert_int_equal(res[7], 0x80);
    assert_int_equal(res[8], 0x57);
    assert_int_equal(res[9], 5);
    COMMAND(f, 0x1e); /* no such command */
    result(f, res, 1);
    assert_int_equal(res[0], 0x80);
    finish(f);
}

static void test_seek_and_change_line(void **ctx)
{
    struct fixture *f = start(1440 * KIB, 0);
    uint8_t res[1];

    (void)ctx;
    assert_int_equal(testvm_in(f->t, DIR, 1), 0x80);
    seek(f, 0, 10);
    assert_int_equal(testvm_in(f->t, DIR, 1), 0);
    COMMAND(f, 0x04, 0x00);
    result(f, res, 1);
    assert_int_equal(res[0], 0x28);
    COMMAND(f, 0x07, 0x00);
    wait_irq(f);
    expect_sense(f, 0x20, 0);
    COMMAND(f, 0x04, 0x04);
    result(f, res, 1);
    assert_int_equal(res[0], 0x3c);
    COMMAND(f, 0x07, 0x01); /* nobody there */
    wait_irq(f);
    expect_sense(f, 0x71, 0);
    testvm_out(f->t, DOR, 1, 0x2d); /* the change line of B: never goes away */
    assert_int_equal(testvm_in(f->t, DIR, 1), 0x80);
    finish(f);
}

/* --- data --- */

static void test_read(void **ctx)
{
    struct fixture *f = start(1440 * KIB, 0);
    uint8_t res[7];

    (void)ctx;
    seek(f, 0, 3);
    dma_program(f, WRITE_MODE, 5 * SECTOR);
    COMMAND(f, 0xe6, 0x04, 3, 1, 4, 2, 18, 0x1b, 0xff);
    wait_irq(f);
    result(f, res, 7);
    assert_memory_equal(res, ((uint8_t[]){ 0x04, 0, 0, 3, 1, 9, 2 }), 7);
    assert_sectors(f, (3 * 2 + 1) * 18 + 3, 5);
    dma_program(f, WRITE_MODE, 36 * SECTOR); /* both sides */
    COMMAND(f, 0xe6, 0x00, 3, 0, 1, 2, 18, 0x1b, 0xff);
    wait_irq(f);
    result(f, res, 7);
    assert_memory_equal(res, ((uint8_t[]){ 0x00, 0, 0, 4, 0, 1, 2 }), 7);
    assert_sectors(f, 3 * 36, 36);
    finish(f);
}

/* Loaders ask for more than a track: as under other VMMs, the next one follows. */
static void test_read_over_tracks(void **ctx)
{
    struct fixture *f = start(1440 * KIB, 0);
    uint8_t res[7];

    (void)ctx;
    dma_program(f, WRITE_MODE, 60 * SECTOR);
    COMMAND(f, 0xe6, 0x00, 0, 0, 2, 2, 61, 0x1b, 0xff);
    wait_irq(f);
    result(f, res, 7);
    assert_memory_equal(res, ((uint8_t[]){ 0x00, 0, 0, 1, 1, 8, 2 }), 7);
    assert_sectors(f, 1, 60);
    dma_program(f, WRITE_MODE, 20 * SECTOR);
    COMMAND(f, 0x66, 0x00, 1, 0, 1, 2, 20, 0x1b, 0xff); /* of one side */
    expect_result(f, 0x40, 0x04, 0x00);
    seek(f, 0, 79);
    dma_program(f, WRITE_MODE, 20 * SECTOR);
    COMMAND(f, 0xe6, 0x04, 79, 1, 1, 2, 20, 0x1b, 0xff); /* the last track */
    expect_result(f, 0x44, 0x04, 0x10);
    finish(f);
}

static void test_read_errors(void **ctx)
{
    struct fixture *f = start(1440 * KIB, 0);

    (void)ctx;
    dma_program(f, WRITE_MODE, 36 * SECTOR);
    COMMAND(f, 0xe6, 0x00, 1, 0, 1, 2, 18, 0x1b, 0xff); /* the head is at cylinder 0 */
    expect_result(f, 0x40, 0x04, 0x10);
    COMMAND(f, 0xe6, 0x00, 0, 0, 19, 2, 19, 0x1b, 0xff);
    expect_result(f, 0x40, 0x04, 0x00);
    COMMAND(f, 0xe6, 0x00, 0, 0, 1, 3, 18, 0x1b, 0xff); /* sectors of 1024 bytes */
    expect_result(f, 0x40, 0x04, 0x00);
    COMMAND(f, 0xe6, 0x01, 0, 0, 1, 2, 18, 0x1b, 0xff); /* no disk */
    expect_result(f, 0x41, 0x01, 0x00);
    COMMAND(f, 0x66, 0x00, 0, 0, 17, 2, 18, 0x1b, 0xff); /* nobody says enough */
    expect_result(f, 0x40, 0x80, 0x00);
    testvm_out(f->t, CCR, 1, 2); /* 250 kbit/s */
    COMMAND(f, 0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    expect_result(f, 0x40, 0x01, 0x00);
    finish(f);
}

static void test_write(void **ctx)
{
    struct fixture *f = start(1440 * KIB, 720 * KIB);
    uint8_t back[3 * SECTOR];

    (void)ctx;
    memset(f->t->ram.hva + DATA, 0x5a, 3 * SECTOR);
    dma_program(f, READ_MODE, 2 * SECTOR + 100);
    COMMAND(f, 0xc5, 0x00, 0, 0, 2, 2, 18, 0x1b, 0xff);
    expect_result(f, 0x00, 0, 0);
    assert_int_equal(blk_read_sync(f->disk[0], SECTOR, back, sizeof(back)), 0);
    assert_memory_equal(back, f->t->ram.hva + DATA, 2 * SECTOR + 100);
    for (unsigned i = 2 * SECTOR + 100; i < sizeof(back); i++)
        assert_int_equal(back[i], 0); /* the rest of the sector */
    testvm_out(f->t, CCR, 1, 2);
    dma_program(f, READ_MODE, SECTOR);
    COMMAND(f, 0xc5, 0x01, 0, 0, 1, 2, 9, 0x1b, 0xff);
    expect_result(f, 0x41, 0x02, 0); /* write-protected */
    finish(f);
}

static void test_format_and_verify(void **ctx)
{
    struct fixture *f = start(1440 * KIB, 0);
    uint8_t back[18 * SECTOR];

    (void)ctx;
    for (uint8_t i = 0; i < 18; i++)
        memcpy(f->t->ram.hva + DATA + 4 * i, (uint8_t[]){ 0, 1, (uint8_t)(i + 1), 2 }, 4);
    dma_program(f, READ_MODE, 18 * 4);
    COMMAND(f, 0x4d, 0x04, 2, 18, 0x54, 0xf6);
    expect_result(f, 0x04, 0, 0);
    assert_int_equal(blk_read_sync(f->disk[0], 18 * SECTOR, back, sizeof(back)), 0);
    for (unsigned i = 0; i < sizeof(back); i++)
        assert_int_equal(back[i], 0xf6);
    f->t->ram.hva[DATA] = 9; /* another cylinder's */
    dma_program(f, READ_MODE, 18 * 4);
    COMMAND(f, 0x4d, 0x04, 2, 18, 0x54, 0xf6);
    expect_result(f, 0x44, 0x01, 0);
    COMMAND(f, 0x56, 0x80, 0, 0, 1, 2, 18, 0x1b, 5); /* VERIFY, five sectors */
    expect_result(f, 0x00, 0, 0);
    finish(f);
}

static void test_without_dma(void **ctx)
{
    struct fixture *f = start(1440 * KIB, 0);
    uint8_t back[SECTOR];

    (void)ctx;
    COMMAND(f, 0x03, 0xdf, 0x03);
    COMMAND(f, 0x46, 0x00, 0, 0, 3, 2, 3, 0x1b, 0xff);
    wait_irq(f);
    for (unsigned i = 0; i < SECTOR; i++) {
        assert_int_equal(testvm_in(f->t, MSR, 1) & 0xf0, 0xf0);
        assert_int_equal(testvm_in(f->t, FIFO, 1), pattern(2));
    }
    expect_result(f, 0x40, 0x80, 0);
    COMMAND(f, 0x45, 0x00, 0, 0, 3, 2, 3, 0x1b, 0xff);
    wait_irq(f);
    for (unsigned i = 0; i < SECTOR; i++) {
        assert_int_equal(testvm_in(f->t, MSR, 1) & 0xf0, 0xb0);
        testvm_out(f->t, FIFO, 1, 0x77);
    }
    expect_result(f, 0x40, 0x80, 0);
    assert_int_equal(blk_read_sync(f->disk[0], 2 * SECTOR, back, sizeof(back)), 0);
    assert_int_equal(back[0], 0x77);
    assert_int_equal(back[SECTOR - 1], 0x77);
    finish(f);
}

/* A command that finds its channel masked goes on when that is over; a reset ends it. */
static void test_waits_for_dma(void **ctx)
{
    struct fixture *f = start(1440 * KIB, 0);

    (void)ctx;
    COMMAND(f, 0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    for (int i = 0; i < 5; i++)
        loop_poll(vm_loop(f->t->vm), 5);
    assert_false(f->irq);
    assert_int_equal(testvm_in(f->t, MSR, 1), 0x10);
    dma_program(f, WRITE_MODE, SECTOR);
    expect_result(f, 0, 0, 0);
    assert_sectors(f, 0, 1);
    COMMAND(f, 0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff); /* and is forgotten while it is read */
    testvm_out(f->t, DOR, 1, 0x18);
    testvm_out(f->t, DOR, 1, 0x1c);
    wait_irq(f);
    for (uint8_t unit = 0; unit < 4; unit++)
        expect_sense(f, 0xc0 | unit, 0);
    dma_program(f, WRITE_MODE, SECTOR);
    COMMAND(f, 0xe6, 0x00, 0, 0, 5, 2, 18, 0x1b, 0xff);
    expect_result(f, 0, 0, 0);
    assert_sectors(f, 4, 1);
    finish(f);
}

/* An image without its end: zeros, which cannot be written. */
static void test_short_image(void **ctx)
{
    struct fixture *f = start(2 * SECTOR, 0);

    (void)ctx;
    memset(f->t->ram.hva + DATA, 0xee, 4 * SECTOR);
    dma_program(f, WRITE_MODE, 4 * SECTOR);
    COMMAND(f, 0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    expect_result(f, 0, 0, 0);
    assert_sectors(f, 0, 2);
    for (unsigned i = 2 * SECTOR; i < 4 * SECTOR; i++)
        assert_int_equal(f->t->ram.hva[DATA + i], 0);
    dma_program(f, READ_MODE, SECTOR);
    COMMAND(f, 0xc5, 0x00, 0, 0, 9, 2, 18, 0x1b, 0xff);
    expect_result(f, 0x40, 0x20, 0x20);
    finish(f);
}

/* 640K on 80 tracks: the second one begins with the 17th sector. */
static void test_tracks_of_eight(void **ctx)
{
    struct fixture *f = start(640 * KIB, 0);

    (void)ctx;
    testvm_out(f->t, CCR, 1, 2);
    seek(f, 0, 1);
    dma_program(f, WRITE_MODE, 2 * SECTOR);
    COMMAND(f, 0xe6, 0x00, 1, 0, 1, 2, 8, 0x1b, 0xff);
    expect_result(f, 0, 0, 0);
    assert_sectors(f, 16, 2);
    finish(f);
}

static void test_read_id_and_kinds(void **ctx)
{
    static const struct {
        unsigned kib;
        uint8_t cmos, rate;
    } kinds[] = { { 160, 1, 2 },  { 180, 1, 2 }, { 320, 1, 2 },  { 360, 1, 1 },  { 640, 3, 2 },
                  { 720, 3, 2 },  { 800, 3, 2 }, { 1200, 2, 0 }, { 1440, 4, 0 }, { 1680, 4, 0 },
                  { 2880, 5, 3 }, { 1, 4, 0 },   { 2000, 5, 3 } };

    (void)ctx;
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct fixture *f = start((uint64_t)kinds[i].kib * KIB, 0);

        assert_int_equal(fdc_cmos_type(f->disk[0]), kinds[i].cmos);
        testvm_out(f->t, CCR, 1, kinds[i].rate);
        COMMAND(f, 0x4a, 0x00);
        expect_result(f, 0, 0, 0);
        finish(f);
    }
    assert_int_equal(fdc_cmos_type(NULL), 0);
}

/* A drive that starts empty, of 1.44M: the change line, the new geometry, what does not fit. */
static void test_media(void **ctx)
{
    struct fixture *f = make_fixture();
    struct blk *small = make_disk(f->t, 720 * KIB, false),
               *large = make_disk(f->t, 2880 * KIB, true);
    struct err e = { 0 };

    (void)ctx;
    f->disk[0] = drive_create(f->t->vm->loop, "fd0", NULL, NULL);
    make_controller(f);
    assert_int_equal(fdc_cmos_type(f->disk[0]), 4);
    seek(f, 0, 1);
    assert_int_equal(testvm_in(f->t, DIR, 1), 0x80);
    COMMAND(f, 0x4a, 0x00);
    expect_result(f, 0x40, 1, 0);

    assert_int_equal(drive_fits(f->disk[0], large, &e), -EFBIG);
    blk_close(large);
    assert_int_equal(drive_fits(f->disk[0], small, NULL), 0);
    drive_change(f->disk[0], small);
    assert_int_equal(testvm_in(f->t, DIR, 1), 0x80);
    testvm_out(f->t, CCR, 1, 2);
    seek(f, 0, 0);
    assert_int_equal(testvm_in(f->t, DIR, 1), 0);
    dma_program(f, WRITE_MODE, SECTOR);
    COMMAND(f, 0xe6, 0x00, 0, 0, 9, 2, 9, 0x1b, 0xff);
    expect_result(f, 0, 0, 0);
    assert_sectors(f, 8, 1);

    drive_change(f->disk[0], NULL);
    assert_int_equal(testvm_in(f->t, DIR, 1), 0x80);
    COMMAND(f, 0xe6, 0x00, 0, 0, 9, 2, 9, 0x1b, 0xff);
    expect_result(f, 0x40, 1, 0);
    finish(f);
}

/* The floppy is taken out while the FIFO has a sector of it, half read: the command ends. */
static void test_media_in_transfer(void **ctx)
{
    struct fixture *f = make_fixture();

    (void)ctx;
    f->disk[0] = drive_create(f->t->vm->loop, "fd0", make_disk(f->t, 1440 * KIB, false), NULL);
    make_controller(f);
    COMMAND(f, 0x03, 0xdf, 0x03); /* no DMA */
    COMMAND(f, 0x45, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    wait_irq(f);
    testvm_out(f->t, FIFO, 1, 0x55);
    drive_change(f->disk[0], NULL);
    expect_result(f, 0x40, 1, 0);
    finish(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_media),
        cmocka_unit_test(test_media_in_transfer),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_seek_and_change_line),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_read_over_tracks),
        cmocka_unit_test(test_read_errors),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_format_and_verify),
        cmocka_unit_test(test_without_dma),
        cmocka_unit_test(test_waits_for_dma),
        cmocka_unit_test(test_short_image),
        cmocka_unit_test(test_tracks_of_eight),
        cmocka_unit_test(test_read_id_and_kinds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
