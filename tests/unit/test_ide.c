#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/endian.h"
#include "hw/ide.h"
#include "rnd.h"
#include "testvm.h"

/* A disk as primary master, a CD as secondary master; the driver is this file. */
enum { RAM = 0x200000, TABLE = 0x10000, DATA = 0x20000, BM = 0xc000 };
enum { DISK = 4 << 20, CD = 1 << 20, SECTORS = DISK / 512, BLOCKS = CD / 2048 };
enum { PRIMARY = 0x1f0, SECONDARY = 0x170, CONTROL = 0x206 };
enum { ERR = 1, DRQ = 8, READY = 0x50, BSY = 0x80 };
enum { ABRT = 4, IDNF = 0x10 };

struct fixture {
    char path[2][64];
    struct testvm *t;
    struct blk *disk;
    bool irq[2];
};

/* --- set-up --- */

static uint8_t disk_byte(uint64_t off)
{
    return (uint8_t)(off / 512 * 7 + off % 251);
}

static struct blk *open_disk(struct fixture *f, unsigned n, uint64_t size)
{
    struct blk_opts o = { .path = f->path[n], .readonly = n == 1, .loop = f->t->vm->loop };
    uint8_t *bytes = malloc(size);
    struct err e = { 0 };
    struct blk *disk;
    int fd;

    assert_non_null(bytes);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = disk_byte(i);
    snprintf(f->path[n], sizeof(f->path[n]), "/tmp/ruche-test-ide-XXXXXX");
    fd = mkstemp(f->path[n]);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    close(fd);
    free(bytes);
    disk = blk_open(&o, &e);
    assert_non_null(disk);
    return disk;
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct ide_media media[IDE_DRIVES] = { 0 };
    struct err e = { 0 };
    struct pci_bus *bus;

    assert_non_null(f);
    f->t = testvm_create(RAM);
    bus = pci_bus_create(f->t->vm, &e);
    media[0] = (struct ide_media){ .disk = open_disk(f, 0, DISK),
                                   .serial = "serial-123",
                                   .chs = { 50, 16, 63 } };
    f->disk = media[0].disk;
    media[2] = (struct ide_media){ .disk = open_disk(f, 1, CD), .cdrom = true };
    const struct ide_at at[IDE_CHANNELS] = {
        { PRIMARY, PRIMARY + CONTROL, testvm_irq(&f->irq[0]) },
        { SECONDARY, SECONDARY + CONTROL, testvm_irq(&f->irq[1]) },
    };
    assert_int_equal(ide_create(f->t->vm, bus, PCI_DEVFN(1, 1), at, media, &e), 0);
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, BM, 4 * GIB, &e), 0);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    unlink(f->path[0]);
    unlink(f->path[1]);
    free(f);
    return 0;
}

/* --- the driver --- */

static void out(struct fixture *f, unsigned port, unsigned val)
{
    testvm_out(f->t, (uint16_t)port, 1, val);
}

static uint8_t in(struct fixture *f, unsigned port)
{
    return (uint8_t)testvm_in(f->t, (uint16_t)port, 1);
}

static uint8_t *ram(struct fixture *f, uint64_t gpa)
{
    return f->t->ram.hva + gpa;
}

/* Does not acknowledge the interrupt. */
static uint8_t wait_idle(struct fixture *f, unsigned port)
{
    for (unsigned i = 0; i < 1000 && in(f, port + CONTROL) & BSY; i++)
        loop_poll(f->t->vm->loop, 10);
    return in(f, port + CONTROL);
}

static void put_lba(struct fixture *f, uint32_t lba, unsigned count)
{
    out(f, PRIMARY + 6, 0xe0 | (lba >> 24 & 15));
    out(f, PRIMARY + 2, count);
    for (unsigned i = 0; i < 3; i++)
        out(f, PRIMARY + 3 + i, lba >> (8 * i) & 0xff);
}

