#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/endian.h"
#include "bus/pci.h"
#include "diskfile.h"
#include "hw/ahci.h"
#include "rnd.h"
#include "testvm.h"

/* A disk at port 0, a CD at port 1; the driver is this file. */
enum { RAM = 4 << 20, DISK = 4 << 20, CD = 1 << 20, SECTORS = DISK / 512 };
enum { LIST = 0x10000, FIS = 0x11000, TABLE = 0x20000, DATA = 0x100000 };
enum {
    CLB = 0,
    FB = 8,
    IS = 0x10,
    IE = 0x14,
    CMD = 0x18,
    TFD = 0x20,
    SIG = 0x24,
    SSTS = 0x28,
    SCTL = 0x2c,
    SACT = 0x34,
    CI = 0x38
};
enum { D2H = 0x40, PIO = 0x20, TFES = 1 << 30, OFS = 1 << 24 };

struct fixture {
    struct testvm *t;
    struct diskfile disk, cd;
    struct pci_dev *pci;
    uint64_t bar;
};
struct command {
    uint8_t code;
    uint64_t lba;
    uint16_t count, feature;
    bool write;
    const uint8_t *packet;
};

static uint8_t *ram(struct fixture *f, uint64_t gpa)
{
    return f->t->ram.hva + gpa;
}

static uint32_t get(struct fixture *f, unsigned port, unsigned reg)
{
    return (uint32_t)testvm_read(f->t, f->bar + 0x100 + 0x80 * port + reg, 4);
}

static void put(struct fixture *f, unsigned port, unsigned reg, uint32_t val)
{
    testvm_write(f->t, f->bar + 0x100 + 0x80 * port + reg, 4, val);
}

static void start(struct fixture *f, unsigned port)
{
    put(f, port, CLB, LIST + 0x8000 * port);
    put(f, port, CLB + 4, 0);
    put(f, port, FB, FIS + 0x8000 * port);
    put(f, port, FB + 4, 0);
    put(f, port, IE, 0xffffffff);
    put(f, port, CMD, 0x10);
    put(f, port, CMD, 0x11);
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e = { 0 };
    struct pci_bus *bus;

    assert_non_null(f);
    f->t = testvm_create(RAM);
    bus = pci_bus_create(f->t->vm, &e);
    diskfile_open(&f->disk, f->t->vm->loop, DISK, false);
    diskfile_open(&f->cd, f->t->vm->loop, CD, true);
    const struct ahci_media media[2] = { { f->disk.disk, false, "serial-1" },
                                         { f->cd.disk, true, NULL } };
    assert_int_equal(ahci_create(bus, PCI_DEVFN(3, 0), media, 2, &e), 0);
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, &e), 0);
    f->pci = pci_bus_at(bus, PCI_DEVFN(3, 0));
    f->pci->cfg[PCI_COMMAND] |= PCI_CMD_MASTER;
    f->bar = f->pci->bar[5].mapped_at;
    testvm_write(f->t, f->bar + 4, 4, 2);
    start(f, 0);
    start(f, 1);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    free(f);
    return 0;
}

/* --- the driver --- */

/* Entry i of the slot's table. */
static void put_prd(struct fixture *f, unsigned slot, unsigned i, uint64_t gpa, uint32_t len)
{
    uint8_t *p = ram(f, TABLE + 0x1000 * (uint64_t)slot + 0x80 + 16 * (uint64_t)i);

    st_le64(p, gpa);
    st_le32(p + 12, len - 1);
}

static void put_command(struct fixture *f, unsigned port, unsigned slot, const struct command *c,
                        unsigned prds)
{
    uint64_t table = TABLE + 0x1000 * (uint64_t)slot;
    uint8_t *head = ram(f, LIST + 0x8000 * (uint64_t)port + 32 * (uint64_t)slot);
    uint8_t *fis = ram(f, table);

    memset(fis, 0, 0x80);
    fis[0] = 0x27;
    fis[1] = 0x80;
    fis[2] = c->code;
    fis[7] = 0x40;
    for (unsigned i = 0; i < 3; i++) {
        fis[4 + i] = (uint8_t)(c->lba >> (8 * i));
        fis[8 + i] = (uint8_t)(c->lba >> (24 + 8 * i));
    }
    st_le16(fis + 12, c->count);
    fis[3] = (uint8_t)c->feature;
    fis[11] = (uint8_t)(c->feature >> 8);
    if (c->packet)
        memcpy(fis + 0x40, c->packet, 12);
    st_le32(head, prds << 16 | (c->packet ? 0x20u : 0) | (c->write ? 0x40u : 0) | 5);
    st_le32(head + 4, 0);
    st_le64(head + 8, table);
}

