/* The folders of images and VMs: what is whole has a name, what is not has none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/store.h"

static char base[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(base, sizeof(base), "/tmp/ruche-test-XXXXXX");
    assert_non_null(mkdtemp(base));
    return setenv("RUCHE_DATA_DIR", base, 1);
}

static int tear_down(void **state)
{
    char path[96];

    (void)state;
    snprintf(path, sizeof(path), "%s/images", base);
    rmdir(path);
    return rmdir(base);
}

static void write_disk(const struct store_entry *s, const char *text)
{
    char path[PATH_MAX];
    int fd;

    store_file(s, "disk", path, sizeof(path));
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void test_life(void **state)
{
    struct store_entry s, other;
    struct store_names l;
    struct err e = { 0 };
    char path[PATH_MAX], sum[STORE_SHA256_LEN + 1];
    struct stat st;

    (void)state;
    assert_int_equal(store_begin(&s, STORE_IMAGES, "debian:trixie", &e), 0);
    write_disk(&s, "abc");
    assert_int_equal(store_list(STORE_IMAGES, &l), 0);
    assert_int_equal(l.n, 0); /* not yet */
    store_names_free(&l);
    json_object_set_new(s.meta, "disk", json_string("disk"));
    assert_int_equal(store_commit(&s, STORE_IMAGES, &e), 0);
    store_close(&s);

    assert_int_equal(store_list(STORE_IMAGES, &l), 0);
    assert_int_equal(l.n, 1);
    store_names_free(&l);
    assert_int_equal(store_open(&s, STORE_IMAGES, "debian:trixie", &e), 0);
    store_disk(&s, path, sizeof(path));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0444);
    assert_int_equal(store_sha256(path, sum, &e), 0);
    assert_string_equal(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    store_close(&s);

    assert_int_equal(store_begin(&other, STORE_IMAGES, "debian:trixie", &e), -EEXIST);
    assert_int_equal(store_remove(STORE_IMAGES, "debian:trixie", NULL), 0);
    assert_int_equal(store_remove(STORE_IMAGES, "debian:trixie", NULL), -ENOENT);
    assert_int_equal(store_open(&s, STORE_IMAGES, "debian:trixie", NULL), -ENOENT);
}

static void test_abort_leaves_nothing(void **state)
{
    struct store_entry s;
    struct stat st;

    (void)state;
    assert_int_equal(store_begin(&s, STORE_IMAGES, "a", NULL), 0);
    write_disk(&s, "abc");
    store_abort(&s);
    assert_int_not_equal(stat(s.dir, &st), 0);
}

static void test_names(void **state)
{
    static const char *const bad[] = { "", ".", "..", "-x", "a/b", "../x", "a b" };
    struct store_entry s;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(store_open(&s, STORE_IMAGES, bad[i], NULL), -ENOENT);
        assert_int_equal(store_begin(&s, STORE_IMAGES, bad[i], NULL), -EINVAL);
        assert_int_equal(store_remove(STORE_IMAGES, bad[i], NULL), -EINVAL);
    }
}

static void test_copy_keeps_holes(void **state)
{
    char from[96], to[96], text[4];
    struct err e = { 0 };
    struct stat st;
    int fd;

    (void)state;
    snprintf(from, sizeof(from), "%s/from", base);
    snprintf(to, sizeof(to), "%s/to", base);
    fd = open(from, O_RDWR | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, 64 * MIB), 0);
    assert_int_equal(pwrite(fd, "abc", 3, 32 * MIB), 3);
    close(fd);
    assert_int_equal(store_copy(from, to, &e), 0);
    assert_int_equal(stat(to, &st), 0);
    assert_int_equal(st.st_size, 64 * MIB);
    assert_true(st.st_blocks < 4096);
    fd = open(to, O_RDONLY);
    assert_int_equal(pread(fd, text, 3, 32 * MIB), 3);
    assert_memory_equal(text, "abc", 3);
    close(fd);
    assert_int_equal(store_copy(from, to, &e), -EEXIST);
    unlink(from);
    unlink(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_abort_leaves_nothing),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_copy_keeps_holes),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