static void put_lba48(struct fixture *f, uint64_t lba, unsigned count)
{
    out(f, PRIMARY + 6, 0x40);
    for (int high = 1; high >= 0; high--) {
        out(f, PRIMARY + 2, count >> (8 * high) & 0xff);
        for (unsigned i = 0; i < 3; i++)
            out(f, PRIMARY + 3 + i, lba >> (24 * high + 8 * (int)i) & 0xff);
    }
}

static uint8_t command(struct fixture *f, unsigned port, unsigned code)
{
    out(f, port + 7, code);
    return wait_idle(f, port);
}

static void take_words(struct fixture *f, unsigned port, void *to, unsigned len)
{
    for (unsigned i = 0; i < len; i += 2)
        st_le16((uint8_t *)to + i, (uint16_t)testvm_in(f->t, (uint16_t)port, 2));
}

static void give_words(struct fixture *f, unsigned port, const void *from, unsigned len)
{
    for (unsigned i = 0; i < len; i += 2)
        testvm_out(f->t, (uint16_t)port, 2, ld_le16((const uint8_t *)from + i));
}

static void assert_disk(const uint8_t *p, uint64_t off, unsigned len)
{
    for (unsigned i = 0; i < len; i++)
        assert_int_equal(p[i], disk_byte(off + i));
}

/* --- a disk, by PIO --- */

static void test_signatures(void **ctx)
{
    struct fixture *f = *ctx;

    out(f, PRIMARY + CONTROL, 4);
    assert_int_equal(in(f, PRIMARY + 7), BSY);
    out(f, PRIMARY + CONTROL, 0);
    assert_int_equal(in(f, PRIMARY + 7), READY);
    assert_int_equal(in(f, PRIMARY + 1), 1);
    assert_int_equal(in(f, PRIMARY + 4) | in(f, PRIMARY + 5), 0);
    assert_int_equal(in(f, SECONDARY + 4), 0x14);
    assert_int_equal(in(f, SECONDARY + 5), 0xeb);
    out(f, PRIMARY + 6, 0x10); /* nobody there */
    assert_int_equal(in(f, PRIMARY + 7), 0);
    out(f, PRIMARY + 7, 0xec);
    assert_int_equal(in(f, PRIMARY + 7), 0);
    out(f, PRIMARY + 7, 0x90); /* both drives hear it */
    assert_true(f->irq[0]);
    assert_int_equal(in(f, PRIMARY + 1), 1);
}

static void test_identify(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t id[512];

    out(f, PRIMARY + 6, 0);
    assert_int_equal(command(f, PRIMARY, 0xec), READY | DRQ);
    assert_true(f->irq[0]);
    in(f, PRIMARY + 7);
    assert_false(f->irq[0]);
    take_words(f, PRIMARY, id, sizeof(id));
    assert_int_equal(in(f, PRIMARY + 7), READY);
    assert_false(f->irq[0]);
    assert_int_equal(ld_le16(id + 2), 50);
    assert_int_equal(ld_le16(id + 6), 16);
    assert_int_equal(ld_le16(id + 12), 63);
    assert_int_equal(ld_le32(id + 120), SECTORS);
    assert_int_equal(ld_le64(id + 200), SECTORS);
    assert_memory_equal(id + 20, "esirla1-32", 10); /* the words' bytes are swapped */
    assert_int_equal(command(f, SECONDARY, 0xec), READY | ERR);
    assert_int_equal(in(f, SECONDARY + 4), 0x14);
    assert_int_equal(command(f, SECONDARY, 0xa1), READY | DRQ);
    take_words(f, SECONDARY, id, sizeof(id));
    assert_int_equal(ld_le16(id), 0x85c0);
}

static void test_pio_read(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[512];

    put_lba(f, 100, 200); /* more than one buffer */
    assert_int_equal(command(f, PRIMARY, 0x20), READY | DRQ);
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(wait_idle(f, PRIMARY), READY | DRQ);
        assert_true(f->irq[0]);
        in(f, PRIMARY + 7);
        take_words(f, PRIMARY, data, sizeof(data));
        assert_disk(data, (100 + i) * 512, sizeof(data));
    }
    assert_int_equal(wait_idle(f, PRIMARY), READY);
    assert_false(f->irq[0]);
}

