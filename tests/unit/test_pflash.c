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
#include <sys/stat.h>
#include <unistd.h>

#include "hw/pflash.h"
#include "testvm.h"

enum { LEN = 16 * PFLASH_BLOCK };
#define AT 0xffc00000ull

struct fixture {
    struct testvm *t;
    struct ram_region array;
    struct pflash *p;
    int fd; /* our own look at the file */
};

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->t = testvm_create(0);
    assert_int_equal(ram_alloc(&f->array, "vars", AT, LEN, NULL), 0);
    memset(f->array.hva, 0xff, LEN);
    f->fd = memfd_create("vars", MFD_CLOEXEC);
    assert_int_equal(pwrite(f->fd, f->array.hva, LEN, 0), LEN);
    f->p = pflash_create(f->t->vm, &f->array, dup(f->fd), NULL);
    assert_non_null(f->p);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    ram_free(&f->array);
    close(f->fd);
    free(f);
    return 0;
}

static void put(struct fixture *f, uint64_t off, uint8_t val)
{
    testvm_write(f->t, AT + off, 1, val);
}

static uint8_t get(struct fixture *f, uint64_t off)
{
    return (uint8_t)testvm_read(f->t, AT + off, 1);
}

static uint8_t in_file(struct fixture *f, uint64_t off)
{
    uint8_t byte = 0;

    assert_int_equal(pread(f->fd, &byte, 1, (off_t)off), 1);
    return byte;
}

/* The questions by which OVMF finds out what is there. */
static void test_detect(void **ctx)
{
    struct fixture *f = *ctx;

    put(f, 8, 0x50);
    assert_true(pflash_reads_array(f->p));
    assert_int_equal(get(f, 8), 0xff);
    put(f, 8, 0x70);
    assert_false(pflash_reads_array(f->p));
    assert_int_equal(get(f, 8), 0);
    put(f, 8, 0xff);
    assert_true(pflash_reads_array(f->p));
    assert_int_equal(f->array.hva[8], 0xff); /* a command is no data */
}

static void test_program(void **ctx)
{
    struct fixture *f = *ctx;

    for (unsigned i = 0; i < 100; i++) {
        put(f, 0x1000 + i, 0x10);
        assert_false(pflash_reads_array(f->p));
        put(f, 0x1000 + i, (uint8_t)i);
    }
    put(f, 0x1000, 0xff);
    assert_true(pflash_reads_array(f->p));
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(f->array.hva[0x1000 + i], i);
        assert_int_equal(in_file(f, 0x1000 + i), i);
    }
    put(f, 0x1001, 0x40); /* bits only go from 1 to 0 */
    put(f, 0x1001, 0xfe);
    assert_int_equal(get(f, 0), 0x80);
    assert_int_equal(f->array.hva[0x1001], 0);
    assert_int_equal(in_file(f, 0x1001), 0); /* whoever reads the status knows that it is written */
}

static void test_erase(void **ctx)
{
    struct fixture *f = *ctx;

    put(f, 0x2fff, 0x10);
    put(f, 0x2fff, 0);
    put(f, 0x3000, 0x10);
    put(f, 0x3000, 0);
    put(f, 0x2345, 0x20);
    put(f, 0x2345, 0xd0);
    assert_int_equal(in_file(f, 0x2fff), 0xff);
    assert_int_equal(in_file(f, 0x3000), 0);
    assert_int_equal(get(f, 0), 0x80);
    put(f, 0x3000, 0x20); /* not confirmed: nothing happens, and the status says so */
    put(f, 0x3000, 0x00);
    assert_int_equal(get(f, 0), 0xb0);
    assert_int_equal(f->array.hva[0x3000], 0);
    put(f, 0, 0x50);
    put(f, 0, 0x70);
    assert_int_equal(get(f, 0), 0);
}

