#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/endian.h"
#include "block/drive.h"
#include "diskfile.h"
#include "hw/scsi_disk.h"

enum { DISK = 2 << 20, BLOCKS = DISK / 512, BUF = 64 << 10 };

struct fixture {
    struct loop *loop;
    struct diskfile file;
    struct scsi_disk unit;
    uint8_t buf[BUF];
    struct iovec iov[2];
    struct scsi_command c;
    bool done;
};

static int set_up_unit(void **ctx, bool cdrom)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->loop = loop_create(NULL);
    assert_non_null(f->loop);
    diskfile_open(&f->file, f->loop, DISK, cdrom);
    scsi_disk_init(&f->unit, f->file.disk, cdrom, "serial-1");
    *ctx = f;
    return 0;
}

static int set_up(void **ctx)
{
    return set_up_unit(ctx, false);
}

static int set_up_cd(void **ctx)
{
    return set_up_unit(ctx, true);
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    blk_close(f->file.disk);
    loop_destroy(f->loop);
    free(f);
    return 0;
}

static void on_done(struct scsi_command *c)
{
    container_of(c, struct fixture, c)->done = true;
}

/* With a buffer of len bytes, in two pieces; the sense. */
static uint32_t run(struct fixture *f, const uint8_t *cdb, bool to_disk, uint64_t len)
{
    f->iov[0] = (struct iovec){ f->buf, len / 2 };
    f->iov[1] = (struct iovec){ f->buf + len / 2, len - len / 2 };
    f->c = (struct scsi_command){
        .unit = &f->unit, .to_disk = to_disk, .iov = f->iov, .niov = 2, .len = len, .done = on_done
    };
    memcpy(f->c.cdb, cdb, SCSI_CDB_MAX);
    f->done = !scsi_disk_start(&f->c);
    for (unsigned i = 0; i < 200 && !f->done; i++)
        loop_poll(f->loop, 10);
    assert_true(f->done);
    assert_true((f->c.status == SCSI_CHECK_CONDITION) == (f->c.sense != 0));
    return f->c.sense;
}

static void test_inquiry(void **ctx)
{
    static const uint8_t inquiry[16] = { 0x12, 0, 0, 0, 36 },
                         serial[16] = { 0x12, 1, 0x80, 0, 255 };
    static const uint8_t limits[16] = { 0x12, 1, 0xb0, 0, 255 },
                         none[16] = { 0x12, 1, 0x99, 0, 255 };
    struct fixture *f = *ctx;

    assert_int_equal(run(f, inquiry, false, 255), 0);
    assert_int_equal(f->c.moved, 36);
    assert_memory_equal(f->buf + 8, "RUCHE   HARDDISK        ", 24);
    assert_int_equal(run(f, serial, false, 255), 0);
    assert_memory_equal(f->buf, "\0\x80\0\10serial-1", 12);
    assert_int_equal(run(f, limits, false, 255), 0);
    assert_int_equal(f->c.moved, 64);
    assert_int_equal(run(f, none, false, 255), SENSE_BAD_FIELD);
}

static void test_capacity(void **ctx)
{
    static const uint8_t ten[16] = { 0x25 }, sixteen[16] = { 0x9e, 0x10, [13] = 32 };
    struct fixture *f = *ctx;

    assert_int_equal(run(f, ten, false, 8), 0);
    assert_int_equal(ld_be32(f->buf), BLOCKS - 1);
    assert_int_equal(run(f, sixteen, false, 32), 0);
    assert_int_equal(ld_be64(f->buf), BLOCKS - 1);
    assert_int_equal(ld_be32(f->buf + 8), 512);
}

/* The same blocks by CDBs of every length. */
static void test_read_write(void **ctx)
{
    static const uint8_t reads[4][16] = {
        { 0x08, 0, 0, 8, 4 },
        { 0x28, 0, 0, 0, 0, 8, 0, 0, 4 },
        { 0xa8, 0, 0, 0, 0, 8, 0, 0, 0, 4 },
        { 0x88, [9] = 8, [13] = 4 },
    };
    static const uint8_t writes[4][16] = {
        { 0x0a, 0, 0, 16, 4 },
        { 0x2a, 8, 0, 0, 0, 16, 0, 0, 4 },
        { 0xaa, 0, 0, 0, 0, 16, 0, 0, 0, 4 },
        { 0x8a, [9] = 16, [13] = 4 },
    };
    static const uint8_t back[16] = { 0x28, 0, 0, 0, 0, 16, 0, 0, 4 }, flush[16] = { 0x35 };
    struct fixture *f = *ctx;

    for (unsigned i = 0; i < 4; i++) {
        memset(f->buf, 0, 4096);
        assert_int_equal(run(f, reads[i], false, 2048), 0);
        assert_disk(f->buf, 4096, 2048);
        memset(f->buf, (int)i + 1, 2048);
        assert_int_equal(run(f, writes[i], true, 2048), 0);
        assert_int_equal(run(f, back, false, 2048), 0);
        assert_int_equal(f->buf[2047], i + 1);
    }
    assert_int_equal(run(f, flush, false, 0), 0);
}