static void test_pio_multiple(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[8 * 512];

    put_lba(f, 0, 0);
    assert_int_equal(command(f, PRIMARY, 0xc6), READY); /* off */
    put_lba(f, 0, 3);
    assert_int_equal(command(f, PRIMARY, 0xc4), READY | ERR);
    put_lba(f, 0, 5);
    assert_int_equal(command(f, PRIMARY, 0xc6), READY | ERR); /* no power of two */
    put_lba(f, 0, 8);
    assert_int_equal(command(f, PRIMARY, 0xc6), READY);
    put_lba48(f, 7, 11); /* a whole stretch, and a part of one */
    assert_int_equal(command(f, PRIMARY, 0x29), READY | DRQ);
    take_words(f, PRIMARY, data, sizeof(data));
    assert_disk(data, 7 * 512, sizeof(data));
    assert_int_equal(wait_idle(f, PRIMARY), READY | DRQ);
    take_words(f, PRIMARY, data, 3 * 512);
    assert_disk(data, 15 * 512, 3 * 512);
    assert_int_equal(wait_idle(f, PRIMARY), READY);
}

static void test_pio_write(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[512];

    memset(data, 0x5a, sizeof(data));
    put_lba(f, 8, 2);
    assert_int_equal(command(f, PRIMARY, 0x30), READY | DRQ);
    assert_false(f->irq[0]); /* not before the first sector */
    give_words(f, PRIMARY, data, sizeof(data));
    assert_true(f->irq[0]);
    in(f, PRIMARY + 7);
    give_words(f, PRIMARY, data, sizeof(data));
    assert_int_equal(wait_idle(f, PRIMARY), READY);
    assert_true(f->irq[0]);
    assert_int_equal(command(f, PRIMARY, 0xe7), READY);
    put_lba(f, 9, 2);
    command(f, PRIMARY, 0x20);
    take_words(f, PRIMARY, data, sizeof(data));
    assert_int_equal(data[511], 0x5a);
    take_words(f, PRIMARY, data, sizeof(data));
    assert_disk(data, 10 * 512, sizeof(data));
}

/* Cylinder 1, head 2, sector 3 of 16 heads and 63 sectors; then by other numbers. */
static void test_chs(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t data[512];

    put_lba(f, 0, 1);
    out(f, PRIMARY + 3, 3);
    out(f, PRIMARY + 4, 1);
    out(f, PRIMARY + 6, 0xa2);
    assert_int_equal(command(f, PRIMARY, 0x20), READY | DRQ);
    take_words(f, PRIMARY, data, sizeof(data));
    assert_disk(data, ((16 + 2) * 63 + 2) * 512, sizeof(data));
    out(f, PRIMARY + 2, 17);
    out(f, PRIMARY + 6, 0xa3); /* 4 heads */
    assert_int_equal(command(f, PRIMARY, 0x91), READY);
    out(f, PRIMARY + 2, 1);
    assert_int_equal(command(f, PRIMARY, 0x20), READY | DRQ);
    take_words(f, PRIMARY, data, sizeof(data));
    assert_disk(data, ((4 + 3) * 17 + 2) * 512, sizeof(data));
    out(f, PRIMARY + 3, 0); /* sectors count from 1 */
    assert_int_equal(command(f, PRIMARY, 0x20), READY | ERR);
    assert_int_equal(in(f, PRIMARY + 1), IDNF);
}

static void test_ends_of_disk(void **ctx)
{
    struct fixture *f = *ctx;

    put_lba(f, 0, 0);
    assert_int_equal(command(f, PRIMARY, 0xf8), READY);
    assert_int_equal(in(f, PRIMARY + 3) | in(f, PRIMARY + 4) << 8, SECTORS - 1);
    put_lba(f, SECTORS - 1, 2);
    assert_int_equal(command(f, PRIMARY, 0x20), READY | ERR);
    assert_int_equal(in(f, PRIMARY + 1), IDNF);
    put_lba48(f, UINT64_MAX, 1);
    assert_int_equal(command(f, PRIMARY, 0x24), READY | ERR);
    put_lba(f, 99, 0);
    assert_int_equal(command(f, PRIMARY, 0xf9), READY); /* a disk of 100 sectors now */
    put_lba(f, 100, 1);
    assert_int_equal(command(f, PRIMARY, 0x40), READY | ERR);
    put_lba(f, 99, 1);
    assert_int_equal(command(f, PRIMARY, 0x40), READY);
    assert_int_equal(command(f, PRIMARY, 0xff), READY | ERR);
    assert_int_equal(in(f, PRIMARY + 1), ABRT);
}