static void test_query(void **ctx)
{
    struct fixture *f = *ctx;

    put(f, 0x55, 0x98);
    assert_int_equal(get(f, 0x10), 'Q');
    assert_int_equal(get(f, 0x11), 'R');
    assert_int_equal(get(f, 0x12), 'Y');
    assert_int_equal(get(f, 0x27), 16); /* 64 KiB */
    assert_int_equal(get(f, 0x2d), 15);
    assert_int_equal(get(f, 0x2f), 0x10); /* of 4 KiB */
    assert_int_equal(get(f, 0xff), 0);
    put(f, 0, 0x90);
    assert_int_equal(get(f, 0), 0x89);
}

/* A reset ends commands, not contents. */
static void test_reset(void **ctx)
{
    struct fixture *f = *ctx;
    struct err e = { 0 };

    put(f, 5, 0x10);
    put(f, 5, 0x42);
    put(f, 6, 0x10);
    assert_int_equal(vm_reset(f->t->vm, &e), 0);
    assert_true(pflash_reads_array(f->p));
    assert_int_equal(f->array.hva[5], 0x42);
    assert_int_equal(in_file(f, 5), 0x42);
}

/* A loaded state's variables replace those of the file. */
static void test_load(void **ctx)
{
    struct fixture *f = *ctx;
    struct state s, l;

    put(f, 7, 0x10);
    put(f, 7, 0x33);
    state_init_save(&s);
    device_state_all(f->t->vm->devices, &s);
    put(f, 7, 0x10);
    put(f, 7, 0x00);
    put(f, 7, 0xff);
    assert_int_equal(in_file(f, 7), 0);
    state_init_load(&l, s.buf, s.len);
    device_state_all(f->t->vm->devices, &l);
    assert_int_equal(state_error(&l), 0);
    device_sync_all(f->t->vm->devices);
    assert_int_equal(f->array.hva[7], 0x33);
    assert_int_equal(in_file(f, 7), 0x33);
    assert_int_equal(get(f, 7), 0x80); /* in the middle of it, as it was saved */
    state_fini(&l);
    state_fini(&s);
}

/* A store that cannot be written: the guest is told. */
static void test_write_error(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct ram_region array;
    uint64_t val = 0;

    (void)ctx;
    assert_int_equal(ram_alloc(&array, "vars", AT, LEN, NULL), 0);
    assert_non_null(pflash_create(t->vm, &array, open("/dev/full", O_WRONLY), NULL));
    testvm_write(t, AT, 1, 0x10);
    testvm_write(t, AT, 1, 0);
    val = testvm_read(t, AT, 1);
    assert_int_equal(val, 0x90);
    testvm_destroy(t);
    ram_free(&array);
}

static void test_file(void **ctx)
{
    static uint8_t contents[LEN], again[LEN];
    char dir[] = "/tmp/ruche-pflash-XXXXXX", path[64];
    struct err e = { 0 };
    int fd;

    (void)ctx;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/vars.fd", dir);
    contents[3] = 9;
    fd = pflash_file_open(path, contents, LEN, &e); /* made */
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, 5), 1);
    assert_true(pflash_file_open(path, again, LEN, &e) < 0); /* in use */
    assert_non_null(strstr(e.msg, "use"));
    close(fd);
    fd = pflash_file_open(path, again, LEN, &e); /* its contents, not ours */
    assert_true(fd >= 0);
    assert_int_equal(again[3], 9);
    assert_int_equal(again[5], 'x');
    close(fd);
    e = (struct err){ 0 };
    assert_int_equal(pflash_file_open(path, again, 2 * LEN, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "another"));
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(pflash_file_open(path, again, LEN, &e), -EINVAL);
    unlink(path);
    assert_int_equal(rmdir(dir), 0); /* nothing else was left there */
    assert_true(pflash_file_open("/nonexistent/vars", again, LEN, &e) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_detect, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_program, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_erase, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_query, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reset, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_load, set_up, tear_down),
        cmocka_unit_test(test_write_error),
        cmocka_unit_test(test_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