static void wait_slots(struct fixture *f, unsigned port, unsigned reg)
{
    for (unsigned i = 0; i < 200 && get(f, port, reg) && !(get(f, port, IS) & TFES); i++)
        loop_poll(f->t->vm->loop, 10);
}

/* In slot 0, with what its PRD table has; the status and error registers. */
static uint32_t run(struct fixture *f, unsigned port, const struct command *c, unsigned prds)
{
    put_command(f, port, 0, c, prds);
    put(f, port, CI, 1);
    wait_slots(f, port, CI);
    return get(f, port, TFD);
}

static void restart(struct fixture *f, unsigned port)
{
    put(f, port, CMD, 0x10);
    put(f, port, IS, 0xffffffff);
    put(f, port, CMD, 0x11);
}

/* --- tests --- */

static void test_registers(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(testvm_read(f->t, f->bar, 4) & 31, 1); /* two ports */
    assert_int_equal(testvm_read(f->t, f->bar + 0x0c, 4), 3);
    assert_int_equal(testvm_read(f->t, f->bar + 0x10, 4), 0x10301);
    assert_int_equal(get(f, 0, SSTS), 0x133);
    assert_int_equal(get(f, 0, SIG), 0x101);
    assert_int_equal(get(f, 1, SIG), 0xeb140101);
    assert_int_equal(get(f, 0, TFD) & 0xff, 0x50);
    assert_int_equal(*ram(f, FIS + D2H), 0x34); /* the signature's */
}

static void test_identify(void **ctx)
{
    struct fixture *f = *ctx;

    put_prd(f, 0, 0, DATA, 512);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0xec }, 1), 0x50);
    assert_memory_equal(ram(f, DATA + 20), "esirla1-", 8);
    assert_int_equal(ld_le16(ram(f, DATA + 2 * 75)), 31);
    assert_int_equal(ld_le64(ram(f, DATA + 2 * 100)), SECTORS);
    assert_int_equal(*ram(f, FIS + PIO), 0x5f);
    assert_int_equal(ld_le32(ram(f, LIST + 4)), 512);
    assert_int_equal(run(f, 1, &(struct command){ .code = 0xec }, 1), 0x451); /* it is none */
    restart(f, 1);
    assert_int_equal(run(f, 1, &(struct command){ .code = 0xa1 }, 1), 0x50);
}

static void test_dma(void **ctx)
{
    struct fixture *f = *ctx;

    put_prd(f, 0, 0, DATA, 1000); /* pieces need not be whole sectors */
    put_prd(f, 0, 1, DATA + 0x10000, 3096);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0x25, .lba = 16, .count = 8 }, 2), 0x50);
    assert_disk(ram(f, DATA), 8192, 1000);
    assert_disk(ram(f, DATA + 0x10000), 9192, 3096);
    assert_int_equal(ld_le32(ram(f, LIST + 4)), 4096);
    memset(ram(f, DATA), 0x5a, 1000);
    assert_int_equal(
        run(f, 0, &(struct command){ .code = 0x35, .lba = 16, .count = 8, .write = true }, 2),
        0x50);
    memset(ram(f, DATA), 0, 1000);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0x25, .lba = 16, .count = 8 }, 2), 0x50);
    assert_int_equal(*ram(f, DATA + 999), 0x5a);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0xea }, 0), 0x50);
}

/* More pieces than fit in one request, and not of whole sectors each. */
static void test_many_pieces(void **ctx)
{
    struct fixture *f = *ctx;
    enum { PIECES = 160, PIECE = 768 };

    for (unsigned i = 0; i < PIECES; i++)
        put_prd(f, 0, i, DATA + 1024 * (uint64_t)i, PIECE);
    st_le32(ram(f, TABLE + 4), 0);
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(run(f, 0, &(struct command){ .code = 0x25, .count = 240 }, PIECES), 0x50);
        for (unsigned i = 0; i < PIECES; i++)
            assert_disk(ram(f, DATA + 1024 * (uint64_t)i), PIECE * (uint64_t)i, PIECE);
    }
}

static void test_queued(void **ctx)
{
    struct fixture *f = *ctx;

    for (unsigned i = 0; i < 32; i++) {
        put_prd(f, i, 0, DATA + 4096 * (uint64_t)i, 4096);
        put_command(f, 0, i,
                    &(struct command){
                        .code = 0x60, .lba = 8 * i, .feature = 8, .count = (uint16_t)(i << 3) },
                    1);
    }
    put(f, 0, SACT, 0xffffffff);
    put(f, 0, CI, 0xffffffff);
    assert_int_equal(get(f, 0, CI), 0); /* taken */
    wait_slots(f, 0, SACT);
    assert_int_equal(get(f, 0, SACT), 0);
    assert_disk(ram(f, DATA), 0, 32 * 4096);
    assert_int_equal(get(f, 0, IS) & 8, 8);
}