static void test_smart(void **ctx)
{
    struct fixture *f = *ctx;

    put_lba(f, 0xc24f00, 1);
    out(f, PRIMARY + 1, 0xda);
    assert_int_equal(command(f, PRIMARY, 0xb0), READY);
    assert_int_equal(in(f, PRIMARY + 4), 0x4f); /* well */
    out(f, PRIMARY + 1, 0xd9);
    assert_int_equal(command(f, PRIMARY, 0xb0), READY);
    out(f, PRIMARY + 1, 0xda);
    assert_int_equal(command(f, PRIMARY, 0xb0), READY | ERR);
}

/* --- bus master --- */

static void put_prd(struct fixture *f, unsigned n, uint32_t gpa, uint32_t len, bool last)
{
    st_le32(ram(f, TABLE + 8 * n), gpa);
    st_le32(ram(f, TABLE + 8 * n + 4), (len & 0xffff) | (uint32_t)last << 31);
}

static void start_bm(struct fixture *f, unsigned channel, bool to_memory)
{
    testvm_out(f->t, (uint16_t)(BM + 8 * channel + 4), 4, TABLE);
    out(f, BM + 8 * channel + 2, 6);
    out(f, BM + 8 * channel, to_memory ? 9 : 1);
}

static void test_dma(void **ctx)
{
    struct fixture *f = *ctx;

    put_prd(f, 0, DATA, 510, false); /* entries end inside sectors */
    put_prd(f, 1, DATA + 0x1000, 0x1002, false);
    put_prd(f, 2, DATA + 0x10000, 0, true); /* 64 KiB, more than is needed */
    put_lba(f, 20, 16);
    command(f, PRIMARY, 0xc8);
    start_bm(f, 0, true);
    assert_int_equal(wait_idle(f, PRIMARY), READY);
    assert_true(f->irq[0]);
    assert_int_equal(in(f, BM + 2) & 7, 5); /* interrupt; active, for the table goes on */
    assert_disk(ram(f, DATA), 20 * 512, 510);
    assert_disk(ram(f, DATA + 0x1000), 20 * 512 + 510, 0x1002);
    assert_disk(ram(f, DATA + 0x10000), 20 * 512 + 510 + 0x1002, 16 * 512 - 510 - 0x1002);
    out(f, BM, 0);
    assert_int_equal(in(f, BM + 2) & 7, 4);
    put_prd(f, 0, DATA, 1024, true); /* and back to another place, the bus master first */
    start_bm(f, 0, false);
    put_lba48(f, 4000, 2);
    assert_int_equal(command(f, PRIMARY, 0x35), READY);
    assert_int_equal(in(f, BM + 2) & 7, 4);
    put_lba(f, 4000, 1);
    command(f, PRIMARY, 0x20);
    take_words(f, PRIMARY, ram(f, DATA + 0x8000), 512);
    assert_memory_equal(ram(f, DATA + 0x8000), ram(f, DATA), 512);
}

static void test_dma_many_entries(void **ctx)
{
    struct fixture *f = *ctx;

    for (unsigned i = 0; i < 1024; i++) /* more than a request takes */
        put_prd(f, i, DATA + 128 * i, 128, i == 1023);
    put_lba(f, 0, 0); /* 256 sectors */
    command(f, PRIMARY, 0xc8);
    start_bm(f, 0, true);
    assert_int_equal(wait_idle(f, PRIMARY), READY);
    assert_int_equal(in(f, BM + 2) & 7, 4);
    assert_disk(ram(f, DATA), 0, 256 * 512);
}

