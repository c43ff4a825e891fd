#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "hw/debugcon.h"
#include "testvm.h"

static void put(struct testvm *t, const char *text)
{
    while (*text)
        testvm_out(t, 0x402, 1, (uint8_t)*text++);
}

static void test_stream_and_log(void **ctx)
{
    struct testvm *t = testvm_create(0);
    struct err e = { 0 };
    struct loop *loop = loop_create(&e);
    char path[] = "/tmp/ruche-debugcon-XXXXXX", spec[64], text[1024] = "";
    int file = mkstemp(path), log = memfd_create("log", MFD_CLOEXEC);
    struct chardev *out;

    (void)ctx;
    snprintf(spec, sizeof(spec), "file:%s", path);
    out = chardev_open(spec, loop, NULL, NULL, &e);
    assert_non_null(out);
    log_setup(log, LOG_DEBUG);
    assert_non_null(debugcon_create(t->vm, 0x402, out, &e));
    assert_int_equal(testvm_in(t, 0x402, 1), 0xe9);
    put(t, "one\r\ntwo\n");
    put(t, "\nNo bootable device.\n");
    for (int i = 0; i < 300; i++)
        put(t, "x"); /* a line that never ends */
    chardev_flush(out);
    assert_true(pread(file, text, sizeof(text) - 1, 0) > 300);
    assert_memory_equal(text, "one\r\ntwo\n\nNo bootable device.\nxxx", 33);
    memset(text, 0, sizeof(text));
    assert_true(pread(log, text, sizeof(text) - 1, 0) > 0);
    assert_non_null(strstr(text, "firmware: one\n"));
    assert_non_null(strstr(text, "firmware: two\n"));
    assert_non_null(strstr(text, "firmware: xxxx"));
    assert_non_null(strstr(text, "warning firmware: it says \"No bootable device\""));
    log_setup(STDERR_FILENO, LOG_WARN);
    testvm_destroy(t);
    chardev_close(out);
    loop_destroy(loop);
    close(log);
    close(file);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_and_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