/* Buffers longer and shorter than the data, of the wrong direction, and none. */
static void test_buffers(void **ctx)
{
    static const uint8_t read[16] = { 0x28, 0, 0, 0, 0, 8, 0, 0, 4 };
    struct fixture *f = *ctx;

    assert_int_equal(run(f, read, false, 8192), 0);
    assert_int_equal(f->c.moved, 2048);
    assert_int_equal(run(f, read, false, 1500), 0);
    assert_int_equal(f->c.moved, 1024);
    assert_int_equal(f->c.wanted, 2048);
    assert_int_equal(run(f, read, true, 2048), SENSE_BAD_FIELD);
    assert_int_equal(run(f, read, false, 0), SENSE_BAD_FIELD);
}

static void test_ends(void **ctx)
{
    uint8_t cdb[16] = { 0x88, [13] = 1 };
    static const uint8_t unknown[16] = { 0xfe }, sense[16] = { 3, 0, 0, 0, 18 };
    struct fixture *f = *ctx;

    st_be64(cdb + 2, BLOCKS - 1);
    assert_int_equal(run(f, cdb, false, 512), 0);
    st_be64(cdb + 2, BLOCKS);
    assert_int_equal(run(f, cdb, false, 512), SENSE_BAD_ADDRESS);
    st_be64(cdb + 2, UINT64_MAX);
    assert_int_equal(run(f, cdb, false, 512), SENSE_BAD_ADDRESS);
    assert_int_equal(run(f, sense, false, 18), 0);
    assert_int_equal(f->buf[2], 5);
    assert_int_equal(f->buf[12], 0x21);
    assert_int_equal(run(f, sense, false, 18), 0);
    assert_int_equal(f->buf[2], 0); /* told once */
    assert_int_equal(run(f, unknown, false, 0), SENSE_BAD_COMMAND);
}

static void test_unmap(void **ctx)
{
    static const uint8_t cdb[16] = { 0x42, [8] = 40 };
    struct fixture *f = *ctx;

    memset(f->buf, 0, 40);
    st_be16(f->buf + 2, 32);
    st_be64(f->buf + 8, 64);
    st_be32(f->buf + 16, 8);
    st_be64(f->buf + 24, BLOCKS - 8);
    st_be32(f->buf + 32, 8);
    assert_int_equal(run(f, cdb, true, 40), 0);
    st_be32(f->buf + 32, 9);
    assert_int_equal(run(f, cdb, true, 40), SENSE_BAD_ADDRESS);
    st_be16(f->buf + 2, 33);
    assert_int_equal(run(f, cdb, true, 40), SENSE_BAD_PARAMETER);
    assert_int_equal(run(f, cdb, true, 39), SENSE_BAD_FIELD); /* fewer bytes than the CDB says */
}

/* 2 MiB of a pattern are more than one request; and zeros. */
static void test_write_same(void **ctx)
{
    uint8_t cdb[16] = { 0x93 }, read[16] = { 0x88, [13] = 100 };
    struct fixture *f = *ctx;

    st_be32(cdb + 10, BLOCKS);
    for (unsigned i = 0; i < 512; i++)
        f->buf[i] = (uint8_t)(i + 3);
    assert_int_equal(run(f, cdb, true, 512), 0);
    st_be64(read + 2, BLOCKS - 100);
    assert_int_equal(run(f, read, false, 51200), 0);
    for (unsigned i = 0; i < 51200; i++)
        assert_int_equal(f->buf[i], (uint8_t)(i % 512 + 3));
    memset(f->buf, 0, 512);
    st_be64(cdb + 2, 8);
    st_be32(cdb + 10, 100);
    assert_int_equal(run(f, cdb, true, 512), 0);
    st_be64(read + 2, 8);
    assert_int_equal(run(f, read, false, 51200), 0);
    assert_int_equal(f->buf[0] | f->buf[51199], 0);
    st_be32(cdb + 10, 0);
    assert_int_equal(run(f, cdb, true, 512), SENSE_BAD_FIELD);
}