static void test_dma_bad_tables(void **ctx)
{
    struct fixture *f = *ctx;

    put_prd(f, 0, DATA, 1024, true); /* too short: the drive waits for its data */
    put_lba(f, 0, 3);
    command(f, PRIMARY, 0xc8);
    start_bm(f, 0, true);
    assert_int_equal(wait_idle(f, PRIMARY), READY | DRQ);
    assert_int_equal(in(f, BM + 2) & 7, 0);
    out(f, PRIMARY + CONTROL, 4);
    out(f, PRIMARY + CONTROL, 0);
    assert_int_equal(in(f, PRIMARY + 7), READY);
    put_prd(f, 0, 0xf0000000, 512, true); /* no memory */
    put_lba(f, 0, 1);
    command(f, PRIMARY, 0xc8);
    start_bm(f, 0, true);
    assert_int_equal(wait_idle(f, PRIMARY), READY | ERR);
    assert_int_equal(in(f, BM + 2) & 7, 6);
    testvm_out(f->t, BM + 4, 4, 0xfffffff0u); /* nor for the table */
    out(f, BM, 0);
    out(f, BM, 9);
    put_lba(f, 0, 1);
    assert_int_equal(command(f, PRIMARY, 0xc8), READY | ERR);
}

/* The reset waits for the request, and nothing comes after it. */
static void test_reset_in_flight(void **ctx)
{
    struct fixture *f = *ctx;

    put_prd(f, 0, DATA, 0, true);
    start_bm(f, 0, true);
    put_lba(f, 0, 64);
    out(f, PRIMARY + 7, 0xc8);
    out(f, PRIMARY + CONTROL, 4);
    out(f, PRIMARY + CONTROL, 0);
    assert_int_equal(wait_idle(f, PRIMARY), READY);
    assert_int_equal(in(f, PRIMARY + 1), 1);
    assert_int_equal(in(f, PRIMARY + 2), 1);
    assert_false(f->irq[0]);
}

static void test_save_in_flight(void **ctx)
{
    struct fixture *f = *ctx;

    put_prd(f, 0, DATA, 0, true);
    start_bm(f, 0, true);
    put_lba(f, 0, 128);
    out(f, PRIMARY + 7, 0xc8);
    device_quiesce_all(f->t->vm->devices); /* the command ends before the state is saved */
    assert_int_equal(in(f, PRIMARY + CONTROL), READY);
    assert_true(f->irq[0]);
    assert_disk(ram(f, DATA), 0, 0x10000);
}

static void undone_submit(struct blk *b, struct blk_req *r)
{
    (void)b;
    blk_done_later(r, -ECANCELED);
}

/* What the host could not do before the VM was stopped is done when it goes on: by DMA, by PIO, a flush. */
static void test_undone(void **ctx)
{
    struct fixture *f = *ctx;
    const struct blk_ops *works = f->disk->ops;
    struct blk_ops undone = *works;
    uint8_t data[512];

    undone.submit = undone_submit;
    put_prd(f, 0, DATA, 4096, false);
    put_prd(f, 1, DATA + 0x10000, 4096, true);
    f->disk->ops = &undone;
    start_bm(f, 0, true);
    put_lba(f, 0, 16);
    out(f, PRIMARY + 7, 0xc8);
    device_quiesce_all(f->t->vm->devices);
    assert_int_equal(in(f, PRIMARY + CONTROL), BSY);
    f->disk->ops = works;
    device_sync_all(f->t->vm->devices);
    assert_int_equal(wait_idle(f, PRIMARY), READY);
    assert_disk(ram(f, DATA), 0, 4096);
    assert_disk(ram(f, DATA + 0x10000), 4096, 4096);
    f->disk->ops = &undone;
    put_lba(f, 8, 1);
    out(f, PRIMARY + 7, 0x20);
    device_quiesce_all(f->t->vm->devices);
    f->disk->ops = works;
    device_sync_all(f->t->vm->devices);
    assert_int_equal(wait_idle(f, PRIMARY), READY | DRQ);
    take_words(f, PRIMARY, data, 512);
    assert_disk(data, 4096, 512);
    f->disk->ops = &undone;
    out(f, PRIMARY + 7, 0xe7);
    device_quiesce_all(f->t->vm->devices);
    assert_int_equal(in(f, PRIMARY + CONTROL), BSY);
    f->disk->ops = works;
    device_sync_all(f->t->vm->devices);
    assert_int_equal(wait_idle(f, PRIMARY), READY);
}

