#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/options.h"

#define PARSE(o, e, ...)                                                                           \
    parse(o, e, (char *[]){ "run", __VA_ARGS__ }, ARRAY_SIZE(((char *[]){ "run", __VA_ARGS__ })))

static int parse(struct options *o, struct err *e, char **argv, size_t argc)
{
    *e = (struct err){ 0 };
    return options_parse(o, (int)argc, argv, e);
}

/* The sentence with which one option is refused. */
#define REFUSED(word, ...)                                                                         \
    do {                                                                                           \
        struct options refused_o;                                                                  \
        struct err refused_e;                                                                      \
        assert_int_equal(PARSE(&refused_o, &refused_e, __VA_ARGS__), -EINVAL);                     \
        options_fini(&refused_o);                                                                  \
        if (!strstr(refused_e.msg, word))                                                          \
            fail_msg("\"%s\" lacks \"%s\"", refused_e.msg, word);                                  \
    } while (0)

static void test_all_forms(void **ctx)
{
    struct options o;
    struct err e;

    (void)ctx;
    assert_int_equal(PARSE(&o, &e, "--cpus", "4", "-m", "512", "-kernel", "k", "--append=a=b c",
                           "-initrd", "i", "--no-reboot", "--debug-exit", "0xf4", "--dry-run"),
                     0);
    assert_int_equal(o.config.cpus, 4);
    assert_int_equal(o.config.memory, 512 * MIB);
    assert_string_equal(o.config.kernel, "k");
    assert_string_equal(o.config.append, "a=b c");
    assert_string_equal(o.config.initrd, "i");
    assert_true(o.config.no_reboot && o.dry_run);
    assert_int_equal(o.config.debug_exit_port, 0xf4);
    options_fini(&o);
    assert_int_equal(PARSE(&o, &e, "-smp", "cpus=3", "--memory", "1.5G"), 0);
    assert_int_equal(o.config.cpus, 3);
    assert_int_equal(o.config.memory, 1536 * (uint64_t)MIB);
    options_fini(&o);
}

static void test_firmware(void **ctx)
{
    struct options o;
    struct err e;

    (void)ctx;
    assert_int_equal(PARSE(&o, &e, "--disk", "d"), 0);
    assert_string_equal(o.config.firmware, "auto");
    options_fini(&o);
    assert_int_equal(PARSE(&o, &e, "--disk", "d", "--uefi-vars", "v"), 0);
    assert_string_equal(o.config.firmware, "uefi");
    options_fini(&o);
    assert_int_equal(PARSE(&o, &e, "--disk", "d", "--kernel", "k"), 0);
    assert_null(o.config.firmware);
    options_fini(&o);
    assert_int_equal(PARSE(&o, &e, "--firmware", "bios", "--boot", "order=dc,menu", "--chipset",
                           "pc", "--firmware-log", "file:l"),
                     0);
    assert_string_equal(o.config.boot_order, "dc");
    assert_string_equal(o.config.firmware_log, "file:l");
    assert_true(o.config.boot_menu);
    options_fini(&o);
    REFUSED("known: pc", "--chipset", "q35");
    REFUSED("Known: order", "--boot", "first");
}

static void test_display(void **ctx)
{
    struct options o;
    struct err e;

    (void)ctx;
    assert_int_equal(PARSE(&o, &e, "--display", "vnc=:5901,password=x", "--screenshot", "s.png"),
                     0);
    assert_string_equal(o.config.display, "vnc=:5901");
    assert_string_equal(o.config.display_password, "x");
    assert_string_equal(o.config.screenshot, "s.png");
    options_fini(&o);
    assert_int_equal(PARSE(&o, &e, "--display=vnc,password"), 0);
    assert_int_equal(strlen(o.config.display_password), 8);
    options_fini(&o);
    REFUSED("passwd", "--display", "vnc,passwd");
}

static void test_cdrom(void **ctx)
{
    struct options o;
    struct err e = { 0 };

    (void)ctx;
    assert_int_equal(PARSE(&o, &e, "--cdrom", "a,b.iso", "--disk", "c,bus=ide"), 0);
    assert_int_equal(o.config.n_disks, 2);
    assert_string_equal(o.config.disk[0].path, "a,b.iso");
    assert_true(o.config.disk[0].cdrom && o.config.disk[0].readonly);
    assert_true(config_disk_is_ide(&o.config.disk[0]) && config_disk_is_ide(&o.config.disk[1]));
    assert_true(!o.config.disk[1].cdrom && !o.config.disk[1].readonly);
    assert_string_equal(o.config.firmware, "auto");
    options_fini(&o);
    REFUSED("no file", "--cdrom", "");
}

