#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "virtio/virtio_console.h"
#include "virtio_driver.h"

enum {
    RAM = 0x200000,
    RX_RING = 0x10000,
    TX_RING = 0x20000,
    DATA = 0x40000,
    SIZE = 8,
    BIG = 200000,
    TURNS = 400,
    SLOT = PCI_DEVFN(4, 0),
};

struct fixture {
    struct testvm *t;
    struct pci_bus *bus;
    struct chardev *chr;
    char path[64], spec[72];
    int peer; /* the other end of the chardev */
    struct vdrv d;
    struct vring rx, tx;
};

static int connect_to(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e = { 0 };

    f->t = testvm_create(RAM);
    f->bus = testvm_pci(f->t);
    snprintf(f->path, sizeof(f->path), "/tmp/virtio_console.%d", getpid());
    snprintf(f->spec, sizeof(f->spec), "unix:%s", f->path);
    f->chr = chardev_open(f->spec, vm_loop(f->t->vm), NULL, NULL, &e);
    assert_non_null(f->chr);
    f->peer = connect_to(f->path);
    assert_int_equal(virtio_console_create(f->t->vm, f->bus, SLOT, "console0", f->chr, 80, 25, &e),
                     0);
    f->d = vdrv_find(f->t, f->bus, SLOT);
    f->rx = vring_at(f->t, RX_RING, SIZE);
    f->tx = vring_at(f->t, TX_RING, SIZE);
    assert_true(vdrv_negotiate(&f->d, VIRTIO_F_VERSION_1 | BIT64(0)));
    vdrv_set_queue(&f->d, 0, &f->rx, VIRTQ_NO_VECTOR);
    vdrv_set_queue(&f->d, 1, &f->tx, VIRTQ_NO_VECTOR);
    vdrv_start(&f->d);
    *ctx = f;
    return 0;
}

static void turn(struct fixture *f)
{
    loop_poll(vm_loop(f->t->vm), 1);
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    close(f->peer);
    device_destroy_all(f->t->vm->devices);
    f->t->vm->devices = NULL;
    chardev_close(f->chr); /* it outlives the device, and its loop outlives it */
    testvm_destroy(f->t);
    free(f);
    return 0;
}

static void test_size(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG, 2), 80);
    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG + 2, 2), 25);
    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG + 4, 4), 1);
}

static void test_output(void **ctx)
{
    struct fixture *f = *ctx;
    char buf[32] = "";
    ssize_t n = 0;

    memcpy(f->t->ram.hva + DATA, "hello, world", 12);
    vring_desc(&f->tx, 0, DATA, 5, VRING_NEXT, 1);
    vring_desc(&f->tx, 1, DATA + 5, 7, 0, 0);
    vring_offer(&f->tx, 0);
    vdrv_kick(&f->d, 1);
    assert_int_equal(vring_used_idx(&f->tx), 1);
    for (int i = 0; i < TURNS && n < 12; i++) {
        ssize_t got = read(f->peer, buf + n, sizeof(buf) - (size_t)n);

        n += got > 0 ? got : 0;
        turn(f);
    }
    assert_string_equal(buf, "hello, world");
}

/* One buffer larger than all that lies between here and a slow reader. */
static void test_slow_reader(void **ctx)
{
    static uint8_t buf[BIG];
    struct fixture *f = *ctx;
    int small = 4096;
    size_t got = 0;

    setsockopt(f->peer, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    for (size_t i = 0; i < 10; i++)
        turn(f);
    for (size_t i = 0; i < BIG; i++)
        f->t->ram.hva[DATA + i] = (uint8_t)(i * 11 + i / 256);
    vring_desc(&f->tx, 0, DATA, BIG, 0, 0);
    vring_offer(&f->tx, 0);
    vdrv_kick(&f->d, 1);
    assert_int_equal(vring_used_idx(&f->tx), 0); /* it waits in the ring */
    for (int i = 0; i < 50 * TURNS && got < BIG; i++) {
        ssize_t n = read(f->peer, buf + got, BIG - got);

        got += n > 0 ? (size_t)n : 0;
        turn(f);
    }
    assert_int_equal(got, BIG);
    assert_memory_equal(buf, f->t->ram.hva + DATA, BIG);
    assert_int_equal(vring_used_idx(&f->tx), 1);
}

static void test_input(void **ctx)
{
    struct fixture *f = *ctx;

    turn(f);
    vring_desc(&f->rx, 0, DATA, 4, VRING_WRITE, 0);
    vring_offer(&f->rx, 0);
    vdrv_kick(&f->d, 0);
    assert_int_equal(vring_used_idx(&f->rx), 0); /* nothing typed yet: the buffer stays */
    assert_int_equal(write(f->peer, "typed", 5), 5);
    for (int i = 0; i < TURNS && !vring_used_idx(&f->rx); i++)
        turn(f);
    assert_int_equal(vring_used_len(&f->rx, 0), 4);
    assert_memory_equal(f->t->ram.hva + DATA, "type", 4);
    vring_desc(&f->rx, 1, DATA, 4, VRING_WRITE, 0);
    vring_offer(&f->rx, 1);
    vdrv_kick(&f->d, 0);
    assert_int_equal(vring_used_len(&f->rx, 1), 1);
    assert_memory_equal(f->t->ram.hva + DATA, "d", 1);
}

static void test_emergency_write(void **ctx)
{
    struct fixture *f = *ctx;
    char c = 0;

    vdrv_write(&f->d, VDRV_CONFIG + 8, 4, '!');
    for (int i = 0; i < TURNS && read(f->peer, &c, 1) != 1; i++)
        turn(f);
    assert_int_equal(c, '!');
    vdrv_write(&f->d, VDRV_CONFIG, 2, 7); /* the rest is read-only */
    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG, 2), 80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_output, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slow_reader, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_input, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_emergency_write, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