/* --- a CD --- */

/* What the status is once the packet has been taken. */
static uint8_t packet(struct fixture *f, const uint8_t *cdb, unsigned limit, bool dma)
{
    out(f, SECONDARY + 6, 0);
    out(f, SECONDARY + 1, dma);
    out(f, SECONDARY + 4, limit & 0xff);
    out(f, SECONDARY + 5, limit >> 8);
    assert_int_equal(command(f, SECONDARY, 0xa0), READY | DRQ);
    assert_int_equal(in(f, SECONDARY + 2) & 7, 1);
    give_words(f, SECONDARY, cdb, 12);
    return wait_idle(f, SECONDARY);
}

/* Takes all stretches of a reply; its length. */
static unsigned reply(struct fixture *f, uint8_t *to)
{
    unsigned len = 0;

    while (wait_idle(f, SECONDARY) & DRQ) {
        unsigned n = in(f, SECONDARY + 4) | in(f, SECONDARY + 5) << 8;

        assert_int_equal(in(f, SECONDARY + 2) & 7, 2);
        in(f, SECONDARY + 7);
        take_words(f, SECONDARY, to + len, n);
        len += n;
    }
    assert_true(f->irq[1]);
    assert_int_equal(in(f, SECONDARY + 2) & 7, 3);
    return len;
}

static void assert_sense(struct fixture *f, unsigned key, unsigned asc)
{
    static const uint8_t ask[12] = { 0x03, 0, 0, 0, 18 };
    uint8_t sense[64];

    packet(f, ask, 64, false);
    assert_int_equal(reply(f, sense), 18);
    assert_int_equal(sense[2], key);
    assert_int_equal(sense[12], asc);
}

static void test_cd_read(void **ctx)
{
    static const uint8_t read[12] = { 0x28, 0, 0, 0, 0, 5, 0, 0, 3 };
    static const uint8_t beyond[12] = { 0xa8, 0, 0, 0, 1, 255, 0, 0, 1, 2 };
    struct fixture *f = *ctx;

    assert_int_equal(packet(f, read, 2048, false), READY | DRQ);
    assert_int_equal(reply(f, ram(f, DATA)), 3 * 2048);
    assert_disk(ram(f, DATA), 5 * 2048, 3 * 2048);
    assert_int_equal(packet(f, read, 1000, false), READY | DRQ);
    assert_int_equal(reply(f, ram(f, DATA)), 3 * 2048);
    memset(ram(f, DATA), 0, 3 * 2048);
    put_prd(f, 0, DATA, 3 * 2048, true);
    start_bm(f, 1, true);
    assert_int_equal(packet(f, read, 0, true), READY);
    assert_disk(ram(f, DATA), 5 * 2048, 3 * 2048);
    assert_int_equal(in(f, BM + 8 + 2) & 7, 4);
    assert_int_equal(packet(f, beyond, 2048, false), READY | ERR);
    assert_sense(f, 5, 0x21);
    assert_sense(f, 0, 0);
}

