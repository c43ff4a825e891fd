/* Names of VMs: who holds one, who comes too late, and what a killed VM leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/rundir.h"

static char base[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(base, sizeof(base), "/tmp/ruche-test-XXXXXX");
    assert_non_null(mkdtemp(base));
    return setenv("RUCHE_RUNTIME_DIR", base, 1);
}

static int tear_down(void **state)
{
    static const char *const files[] = { "lock", "control", "log", "" };
    static const char *const names[] = { "a", "b", "vm", "vm2", "vm3" };
    char path[160];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        for (size_t k = 0; k < ARRAY_SIZE(files); k++) {
            snprintf(path, sizeof(path), "%s/%s/%s", base, names[i], files[k]);
            remove(path);
        }
    return rmdir(base);
}

static void test_names(void **state)
{
    static const char *const good[] = { "a", "vm2", "My.vm_1-x" };
    static const char *const bad[] = { "", ".", "..", "-x", ".x", "a/b", "a b", "\xc3\xa9" };
    char longest[RUNDIR_NAME_MAX + 2];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(rundir_name_ok(good[i]));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(rundir_name_ok(bad[i]));
    memset(longest, 'x', sizeof(longest));
    longest[RUNDIR_NAME_MAX + 1] = '\0';
    assert_false(rundir_name_ok(longest));
    longest[RUNDIR_NAME_MAX] = '\0';
    assert_true(rundir_name_ok(longest));
}

static void test_one_of_a_name(void **state)
{
    struct rundir one, other;
    struct err e = { 0 };
    char pid[16];

    (void)state;
    snprintf(pid, sizeof(pid), "process %d", (int)getpid());
    assert_int_equal(rundir_claim(&one, "a", &e), 0);
    assert_int_equal(rundir_claim(&other, "a", &e), -EBUSY);
    assert_non_null(strstr(e.msg, pid));
    assert_int_equal(rundir_open(&other, "a"), 0);
    assert_int_equal(rundir_holder(&other), getpid());
    rundir_close(&one);
    assert_int_equal(rundir_holder(&other), 0);
    rundir_close(&other);
    assert_int_equal(rundir_claim(&one, "a", &e), 0);
    rundir_close(&one);
}

static void test_any_name(void **state)
{
    struct rundir first, second, third;
    char name[RUNDIR_NAME_MAX + 1];

    (void)state;
    assert_int_equal(rundir_claim_any(&first, "vm", name, NULL), 0);
    assert_string_equal(name, "vm");
    assert_int_equal(rundir_claim_any(&second, "vm", name, NULL), 0);
    assert_string_equal(name, "vm2");
    assert_int_equal(rundir_claim_any(&third, "vm", name, NULL), 0);
    assert_string_equal(name, "vm3");
    rundir_close(&second);
    assert_int_equal(rundir_claim_any(&second, "vm", name, NULL), 0);
    assert_string_equal(name, "vm2");
    rundir_close(&first);
    rundir_close(&second);
    rundir_close(&third);
}

/* The child holds the name with its socket, and is killed. */
static pid_t start_holder(const char *name)
{
    int ready[2];
    char byte;
    pid_t child;

    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (!child) {
        struct rundir r;

        if (rundir_claim(&r, name, NULL) || rundir_listen(&r, "control", NULL) < 0 ||
            write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_true(child > 0);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static void test_killed_holder(void **state)
{
    pid_t child = start_holder("b");
    struct rundir r, mine;
    int fd;

    (void)state;
    assert_int_equal(rundir_open(&r, "b"), 0);
    assert_int_equal(rundir_holder(&r), child);
    fd = rundir_connect(&r, "control");
    assert_true(fd >= 0);
    close(fd);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(rundir_holder(&r), 0);
    assert_int_equal(rundir_connect(&r, "control"), -ECONNREFUSED);
    assert_int_equal(rundir_claim(&mine, "b", NULL), 0);
    fd = rundir_listen(&mine, "control", NULL);
    assert_true(fd >= 0);
    close(fd);
    rundir_close(&mine);
    rundir_close(&r);
}

static void test_log_stays_until_the_next(void **state)
{
    struct rundir r, look;
    struct stat st;
    int fd;

    (void)state;
    assert_int_equal(rundir_claim(&r, "a", NULL), 0);
    fd = rundir_create(&r, "log");
    assert_int_equal(write(fd, "text", 4), 4);
    close(fd);
    rundir_close(&r);
    assert_int_equal(rundir_open(&look, "a"), 0);
    assert_int_equal(fstatat(look.fd, "log", &st, 0), 0);
    assert_int_equal(rundir_claim(&r, "a", NULL), 0);
    assert_int_not_equal(fstatat(look.fd, "log", &st, 0), 0);
    rundir_close(&r);
    rundir_close(&look);
}

static void test_list(void **state)
{
    struct rundir b, a;
    struct rundir_names l;

    (void)state;
    assert_int_equal(rundir_list(&l), 0);
    rundir_names_free(&l);
    assert_int_equal(rundir_claim(&b, "b", NULL), 0);
    assert_int_equal(rundir_claim(&a, "a", NULL), 0);
    assert_int_equal(rundir_list(&l), 0);
    assert_true(l.n >= 2);
    assert_string_equal(l.name[0], "a");
    assert_string_equal(l.name[1], "b");
    rundir_names_free(&l);
    rundir_close(&a);
    rundir_close(&b);
}

/* A folder that others may write to could have anybody's socket. */
static void test_folder_of_others(void **state)
{
    struct err e = { 0 };
    struct rundir r;

    (void)state;
    assert_int_equal(chmod(base, 0777), 0);
    assert_int_equal(rundir_claim(&r, "a", &e), -EPERM);
    assert_non_null(strstr(e.msg, base));
    assert_int_equal(chmod(base, 0700), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_one_of_a_name),
        cmocka_unit_test(test_any_name),
        cmocka_unit_test(test_killed_holder),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_log_stays_until_the_next),
        cmocka_unit_test(test_folder_of_others),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
