#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm/config.h"

static const char *refusal(const char *json)
{
    static struct err e;
    struct vm_config c;

    e = (struct err){ 0 };
    assert_true(config_from_json(&c, json, &e) < 0);
    config_fini(&c);
    return e.msg;
}

/* A config that config_check() accepts; its kernel is a file of this test. */
static void good(struct vm_config *c)
{
    FILE *f = fopen("test_config.kernel", "w");

    assert_non_null(f);
    fputs("kernel", f);
    fclose(f);
    config_init(c);
    c->kernel = strdup("test_config.kernel");
}

static void check_refuses(struct vm_config *c, int code, const char *word)
{
    struct err e = { 0 };

    assert_int_equal(config_check(c, &e), -code);
    assert_non_null(strstr(e.msg, word));
}

static void test_round_trip(void **ctx)
{
    struct vm_config a, b;
    struct err e = { 0 };
    char *first, *second;

    (void)ctx;
    config_init(&a);
    a.kernel = strdup("/boot/\"vmlinuz\"");
    a.memory = 3 * GIB;
    a.debug_exit_port = 0xf4;
    a.no_reboot = a.test_device = true;
    a.mac[5] = 0x99;
    a.disk[a.n_disks++] = (struct config_disk){
        .path = strdup("/a b"), .bus = strdup("ide"), .readonly = true, .cdrom = true
    };
    a.forward[a.n_forwards++] = (struct config_forward){ true, "10.0.0.1", 53, 5353 };
    first = config_to_json(&a);
    assert_int_equal(config_from_json(&b, first, &e), 0);
    second = config_to_json(&b);
    assert_string_equal(first, second);
    assert_true(b.test_device && b.disk[0].readonly && b.disk[0].cdrom &&
                config_disk_is_ide(&b.disk[0]) && b.forward[0].udp && b.debug_exit_port == 0xf4);
    free(first);
    free(second);
    config_fini(&a);
    config_fini(&b);
}

static void test_refuses_json(void **ctx)
{
    (void)ctx;
    assert_non_null(strstr(refusal("{"), "line 1"));
    assert_non_null(strstr(refusal("[]"), "not an object"));
    assert_non_null(strstr(refusal("{\"cpuz\": 1}"), "cpuz"));
    assert_non_null(strstr(refusal("{\"cpus\": \"1\"}"), "cpus"));
    assert_non_null(strstr(refusal("{\"cpus\": -1}"), "cpus"));
    assert_non_null(strstr(refusal("{\"cpus\": 1, \"cpus\": 2}"), "duplicate"));
    assert_non_null(strstr(refusal("{\"name\": null}"), "null"));
    assert_non_null(strstr(refusal("{\"disks\": [{}]}"), "path"));
    assert_non_null(strstr(refusal("{\"disks\": [1]}"), "disk"));
    assert_non_null(strstr(refusal("{\"mac\": \"52:54:00:12:34:5g\"}"), "mac"));
    assert_non_null(strstr(refusal("{\"forwards\": [{\"host_port\": 65536}]}"), "host_port"));
}

static void test_checks(void **ctx)
{
    struct vm_config c;
    struct err e = { 0 };

    (void)ctx;
    good(&c);
    assert_int_equal(config_check(&c, &e), 0);
    c.cpus = 0;
    check_refuses(&c, EINVAL, "CPUs");
    c.cpus = CONFIG_MAX_CPUS + 1;
    check_refuses(&c, EINVAL, "CPUs");
    c.cpus = 2;
    c.memory = 4096;
    check_refuses(&c, EINVAL, "memory");
    c.memory = 1ull << 50;
    check_refuses(&c, ENOMEM, "host has");
    c.memory = GIB;
    c.n_forwards = 2;
    c.forward[0] = c.forward[1] = (struct config_forward){ false, "127.0.0.1", 80, 80 };
    check_refuses(&c, EINVAL, "twice");
    c.n_forwards = 1;
    memcpy(c.forward[0].host_addr, "nowhere", 8);
    check_refuses(&c, EINVAL, "nowhere");
    c.n_forwards = 0;
    free(c.kernel);
    c.kernel = strdup("/nonexistent/kernel");
    check_refuses(&c, ENOENT, "/nonexistent/kernel");
    config_fini(&c);
    unlink("test_config.kernel");
}

