/*
 * VDI, VHD, VHDX and VMDK images, written by our own writers, read back in odd pieces; and cut off or
 * overwritten anywhere: they are refused or read, and nothing else happens. What other programs write is read in
 * tests/image/formats.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/formats.h"
#include "block/block.h"
#include "image/copy.h"
#include "rnd.h"

enum { DISK = 5 * MIB + 1024, READS = 200, SEGMENTS = 7 };

struct fixture {
    char dir[64], raw[96], image[96];
    uint8_t *content;
    struct loop *loop;
    uint64_t seed;
};

static const struct {
    const char *format, *option;
} kinds[] = {
    { "vdi", NULL },  { "vdi", "static=on" },
    { "vhd", NULL },  { "vhd", "subformat=fixed" },
    { "vhdx", NULL }, { "vhdx", "block_size=1M" },
    { "vmdk", NULL }, { "vmdk", "subformat=streamOptimized" },
};

static uint64_t random_below(struct fixture *f, uint64_t n)
{
    return (rnd_next(&f->seed) >> 20) % n;
}

static void write_file(const char *path, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(util_write_all(fd, p, n), 0);
    close(fd);
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/ruche-test-foreign-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->raw, sizeof(f->raw), "%s/raw", f->dir);
    snprintf(f->image, sizeof(f->image), "%s/image", f->dir);
    f->loop = loop_create(NULL);
    f->content = calloc(1, DISK);
    assert_non_null(f->content);
    for (uint64_t i = 0; i < DISK; i++) /* text in every third 100 KB, and at the end */
        if (i / 100000 % 3 == 0 || i > DISK - 300)
            f->content[i] = (uint8_t)("the bees know "[i % 14] + i / 4096 % 8);
    write_file(f->raw, f->content, DISK);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    unlink(f->raw);
    unlink(f->image);
    rmdir(f->dir);
    loop_destroy(f->loop);
    free(f->content);
    free(f);
    return 0;
}

static struct blk *open_disk(struct fixture *f, const char *path, const char *format, struct err *e)
{
    struct blk_opts o = { .path = path, .format = format, .readonly = true, .loop = f->loop };

    *e = (struct err){ 0 };
    return blk_open(&o, e);
}

static void make_image(struct fixture *f, size_t kind)
{
    const char *options[] = { kinds[kind].option, NULL };
    struct out_opts o = {
        .path = f->image, .format = kinds[kind].format, .size = DISK, .options = options
    };
    struct copy_opts c = { .loop = f->loop, .workers = 3, .sparse = true };
    struct copy_result result;
    struct err e;
    struct blk *raw = open_disk(f, f->raw, "raw", &e);
    struct out *out;

    unlink(f->image);
    assert_non_null(raw);
    out = out_open(&o, f->loop, &e);
    assert_non_null(out);
    assert_int_equal(copy_disks(&raw, 1, out, &c, &result, &e), 0);
    assert_int_equal(out_finish(out, &e), 0);
    out_close(out);
    blk_close(raw);
}

/* --- reading --- */

struct read {
    struct blk_req req;
    struct iovec iov[SEGMENTS];
    uint8_t *buf;
    int *left;
};

static void read_done(struct blk_req *r, int err)
{
    struct read *x = container_of(r, struct read, req);

    assert_int_equal(err, 0);
    --*x->left;
}

static void start_read(struct fixture *f, struct blk *b, struct read *x)
{
    uint64_t at = 0;

    x->req = (struct blk_req){ .op = BLK_READ, .iov = x->iov, .done = read_done };
    x->req.off = random_below(f, DISK / BLK_SECTOR) * BLK_SECTOR;
    x->req.len = min_u64((1 + random_below(f, 600)) * BLK_SECTOR, DISK - x->req.off);
    x->buf = malloc(x->req.len);
    for (int i = 0; i < SEGMENTS && at < x->req.len; i++) {
        uint64_t n = i == SEGMENTS - 1 ? x->req.len - at : random_below(f, x->req.len - at) + 1;

        x->iov[i] = (struct iovec){ x->buf + at, n };
        x->req.niov++;
        at += n;
    }
    blk_submit(b, &x->req);
}

static void read_everywhere(struct fixture *f, struct blk *b, bool drain)
{
    struct read *all = calloc(READS, sizeof(*all));
    int left = READS;

    for (int i = 0; i < READS; i++) {
        all[i].left = &left;
        start_read(f, b, &all[i]);
    }
    while (left)
        if (drain)
            blk_drain(b);
        else
            loop_poll(f->loop, 1000);
    for (int i = 0; i < READS; i++) {
        assert_memory_equal(all[i].buf, f->content + all[i].req.off, all[i].req.len);
        free(all[i].buf);
    }
    free(all);
}