static void test_modes(void **ctx)
{
    static const uint8_t sense[16] = { 0x1a, 8, 8, 0, 255 }, select[16] = { 0x15, 0x10, 0, 0, 24 };
    struct fixture *f = *ctx;

    assert_int_equal(run(f, sense, false, 255), 0);
    assert_int_equal(f->c.moved, 24);
    assert_int_equal(f->buf[4 + 2] & 4, 4);
    f->buf[0] = 0;
    f->buf[4 + 2] = 0; /* no write cache */
    assert_int_equal(run(f, select, true, 24), 0);
    assert_int_equal(run(f, sense, false, 255), 0);
    assert_int_equal(f->buf[4 + 2] & 4, 0);
    f->buf[4] = 0x0a;
    assert_int_equal(run(f, select, true, 24), SENSE_BAD_PARAMETER);
}

static void test_host_errors(void **ctx)
{
    static const uint8_t read[16] = { 0x28, [8] = 1 }, write[16] = { 0x2a, [8] = 1 };
    struct fixture *f = *ctx;

    diskfile_break(&f->file, diskfile_broken);
    assert_int_equal(run(f, read, false, 512), SENSE_READ_ERROR);
    assert_int_equal(run(f, write, true, 512), SENSE_WRITE_ERROR);
    diskfile_break(&f->file, diskfile_full);
    assert_int_equal(run(f, write, true, 512), SENSE_NO_SPACE);
    diskfile_break(&f->file, diskfile_undone);
    assert_int_equal(run(f, write, true, 512), 0);
    assert_int_equal(f->c.status, SCSI_BUSY);
}

static void test_attention(void **ctx)
{
    static const uint8_t ready[16] = { 0 }, inquiry[16] = { 0x12, 0, 0, 0, 36 };
    struct fixture *f = *ctx;

    assert_int_equal(run(f, ready, false, 0), 0);
    scsi_disk_reset(&f->unit);
    assert_int_equal(run(f, inquiry, false, 36), 0);
    assert_int_equal(run(f, ready, false, 0), SENSE_POWER_ON);
    assert_int_equal(run(f, ready, false, 0), 0);
}

static void test_cdrom(void **ctx)
{
    static const uint8_t inquiry[16] = { 0x12, 0, 0, 0, 36 }, id[16] = { 0x12, 1, 0x83, 0, 255 };
    static const uint8_t read[16] = { 0x28, 0, 0, 0, 0, 5, 0, 0, 3 }, capacity[16] = { 0x25 };
    static const uint8_t eject[16] = { 0x1b, 0, 0, 0, 2 }, ready[16] = { 0 },
                         write[16] = { 0x2a, [8] = 1 };
    struct fixture *f = *ctx;

    assert_int_equal(run(f, inquiry, false, 36), 0);
    assert_int_equal(f->buf[0], 5);
    assert_int_equal(f->buf[3], 2);
    assert_int_equal(run(f, id, false, 255), 0);
    assert_int_equal(run(f, capacity, false, 8), 0);
    assert_int_equal(ld_be32(f->buf), DISK / 2048 - 1);
    assert_int_equal(run(f, read, false, 3 * 2048), 0);
    assert_disk(f->buf, 5 * 2048, 3 * 2048);
    assert_int_equal(run(f, write, true, 2048), SENSE_BAD_COMMAND);
    assert_int_equal(run(f, eject, false, 0), 0);
    assert_int_equal(run(f, ready, false, 0), SENSE_TRAY_OPEN);
}

/* What GET EVENT STATUS NOTIFICATION tells of the medium: the event << 8 | the status. */
static unsigned events(struct fixture *f)
{
    static const uint8_t poll[16] = { 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8 };

    assert_int_equal(run(f, poll, false, 8), 0);
    assert_int_equal(f->buf[2], 4);
    return (unsigned)f->buf[4] << 8 | f->buf[5];
}