/* One of two fails: the port stops, and the log tells which. */
static void test_queued_error(void **ctx)
{
    struct fixture *f = *ctx;

    put_prd(f, 3, 0, DATA, 512);
    put_command(f, 0, 3,
                &(struct command){ .code = 0x60, .lba = SECTORS, .feature = 1, .count = 3 << 3 },
                1);
    put(f, 0, SACT, 8);
    put(f, 0, CI, 8);
    assert_int_equal(get(f, 0, IS) & TFES, TFES);
    assert_int_equal(get(f, 0, SACT), 8);
    assert_int_equal(get(f, 0, TFD), 0x1051);
    restart(f, 0);
    assert_int_equal(get(f, 0, SACT), 0);
    put_prd(f, 0, 0, DATA, 512);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0x2f, .lba = 0x10, .count = 1 }, 1),
                     0x50);
    assert_int_equal(*ram(f, DATA), 3);
    assert_int_equal(*ram(f, DATA + 3), 0x10);
}

static void test_trim(void **ctx)
{
    struct fixture *f = *ctx;

    memset(ram(f, DATA), 0, 512);
    st_le64(ram(f, DATA), 8ull << 48 | 64);
    st_le64(ram(f, DATA + 8), 8ull << 48 | 128);
    put_prd(f, 0, 0, DATA, 512);
    assert_int_equal(
        run(f, 0, &(struct command){ .code = 6, .feature = 1, .count = 1, .write = true }, 1),
        0x50);
    st_le64(ram(f, DATA), 8ull << 48 | SECTORS);
    assert_int_equal(
        run(f, 0, &(struct command){ .code = 6, .feature = 1, .count = 1, .write = true }, 1),
        0x451);
}

static void test_bad_memory(void **ctx)
{
    struct fixture *f = *ctx;

    put_prd(f, 0, 0, 0xfff00000, 512);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0x25, .count = 1 }, 1), 0x451);
    restart(f, 0);
    put_prd(f, 0, 0, DATA, 512);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0x25, .count = 2 }, 1),
                     0x451); /* too short */
    assert_int_equal(get(f, 0, IS) & OFS, OFS);
    restart(f, 0);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0x25, .count = 1 }, 1), 0x50);
}

static void test_host_errors(void **ctx)
{
    struct fixture *f = *ctx;

    put_prd(f, 0, 0, DATA, 512);
    diskfile_break(&f->disk, diskfile_broken);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0x25, .count = 1 }, 1), 0x4051);
    restart(f, 0);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0x35, .count = 1, .write = true }, 1),
                     0x451);
    restart(f, 0);
    diskfile_break(&f->disk, NULL);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0x25, .count = 1 }, 1), 0x50);
}

static void test_cd(void **ctx)
{
    static const uint8_t read[12] = { 0x28, 0, 0, 0, 0, 5, 0, 0, 3 }, ready[12] = { 0 };
    static const uint8_t beyond[12] = { 0x28, 0, 1, 0, 0, 5, 0, 0, 3 },
                         sense[12] = { 3, 0, 0, 0, 18 };
    struct fixture *f = *ctx;

    put_prd(f, 0, 0, DATA, 3 * 2048);
    assert_int_equal(run(f, 1, &(struct command){ .code = 0xa0, .packet = read, .feature = 1 }, 1),
                     0x50);
    assert_disk(ram(f, DATA), 5 * 2048, 3 * 2048);
    assert_int_equal(run(f, 1, &(struct command){ .code = 0xa0, .packet = ready }, 0), 0x50);
    assert_int_equal(run(f, 1, &(struct command){ .code = 0xa0, .packet = beyond }, 1), 0x5451);
    restart(f, 1);
    assert_int_equal(run(f, 1, &(struct command){ .code = 0xa0, .packet = sense }, 1), 0x50);
    assert_int_equal(*ram(f, DATA + 12), 0x21);
}

static void test_resets_in_flight(void **ctx)
{
    struct fixture *f = *ctx;

    put_prd(f, 0, 0, DATA, 65536);
    put_command(f, 0, 0, &(struct command){ .code = 0x25, .count = 128 }, 1);
    put(f, 0, CI, 1);
    put(f, 0, SCTL, 1);
    put(f, 0, SCTL, 0);
    for (unsigned i = 0; i < 200 && (get(f, 0, TFD) & 0x80); i++)
        loop_poll(f->t->vm->loop, 10);
    assert_int_equal(get(f, 0, TFD), 0x150);
    restart(f, 0);
    put(f, 0, CI, 1);
    testvm_write(f->t, f->bar + 4, 4, 1);
    for (unsigned i = 0; i < 200 && (testvm_read(f->t, f->bar + 4, 4) & 1); i++)
        loop_poll(f->t->vm->loop, 10);
    assert_int_equal(testvm_read(f->t, f->bar + 4, 4), 0x80000000);
    assert_int_equal(get(f, 0, CI), 0);
    start(f, 0);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0x25, .count = 128 }, 1), 0x50);
    assert_disk(ram(f, DATA), 0, 65536);
}