static void reads_what_was_written(void **ctx)
{
    struct fixture *f = *ctx;

    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        struct err e;
        struct blk *b;

        make_image(f, k);
        b = open_disk(f, f->image, kinds[k].format, &e);
        assert_non_null(b);
        assert_int_equal(b->size, DISK);
        read_everywhere(f, b, false);
        read_everywhere(f, b, true);
        blk_close(b);
    }
}

static void tells_what_is_where(void **ctx)
{
    struct fixture *f = *ctx;

    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        uint64_t off = 0;
        struct blk_extent x;
        struct err e;
        struct blk *b;

        make_image(f, k);
        b = open_disk(f, f->image, kinds[k].format, &e);
        assert_non_null(b);
        for (; off < DISK; off += x.len) {
            assert_int_equal(blk_status(b, off, DISK - off, &x), 0);
            assert_true(x.len && x.len <= DISK - off);
            for (uint64_t i = off; (x.flags & BLK_X_ZERO) && i < off + x.len; i++)
                assert_int_equal(f->content[i], 0);
        }
        blk_close(b);
    }
}

static void is_refused_for_writing(void **ctx)
{
    struct fixture *f = *ctx;
    struct blk_opts o = { .path = f->image, .loop = f->loop };
    struct err e = { 0 };

    make_image(f, 0);
    assert_null(blk_open(&o, &e));
    assert_non_null(strstr(e.msg, "readonly"));
}

/* --- hostile --- */

static void use_if_it_opens(struct fixture *f, const char *format)
{
    uint8_t buf[4 * BLK_SECTOR];
    struct err e;
    struct blk *b = open_disk(f, f->image, format, &e);

    if (!b) {
        assert_true(e.msg[0]);
        return;
    }
    for (int i = 0; i < 8; i++)
        (void)!blk_read_sync(b, random_below(f, b->size / BLK_SECTOR) * BLK_SECTOR, buf,
                             min_u64(sizeof(buf), BLK_SECTOR));
    blk_close(b);
}

static void survives_being_cut_off(void **ctx)
{
    struct fixture *f = *ctx;

    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        struct stat st;

        make_image(f, k);
        assert_int_equal(stat(f->image, &st), 0);
        for (off_t size = st.st_size - 512; size > 0; size = size * 3 / 4) {
            assert_int_equal(truncate(f->image, size), 0);
            use_if_it_opens(f, kinds[k].format);
        }
    }
}

static void survives_other_tables(void **ctx)
{
    struct fixture *f = *ctx;

    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        struct stat st;
        int fd;

        make_image(f, k);
        fd = open(f->image, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        for (int i = 0; i < 40; i++) {
            uint64_t junk = f->seed * (i % 2 ? 1 : UINT64_MAX);
            uint64_t off = random_below(f, i % 4 ? 4096 : (uint64_t)st.st_size - 8);

            assert_int_equal(pwrite(fd, &junk, 1 + random_below(f, 8), (off_t)off) > 0, true);
            use_if_it_opens(f, kinds[k].format);
        }
        close(fd);
    }
}

static void looks_for_files_beside_it_only(void **ctx)
{
    static const char text[] =
        "# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\ncreateType=\"x\"\n"
        "RW 8 FLAT \"../raw\" 0\n";
    struct fixture *f = *ctx;
    struct err e;

    write_file(f->image, text, sizeof(text) - 1);
    assert_null(open_disk(f, f->image, "vmdk", &e));
    assert_non_null(strstr(e.msg, "another folder"));
}

static void test_formats_by_name(void **state)
{
    (void)state;
    assert_string_equal(blk_format_by_name("a.qcow2"), "qcow2");
    assert_string_equal(blk_format_by_name("../x.y/a.b.vmdk"), "vmdk");
    assert_string_equal(blk_format_by_name("a.img"), "raw");
    assert_string_equal(blk_format_by_name("qcow2"), "raw");
    assert_string_equal(blk_format_by_name("a.qcow2/disk"), "raw");
    assert_string_equal(blk_format_by_name("nbd://host/a.qcow2"), "raw");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats_by_name),
        cmocka_unit_test_setup_teardown(reads_what_was_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tells_what_is_where, set_up, tear_down),
        cmocka_unit_test_setup_teardown(is_refused_for_writing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(survives_being_cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(survives_other_tables, set_up, tear_down),
        cmocka_unit_test_setup_teardown(looks_for_files_beside_it_only, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