static void test_disk_io(void **ctx)
{
    const struct config_disk *d;
    struct options o;
    struct err e;

    (void)ctx;
    assert_int_equal(
        PARSE(&o, &e, "--disk",
              "nbd://host/export,cache=none,aio=io_uring,discard=on,detect-zeroes=unmap,"
              "iops_rd=100,bps=2M,burst=1.5,timeout=20,on-io-error=stop",
              "--on-io-error", "report"),
        0);
    d = &o.config.disk[0];
    assert_true(config_disk_is_remote(d));
    assert_string_equal(d->cache, "none");
    assert_string_equal(d->aio, "uring"); /* QEMU's words are taken too */
    assert_string_equal(d->discard, "unmap");
    assert_string_equal(d->detect_zeroes, "unmap");
    assert_string_equal(d->on_io_error, "pause");
    assert_string_equal(o.config.on_io_error, "report");
    assert_int_equal(d->iops_rd, 100);
    assert_int_equal(d->bps, 2 << 20);
    assert_int_equal(d->burst_ms, 1500);
    assert_int_equal(d->timeout_ms, 20000);
    options_fini(&o);
}

static void test_disk(void **ctx)
{
    struct options o;
    struct err e;

    (void)ctx;
    assert_int_equal(PARSE(&o, &e, "--disk", "a,,b,format=raw,readonly,serial=x", "--disk", "c"),
                     0);
    assert_int_equal(o.config.n_disks, 2);
    assert_string_equal(o.config.disk[0].path, "a,b");
    assert_string_equal(o.config.disk[0].format, "raw");
    assert_string_equal(o.config.disk[0].serial, "x");
    assert_true(o.config.disk[0].readonly && !o.config.disk[1].readonly);
    options_fini(&o);
    REFUSED("what is", "--disk", "a,nonsense");
    REFUSED("number of requests", "--disk", "a,iops=many");
    REFUSED("bytes a second", "--disk", "a,bps_rd=x");
    REFUSED("time in seconds", "--disk", "a,burst=-1");
    REFUSED("no file", "--disk", ",readonly");
}

static void test_publish(void **ctx)
{
    struct options o;
    struct err e;

    (void)ctx;
    assert_int_equal(
        PARSE(&o, &e, "-p", "8080:80", "-p", "udp:0.0.0.0:53:5353", "--publish=tcp:1:2"), 0);
    assert_int_equal(o.config.n_forwards, 3);
    assert_string_equal(o.config.forward[0].host_addr, "127.0.0.1");
    assert_int_equal(o.config.forward[0].host_port, 8080);
    assert_int_equal(o.config.forward[0].guest_port, 80);
    assert_true(o.config.forward[1].udp && !o.config.forward[2].udp);
    assert_string_equal(o.config.forward[1].host_addr, "0.0.0.0");
    options_fini(&o);
    REFUSED("HOSTPORT", "-p", "80");
    REFUSED("HOSTPORT", "-p", "a:b");
    REFUSED("HOSTPORT", "-p", ":80");
    REFUSED("HOSTPORT", "-p", "70000:80");
}

static void test_refusals(void **ctx)
{
    (void)ctx;
    REFUSED("did you mean --memory", "--memroy", "1G");
    REFUSED("did you mean --kernel", "--kern", "x");
    REFUSED("lists them", "--zzzzzzzz");
    REFUSED("--kernel FILE", "image", "vmlinuz");
    REFUSED("needs a value", "--cpus");
    REFUSED("takes no value", "--no-reboot=1");
    REFUSED("CPUs", "--cpus", "two");
    REFUSED("size", "--memory", "much");
    REFUSED("that much", "--memory", "99999999999T");
    REFUSED("mac=", "--net", "user,mac=1");
    REFUSED("port", "--debug-exit", "0x10000");
    REFUSED("what is", "-");
    REFUSED("no option", "--");
}

static void test_mac_follows_name(void **ctx)
{
    struct options a, b;
    struct err e;

    (void)ctx;
    assert_int_equal(PARSE(&a, &e, "--name", "a"), 0);
    assert_int_equal(PARSE(&b, &e, "--name", "b"), 0);
    assert_memory_not_equal(a.config.mac, b.config.mac, 6);
    assert_int_equal(a.config.mac[0], 0x52);
    options_fini(&a);
    options_fini(&b);
    assert_int_equal(PARSE(&a, &e, "--net", "user,mac=52:54:00:01:02:03"), 0);
    assert_int_equal(a.config.mac[5], 3);
    options_fini(&a);
}

static void test_suggest(void **ctx)
{
    static const char *const known[] = { "run", "doctor", "version" };

    (void)ctx;
    assert_string_equal(cmd_suggest("docter", known, 3), "doctor");
    assert_string_equal(cmd_suggest("rnu", known, 3), "run");
    assert_string_equal(cmd_suggest("vers", known, 3), "version");
    assert_null(cmd_suggest("x", known, 3));
    assert_null(cmd_suggest("frobnicate", known, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_forms),        cmocka_unit_test(test_firmware),
        cmocka_unit_test(test_disk_io),          cmocka_unit_test(test_disk),
        cmocka_unit_test(test_publish),          cmocka_unit_test(test_cdrom),
        cmocka_unit_test(test_display),          cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_mac_follows_name), cmocka_unit_test(test_suggest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