static void test_media(void **ctx)
{
    static const uint8_t ready[16] = { 0 }, capacity[16] = { 0x25 }, lock[16] = { 0x1e, [4] = 1 },
                         unlock[16] = { 0x1e }, eject[16] = { 0x1b, 0, 0, 0, 2 },
                         load[16] = { 0x1b, 0, 0, 0, 3 }, sense6[16] = { 0x1a, 0, 0x3f, 0, 255 },
                         config[16] = { 0x46, [8] = 64 };
    struct fixture *f = *ctx;
    struct diskfile other;
    struct blk *medium = f->file.disk;

    diskfile_open(&other, f->loop, DISK / 2, true);
    f->file.disk = drive_create(f->loop, "cd0", NULL, NULL); /* empty, for tear_down() to close */
    assert_non_null(f->file.disk);
    scsi_disk_init(&f->unit, f->file.disk, true, NULL);

    assert_int_equal(run(f, ready, false, 0), SENSE_NO_MEDIUM);
    assert_int_equal(run(f, capacity, false, 8), SENSE_NO_MEDIUM);
    assert_int_equal(events(f), 0);
    assert_int_equal(run(f, sense6, false, 255), 0);
    assert_int_equal(f->buf[1], 0x70);
    assert_int_equal(run(f, config, false, 64), 0);
    assert_int_equal(ld_be16(f->buf + 6), 0); /* no profile */

    drive_change(f->file.disk, medium);
    assert_int_equal(events(f), 0x202); /* new; there */
    assert_int_equal(events(f), 0x002);
    assert_int_equal(run(f, ready, false, 0), SENSE_CHANGED);
    assert_int_equal(run(f, ready, false, 0), 0);
    assert_int_equal(run(f, capacity, false, 8), 0);
    assert_int_equal(ld_be32(f->buf), DISK / 2048 - 1);

    assert_int_equal(run(f, lock, false, 0), 0);
    assert_int_equal(drive_tray(f->file.disk), DRIVE_LOCKED);
    assert_int_equal(run(f, eject, false, 0), SENSE_LOCKED);
    drive_ask(f->file.disk);
    assert_int_equal(events(f), 0x102); /* somebody wants it */
    assert_int_equal(run(f, unlock, false, 0), 0);
    assert_int_equal(run(f, eject, false, 0), 0);
    assert_int_equal(drive_tray(f->file.disk), DRIVE_OPEN);
    assert_int_equal(events(f), 0x301); /* removed; open */
    assert_int_equal(run(f, ready, false, 0), SENSE_TRAY_OPEN);
    assert_int_equal(run(f, load, false, 0), 0);
    assert_int_equal(run(f, ready, false, 0), SENSE_CHANGED);

    drive_change(f->file.disk, NULL);
    assert_int_equal(drive_tray(f->file.disk), DRIVE_OPEN);
    assert_int_equal(run(f, ready, false, 0), SENSE_TRAY_OPEN);
    drive_change(f->file.disk, other.disk);
    assert_int_equal(drive_tray(f->file.disk), 0);
    assert_int_equal(run(f, capacity, false, 8), SENSE_CHANGED);
    assert_int_equal(run(f, capacity, false, 8), 0);
    assert_int_equal(ld_be32(f->buf), DISK / 2 / 2048 - 1);
}

/* What the tray is like and what the guest has not heard yet travel; the medium may be another one. */
static void test_media_state(void **ctx)
{
    static const uint8_t lock[16] = { 0x1e, [4] = 1 }, ready[16] = { 0 };
    struct fixture *f = *ctx;
    struct diskfile other;
    struct state s, load;

    diskfile_open(&other, f->loop, DISK / 2, true);
    f->file.disk = drive_create(f->loop, "cd0", f->file.disk, NULL);
    scsi_disk_init(&f->unit, f->file.disk, true, NULL);
    drive_change(f->file.disk, other.disk);
    assert_int_equal(run(f, lock, false, 0), 0);
    state_init_save(&s);
    state_begin(&s, "unit", "0", 1);
    scsi_disk_state(&f->unit, &s);
    state_end(&s);
    assert_int_equal(state_error(&s), 0);

    scsi_disk_power_on(&f->unit);
    assert_int_equal(drive_tray(f->file.disk), 0);
    assert_int_equal(events(f), 2);
    state_init_load(&load, s.buf, s.len);
    state_begin(&load, "unit", "0", 1);
    scsi_disk_state(&f->unit, &load);
    state_end(&load);
    assert_int_equal(state_error(&load), 0);
    assert_int_equal(drive_tray(f->file.disk), DRIVE_LOCKED);
    assert_int_equal(events(f), 0x202);
    assert_int_equal(run(f, ready, false, 0), SENSE_CHANGED);
    state_fini(&s);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_inquiry),
        TEST(test_capacity),
        TEST(test_read_write),
        TEST(test_buffers),
        TEST(test_ends),
        TEST(test_unmap),
        TEST(test_write_same),
        TEST(test_modes),
        TEST(test_host_errors),
        TEST(test_attention),
        cmocka_unit_test_setup_teardown(test_cdrom, set_up_cd, tear_down),
        cmocka_unit_test_setup_teardown(test_media, set_up_cd, tear_down),
        cmocka_unit_test_setup_teardown(test_media_state, set_up_cd, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