static void test_software_reset(void **ctx)
{
    struct fixture *f = *ctx;

    put_command(f, 0, 0, &(struct command){ .code = 0 }, 0);
    ram(f, TABLE)[1] = 0;
    ram(f, TABLE)[15] = 4;
    put(f, 0, CI, 1);
    assert_int_equal(get(f, 0, CI), 0);
    assert_int_equal(get(f, 0, TFD) & 0x80, 0x80);
    ram(f, TABLE)[15] = 0;
    put(f, 0, CI, 1);
    assert_int_equal(get(f, 0, TFD), 0x150);
}

/* The host could not yet do them when the VM was saved: they are done after the load. */
static void test_undone_is_saved(void **ctx)
{
    struct fixture *f = *ctx;
    struct state save, load;

    diskfile_break(&f->disk, diskfile_undone);
    for (unsigned i = 0; i < 2; i++) {
        put_prd(f, i, 0, DATA + 4096 * (uint64_t)i, 4096);
        put_command(f, 0, i,
                    &(struct command){
                        .code = 0x60, .lba = 8 * i, .feature = 8, .count = (uint16_t)(i << 3) },
                    1);
    }
    put(f, 0, SACT, 3);
    put(f, 0, CI, 3);
    device_quiesce_all(f->t->vm->devices);
    state_init_save(&save);
    device_state(&f->pci->dev, &save);
    assert_int_equal(state_error(&save), 0);
    diskfile_break(&f->disk, NULL);
    state_init_load(&load, save.buf, save.len);
    device_state(&f->pci->dev, &load);
    assert_int_equal(state_error(&load), 0);
    device_sync_all(f->t->vm->devices);
    wait_slots(f, 0, SACT);
    assert_int_equal(get(f, 0, IS) & TFES, 0);
    assert_disk(ram(f, DATA), 0, 8192);
    state_fini(&save);
    state_fini(&load);
}

static void test_msi(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t *cap = f->pci->cfg + f->pci->msi;

    cap[2] |= 1;
    st_le64(cap + 4, 0xfee00000);
    st_le16(cap + 12, 0x31);
    put_prd(f, 0, 0, DATA, 512);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0x25, .count = 1 }, 1), 0x50);
    assert_int_equal(f->t->n_msi, 1);
    assert_int_equal(f->t->msi_data, 0x31);
    testvm_write(f->t, f->bar + 8, 4, 1); /* cleared there, but not at the port: once more */
    assert_int_equal(f->t->n_msi, 2);
    put(f, 0, IS, 0xffffffff);
    testvm_write(f->t, f->bar + 8, 4, 1);
    assert_int_equal(f->t->n_msi, 2);
}

static void test_hostile(void **ctx)
{
    struct fixture *f = *ctx;
    uint64_t seed = 5;

    for (unsigned i = 0; i < 60000; i++) {
        uint32_t r = (uint32_t)(rnd_next(&seed) >> 32), x = (uint32_t)(seed >> 16);

        if ((r & 7) == 0)
            put(f, r >> 4 & 1, r >> 8 & 0x3c, x & (r & 16 ? 0x11u : ~0u));
        else if ((r & 7) < 3)
            st_le32(ram(f, (r & 16 ? LIST : TABLE) + (r >> 8 & 0x1fc)), x);
        else if ((r & 7) < 7)
            put(f, r >> 4 & 1, r & 32 ? CI : SACT, 1u << (r >> 8 & 31));
        else
            start(f, r >> 4 & 1);
        if (i % 16 == 0)
            loop_poll(f->t->vm->loop, 0);
    }
    device_quiesce_all(f->t->vm->devices);
    testvm_write(f->t, f->bar + 4, 4, 1);
    start(f, 0);
    put_prd(f, 0, 0, DATA, 512);
    assert_int_equal(run(f, 0, &(struct command){ .code = 0x25, .count = 1 }, 1), 0x50);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_registers),
        TEST(test_identify),
        TEST(test_dma),
        TEST(test_many_pieces),
        TEST(test_queued),
        TEST(test_queued_error),
        TEST(test_trim),
        TEST(test_bad_memory),
        TEST(test_host_errors),
        TEST(test_cd),
        TEST(test_resets_in_flight),
        TEST(test_software_reset),
        TEST(test_undone_is_saved),
        TEST(test_msi),
        TEST(test_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