static void test_checks_disks(void **ctx)
{
    struct vm_config c;
    int fd = open("test_config.disk", O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    struct err e = { 0 };

    (void)ctx;
    assert_true(fd >= 0);
    good(&c);
    c.n_disks = 1;
    c.disk[0].path = strdup("test_config.disk");
    check_refuses(&c, EINVAL, "empty");
    assert_int_equal(ftruncate(fd, 65536), 0);
    assert_int_equal(config_check(&c, &e), 0);
    c.disk[c.n_disks++].path = strdup("./test_config.disk");
    check_refuses(&c, EINVAL, "twice");
    c.disk[0].readonly = c.disk[1].readonly = true;
    assert_int_equal(config_check(&c, &e), 0);
    c.disk[0].cache = strdup("maybe");
    check_refuses(&c, EINVAL, "writethrough");
    memcpy(c.disk[0].cache, "none", 5);
    c.disk[0].iops = c.disk[0].iops_rd = 100;
    check_refuses(&c, EINVAL, "exclude");
    c.disk[0].iops = 0;
    c.disk[0].timeout_ms = 1000;
    check_refuses(&c, EINVAL, "NBD servers");
    c.disk[0].timeout_ms = 0;
    c.disk[0].bus = strdup("sata");
    check_refuses(&c, EINVAL, "known: virtio, ide, ahci, nvme, scsi, usb");
    memcpy(c.disk[0].bus, "ide", 4);
    c.disk[1].cdrom = true;
    check_refuses(&c, EINVAL, "CD-ROM");
    c.disk[1].bus = strdup("ide");
    assert_int_equal(config_check(&c, &e), 0);
    for (c.n_disks = 2; c.n_disks < 5; c.n_disks++)
        c.disk[c.n_disks].bus = strdup("ide");
    check_refuses(&c, EINVAL, "too many");
    config_fini(&c);
    close(fd);
    unlink("test_config.disk");
    unlink("test_config.kernel");
}

static void test_checks_firmware(void **ctx)
{
    struct vm_config c;
    struct err e = { 0 };

    (void)ctx;
    good(&c);
    c.firmware = strdup("bios");
    check_refuses(&c, EINVAL, "leave one");
    free(c.kernel);
    c.kernel = NULL;
    assert_int_equal(config_check(&c, &e), 0);
    c.boot_order = strdup("cx");
    check_refuses(&c, EINVAL, "order=cx");
    c.boot_order[1] = 'd';
    c.uefi_vars = strdup("vars");
    check_refuses(&c, EINVAL, "--uefi-vars");
    free(c.firmware);
    c.firmware = strdup("uefi");
    assert_int_equal(config_check(&c, &e), 0);
    c.firmware_log = strdup("nowhere");
    check_refuses(&c, EINVAL, "--firmware-log");
    free(c.firmware_log);
    free(c.uefi_vars);
    c.firmware_log = c.uefi_vars = NULL;
    free(c.firmware);
    c.firmware = strdup("/nonexistent/bios");
    check_refuses(&c, ENOENT, "/nonexistent/bios");
    free(c.firmware);
    c.firmware = NULL;
    check_refuses(&c, EINVAL, "nothing to boot");
    config_fini(&c);
    unlink("test_config.kernel");
}

static void test_usb(void **ctx)
{
    struct vm_config c;
    struct err e = { 0 };

    (void)ctx;
    good(&c);
    assert_null(config_usb(&c)); /* nobody looks */
    c.display = strdup("vnc");
    assert_string_equal(config_usb(&c), "xhci");
    assert_true(config_usb_tablet(&c));
    c.usb = strdup("none");
    assert_null(config_usb(&c));
    c.usb_keyboard = true;
    check_refuses(&c, EINVAL, "--usb none");
    memcpy(c.usb, "ehci", 5);
    check_refuses(&c, EINVAL, "known: none, xhci, uhci");
    memcpy(c.usb, "uhci", 5);
    assert_int_equal(config_check(&c, &e), 0);
    for (; c.n_disks < 5; c.n_disks++) {
        struct config_disk *d = &c.disk[c.n_disks];

        d->path = strdup("test_config.kernel");
        d->bus = strdup("usb");
        d->readonly = true;
    }
    check_refuses(&c, EINVAL, "uhci has 2 ports");
    memcpy(c.usb, "xhci", 5);
    check_refuses(&c, EINVAL, "room for 4");
    config_fini(&c);
    unlink("test_config.kernel");
}

/* Whatever is NULL afterwards is not there at all, or is found out when the VM starts. */
static void test_effective(void **ctx)
{
    struct vm_config c;
    struct err e = { 0 };

    (void)ctx;
    good(&c);
    c.on_io_error = strdup("pause");
    c.disk[c.n_disks++] = (struct config_disk){ .path = strdup("a"), .cache = strdup("none") };
    c.disk[c.n_disks++] = (struct config_disk){ .path = strdup("b"),
                                                .bus = strdup("usb"),
                                                .on_io_error = strdup("report") };
    assert_int_equal(config_effective(&c, &e), 0);
    assert_string_equal(c.net_model, "virtio");
    assert_string_equal(c.display, "none");
    assert_string_equal(c.parallel, "none");
    assert_string_equal(c.usb, "xhci");
    assert_string_equal(c.disk[0].bus, "virtio");
    assert_string_equal(c.disk[0].cache, "none");
    assert_string_equal(c.disk[0].aio, "uring");
    assert_string_equal(c.disk[0].discard, "unmap");
    assert_string_equal(c.disk[0].detect_zeroes, "off");
    assert_string_equal(c.disk[0].on_io_error, "pause");
    assert_string_equal(c.disk[1].bus, "usb");
    assert_string_equal(c.disk[1].on_io_error, "report");
    config_fini(&c);
    config_init(&c);
    free(c.net);
    c.net = strdup("none");
    assert_int_equal(config_effective(&c, &e), 0);
    assert_null(c.net_model);
    assert_string_equal(c.usb, "none");
    config_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_refuses_json),
        cmocka_unit_test(test_checks),          cmocka_unit_test(test_checks_disks),
        cmocka_unit_test(test_checks_firmware), cmocka_unit_test(test_usb),
        cmocka_unit_test(test_effective),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