static void test_cd_info(void **ctx)
{
    static const uint8_t inquiry[12] = { 0x12, 0, 0, 0, 36 }, capacity[12] = { 0x25 };
    static const uint8_t toc[12] = { 0x43, 2, 0, 0, 0, 0, 0, 0, 12 }; /* cut short */
    static const uint8_t caps[12] = { 0x5a, 0, 0x2a, 0, 0, 0, 0, 1, 0 };
    static const uint8_t config[12] = { 0x46, 0, 0, 0, 0, 0, 0, 1, 0 };
    static const uint8_t unknown[12] = { 0xfe }, no_page[12] = { 0x5a, 0, 0x11, 0, 0, 0, 0, 1 };
    struct fixture *f = *ctx;
    uint8_t data[512];

    packet(f, inquiry, 512, false);
    assert_int_equal(reply(f, data), 36);
    assert_memory_equal(data + 16, "CD-ROM", 6);
    packet(f, capacity, 512, false);
    assert_int_equal(reply(f, data), 8);
    assert_int_equal(ld_be32(data), BLOCKS - 1);
    packet(f, toc, 512, false);
    assert_int_equal(reply(f, data), 12);
    assert_int_equal(ld_be16(data), 18);
    assert_int_equal(data[10], 2); /* track 1 begins after two seconds */
    packet(f, caps, 512, false);
    assert_int_equal(reply(f, data), 28);
    put_prd(f, 0, DATA, 256, true);
    start_bm(f, 1, true);
    assert_int_equal(packet(f, config, 0, true), READY);
    assert_int_equal(ld_be16(ram(f, DATA + 6)), 0x08);
    assert_int_equal(packet(f, unknown, 512, false), READY | ERR);
    assert_sense(f, 5, 0x20);
    assert_int_equal(packet(f, no_page, 512, false), READY | ERR);
    assert_sense(f, 5, 0x24);
}

static void test_cd_tray(void **ctx)
{
    static const uint8_t ready[12] = { 0 }, lock[12] = { 0x1e, 0, 0, 0, 1 }, unlock[12] = { 0x1e };
    static const uint8_t eject[12] = { 0x1b, 0, 0, 0, 2 }, load[12] = { 0x1b, 0, 0, 0, 3 };
    struct fixture *f = *ctx;

    assert_int_equal(packet(f, ready, 0, false), READY);
    packet(f, lock, 0, false);
    assert_int_equal(packet(f, eject, 0, false), READY | ERR);
    assert_sense(f, 5, 0x53);
    packet(f, unlock, 0, false);
    assert_int_equal(packet(f, eject, 0, false), READY);
    assert_int_equal(packet(f, ready, 0, false), READY | ERR);
    assert_sense(f, 2, 0x3a);
    assert_int_equal(packet(f, load, 0, false), READY);
    assert_int_equal(packet(f, ready, 0, false), READY | ERR); /* told once */
    assert_sense(f, 6, 0x28);
    assert_int_equal(packet(f, ready, 0, false), READY);
}

/* --- a hostile one --- */

static void test_hostile(void **ctx)
{
    struct fixture *f = *ctx;
    uint64_t seed = 5;

    for (unsigned i = 0; i < 200000; i++) {
        unsigned r = (unsigned)(rnd_next(&seed) >> 33);
        unsigned port = (r & 1 ? PRIMARY : SECONDARY) + (r >> 1 & 7);

        if ((r >> 4 & 15) == 0)
            testvm_out(f->t, (uint16_t)(BM + (r >> 8 & 15)), 1u << (r >> 12) % 3, r >> 16);
        else if ((r >> 4 & 15) == 1)
            st_le32(ram(f, r >> 8 & 0xfffc), r);
        else if ((r >> 4 & 127) == 2)
            out(f, PRIMARY + CONTROL, r >> 16 & 6);
        else if ((r >> 4 & 1))
            testvm_in(f->t, (uint16_t)port, 1u << (r >> 12) % 3);
        else
            testvm_out(f->t, (uint16_t)port, 1u << (r >> 12) % 3, r >> 16);
        if (i % 16 == 0)
            loop_poll(f->t->vm->loop, 0);
    }
    device_quiesce_all(f->t->vm->devices);
    device_reset_all(f->t->vm->devices);
    out(f, PRIMARY + 6, 0);
    assert_int_equal(command(f, PRIMARY, 0xec), READY | DRQ);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_signatures),       TEST(test_identify),       TEST(test_pio_read),
        TEST(test_pio_multiple),     TEST(test_pio_write),      TEST(test_chs),
        TEST(test_ends_of_disk),     TEST(test_smart),          TEST(test_dma),
        TEST(test_dma_many_entries), TEST(test_dma_bad_tables), TEST(test_reset_in_flight),
        TEST(test_save_in_flight),   TEST(test_undone),         TEST(test_cd_read),
        TEST(test_cd_info),          TEST(test_cd_tray),        TEST(test_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
