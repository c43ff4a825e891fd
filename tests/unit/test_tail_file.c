/* A file that keeps the end of what is written to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/tail_file.h"

enum { MAX = 16 };

static void check_content(int fd, const char *want)
{
    char got[64] = "";
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, strlen(want));
    assert_int_equal(pread(fd, got, sizeof(got) - 1, 0), strlen(want));
    assert_string_equal(got, want);
}

static void test_older_half_goes(void **state)
{
    int fd = memfd_create("tail", MFD_CLOEXEC);
    struct tail_file f;

    (void)state;
    tail_file_init(&f, fd, MAX);
    assert_int_equal(tail_file_write(&f, "0123456789abcdef", 16), 0);
    check_content(fd, "0123456789abcdef");
    assert_int_equal(tail_file_write(&f, "g", 1), 0);
    check_content(fd, "89abcdefg");
    tail_file_fini(&f);
    close(fd);
}

static void test_more_than_it_holds(void **state)
{
    int fd = memfd_create("tail", MFD_CLOEXEC);
    struct tail_file f;

    (void)state;
    tail_file_init(&f, fd, MAX);
    assert_int_equal(tail_file_write(&f, "0123456789abcdefghijklmnopqrstuvwxyz", 36), 0);
    check_content(fd, "opqrstuvwxyz");
    tail_file_fini(&f);
    close(fd);
}

static void test_full_disk(void **state)
{
    struct tail_file f;

    (void)state;
    tail_file_init(&f, -1, MAX);
    assert_true(tail_file_write(&f, "x", 1) < 0);
    tail_file_fini(&f);
}

static void test_log_goes_there_too(void **state)
{
    int fd = memfd_create("tail", MFD_CLOEXEC);
    char got[256] = "";
    struct tail_file f;

    (void)state;
    tail_file_init(&f, fd, 4096);
    log_keep(&f, LOG_DEBUG);
    log_debug("test", "only in the file: %d", 42);
    log_keep(NULL, LOG_ERROR);
    log_debug("test", "nowhere");
    assert_true(pread(fd, got, sizeof(got) - 1, 0) > 0);
    assert_non_null(strstr(got, "debug test: only in the file: 42\n"));
    assert_null(strstr(got, "nowhere"));
    tail_file_fini(&f);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_older_half_goes),
        cmocka_unit_test(test_more_than_it_holds),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_log_goes_there_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
