#include "base/sock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static void test_addresses(void **state)
{
    static const struct {
        const char *text;
        int family;
    } good[] = {
        { ":1234", AF_INET },           { "1234", AF_INET },      { "127.0.0.1:0", AF_INET },
        { "localhost:65535", AF_INET }, { "[::1]:80", AF_INET6 }, { "unix:/tmp/x", AF_UNIX },
    };
    static const char *const bad[] = { "",        ":",     ":65536", ":12x",    "a:1",
                                       "unix:",   "[::1]", "::1:80", "1.2.3:4", "[]:1",
                                       "[::1:80", ":-1",   ": 1",    ":123456", "10.0.0.1:1:2" };
    struct sock_addr a;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(sock_parse("--x", good[i].text, &a, NULL), 0);
        assert_int_equal(a.ss.ss_family, good[i].family);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct err e = { 0 };

        assert_true(sock_parse("--x", bad[i], &a, &e) < 0);
        assert_true(!strncmp(e.msg, "--x: ", 5) && strstr(e.msg, "unix:PATH"));
    }
}

static void test_tcp(void **state)
{
    struct sock_addr a;
    struct err e = { 0 };
    char where[64];
    int fd, other;

    (void)state;
    assert_int_equal(sock_parse("--x", ":0", &a, &e), 0);
    fd = sock_listen("--x", &a, &e);
    assert_true(fd >= 0);
    sock_name(fd, where, sizeof(where));
    assert_true(!strncmp(where, "127.0.0.1:", 10) && strcmp(where, "127.0.0.1:0") != 0);
    assert_int_equal(sock_parse("--x", where, &a, &e), 0);
    other = sock_listen("--x", &a, &e);
    assert_true(other < 0);
    assert_non_null(strstr(e.msg, "choose another port"));
    close(fd);
}

/* Only the owner may connect; a leftover is replaced; what is in use, or no socket, is left alone. */
static void test_unix(void **state)
{
    char dir[] = "/tmp/ruche-sock-XXXXXX", text[64], where[64];
    struct sock_addr a;
    struct err busy = { 0 }, file = { 0 };
    struct stat st;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(text, sizeof(text), "unix:%s/s", dir);
    assert_int_equal(sock_parse("--x", text, &a, NULL), 0);
    fd = sock_listen("--x", &a, NULL);
    assert_true(fd >= 0);
    assert_int_equal(stat(text + 5, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    sock_name(fd, where, sizeof(where));
    assert_string_equal(where, text + 5);
    assert_true(sock_listen("--x", &a, &busy) < 0);
    assert_non_null(strstr(busy.msg, "running program"));
    close(fd);
    fd = sock_listen("--x", &a, NULL);
    assert_true(fd >= 0);
    close(fd);
    unlink(text + 5);
    snprintf(text, sizeof(text), "unix:%s", dir);
    assert_int_equal(sock_parse("--x", text, &a, NULL), 0);
    assert_true(sock_listen("--x", &a, &file) < 0);
    assert_non_null(strstr(file.msg, "not a socket"));
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_unix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
