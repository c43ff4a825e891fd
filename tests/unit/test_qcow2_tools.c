#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "qcow2_rig.h"

/* An image encrypted by qemu-img: read what qemu-io wrote, and the other way. */
static void test_luks(void **ctx)
{
    struct fixture *f = *ctx;
    struct blk_opts o = { .path = f->path, .passphrase = "wrong" };
    struct err e = { 0 };
    uint8_t *model;
    struct blk *b;

    if (access("/usr/bin/qemu-io", X_OK))
        skip();
    assert_int_equal(
        rig_run_command("qemu-img create -q --object secret,id=s,data=secret -f qcow2 -o "
                        "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 %s 6310400",
                        f->path),
        0);
    assert_int_equal(rig_run_command("qemu-io --object secret,id=s,data=secret --image-opts "
                                     "driver=qcow2,encrypt.key-secret=s,file.filename=%s "
                                     "-c 'write -P 90 65000 300000' >/dev/null",
                                     f->path),
                     0);
    assert_null(blk_open(&o, &e));
    assert_int_equal(e.code, EKEYREJECTED);
    model = calloc(1, DISK);
    memset(model + 65000, 90, 300000);
    o.passphrase = "secret";
    for (int i = 0; i < 2; i++) {
        b = blk_open(&o, &e);
        assert_non_null(b);
        rig_check_all(b, model);
        rig_torture(b, model, 11 + i, 300, 0);
        rig_check_all(b, model);
        blk_close(b);
        assert_int_equal(
            rig_run_command("qemu-img check -q --object secret,id=s,data=secret --image-opts "
                            "driver=qcow2,encrypt.key-secret=s,file.filename=%s",
                            f->path),
            0);
    }
    memset(model, 17, 100000);
    assert_int_equal(rig_run_command("qemu-io --object secret,id=s,data=secret --image-opts "
                                     "driver=qcow2,encrypt.key-secret=s,file.filename=%s "
                                     "-c 'write -P 17 0 100000' >/dev/null",
                                     f->path),
                     0);
    b = blk_open(&o, &e);
    rig_check_all(b, model);
    blk_close(b);
    free(model);
}

/* An image encrypted by us, random load, and QEMU's tools open it. */
static void test_luks_made(void **ctx)
{
    static const char *const options[][4] = {
        { "encrypt.format=luks", "encrypt.iter-time=10" },
        { "encrypt.format=luks", "encrypt.iter-time=10", "encrypt.cipher-alg=aes-128",
          "cluster_size=4K" },
    };
    struct fixture *f = *ctx;

    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        const char *list[5] = { options[i][0], options[i][1], options[i][2], options[i][3] };
        struct blk_create_opts c = {
            .path = f->path, .format = "qcow2", .size = DISK, .options = list
        };
        struct blk_opts o = { .path = f->path, .passphrase = "secret" };
        uint8_t *model = calloc(1, DISK);
        struct err e = { 0 };
        struct blk *b;

        assert_int_equal(blk_create(&c, &e), -ENOKEY);
        c.passphrase = "secret";
        assert_int_equal(blk_create(&c, NULL), 0);
        b = blk_open(&o, &e);
        assert_non_null(b);
        rig_self_check(b);
        rig_torture(b, model, 21 + i, 300, 0);
        rig_check_all(b, model);
        blk_close(b);
        if (!access("/usr/bin/qemu-img", X_OK))
            assert_int_equal(
                rig_run_command("qemu-img check -q --object secret,id=s,data=secret --image-opts "
                                "driver=qcow2,encrypt.key-secret=s,file.filename=%s",
                                f->path),
                0);
        free(model);
    }
}

/* --- with QEMU's tools --- */

static bool has_qemu(void)
{
    return !access("/usr/bin/qemu-img", X_OK) && !access("/usr/bin/qemu-io", X_OK);
}

/* qemu-io does random things to the image, and the model knows them. */
static void qemu_torture(struct fixture *f, uint8_t *model, uint64_t *seed, bool compress)
{
    static const char *const verbs[] = { "write -P %u", "write -z", "write -z -u", "discard",
                                         "write -c -P %u" };
    char command[8192];
    size_t n = (size_t)snprintf(command, sizeof(command), "qemu-io -d unmap -f qcow2 %s", f->path);

    for (int i = 0; i < 40; i++) {
        unsigned verb = !i && compress ? 4 : (unsigned)(rig_rnd(seed) % 4),
                 pattern = 1 + (unsigned)(rig_rnd(seed) % 250);
        uint64_t len = (1 + rig_rnd(seed) % 200) * 512,
                 off = rig_rnd(seed) % ((DISK - len) / 512) * 512;

        if (verb == 3 || verb == 4) { /* whole clusters, so that it is known what becomes of them */
            off = rig_rnd(seed) % (DISK / (2 * MIB)) * (2 * MIB);
            len = 2 * MIB;
        }
        n += (size_t)snprintf(command + n, sizeof(command) - n, " -c '");
        n += (size_t)snprintf(command + n, sizeof(command) - n, verbs[verb], pattern);
        n += (size_t)snprintf(command + n, sizeof(command) - n, " %llu %llu'",
                              (unsigned long long)off, (unsigned long long)len);
        memset(model + off, verb % 4 ? 0 : (int)pattern, len);
    }
    snprintf(command + n, sizeof(command) - n, " >/dev/null");
    assert_int_equal(rig_run_command("%s", command), 0);
}

static void qemu_compare(struct fixture *f, const uint8_t *model)
{
    char command[512];
    FILE *file = fopen(f->base, "we");

    assert_int_equal(fwrite(model, 1, DISK, file), DISK);
    fclose(file);
    snprintf(command, sizeof(command), "qemu-img compare -q -f qcow2 -F raw %s %s", f->path,
             f->base);
    assert_int_equal(rig_run_command("%s", command), 0);
}

static void test_against_qemu(void **ctx)
{
    static const char *const options[] = {
        "cluster_size=64k",
        "cluster_size=512",
        "cluster_size=2M,refcount_bits=1",
        "cluster_size=32k,extended_l2=on",
        "compat=0.10,cluster_size=4k",
        "compression_type=zstd,lazy_refcounts=on",
        "preallocation=metadata,cluster_size=16k",
        "refcount_bits=64,cluster_size=1M",
    };
    struct fixture *f = *ctx;
    uint64_t seed = 4711;

    if (!has_qemu())
        skip();
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        uint8_t *model = calloc(1, DISK);
        char command[256];
        struct blk *b;

        snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 -o %s %s %d", options[i],
                 f->path, DISK);
        assert_int_equal(rig_run_command("%s", command), 0);
        for (int round = 0; round < 2; round++) {
            qemu_torture(f, model, &seed, !round && i != 1 && i != 6); /* onto nothing */
            b = rig_open_disk(f);
            rig_self_check(b);
            rig_check_all(b, model);
            rig_torture(b, model, rig_rnd(&seed), 200, 0);
            if (strstr(options[i], "refcount_bits=1")) /* cannot count to two */
                assert_int_equal(b->ops->snap(b, BLK_SNAP_CREATE, "a", NULL), -EOVERFLOW);
            else
                rig_snap(b, BLK_SNAP_CREATE, round ? "b" : "a");
            rig_torture(b, model, rig_rnd(&seed), 100, 0);
            blk_close(b);
            if (!strstr(options[i], "refcount_bits=1"))
                assert_int_equal(rig_run_command(round ? "qemu-img snapshot -d a %s"
                                                       : "qemu-img snapshot -c q %s",
                                                 f->path),
                                 0);
            rig_judge(f);
            qemu_compare(f, model);
        }
        free(model);
    }
}

/* QEMU postponed refcounts and was killed: whoever opens the image for writing mends them. */
static void test_dirty(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t *model = calloc(1, DISK);
    struct blk_info info;
    struct blk *b;

    if (!has_qemu())
        skip();
    assert_int_equal(
        rig_run_command("qemu-img create -q -f qcow2 -o lazy_refcounts=on %s 6310400", f->path), 0);
    rig_run_command(
        "qemu-io -f qcow2 %s -c 'write -P 9 1000k 900k' -c flush -c abort >/dev/null 2>&1",
        f->path);
    memset(model + 1000 * KIB, 9, 900 * KIB);
    b = blk_open(&(struct blk_opts){ .path = f->path, .readonly = true }, NULL);
    assert_non_null(b);
    blk_info(b, &info);
    assert_true(info.dirty);
    json_decref(info.specific);
    rig_check_all(b, model);
    blk_close(b);
    b = rig_open_disk(f);
    rig_self_check(b);
    rig_torture(b, model, 3, 100, 0);
    rig_reopen(f, &b, model);
    blk_close(b);
    free(model);
}

/* No hole where a pointer will be needed: data may have taken the last space by then. */
static void test_l1_has_its_space(void **ctx)
{
    struct fixture *f = *ctx;
    const char *small[] = { "cluster_size=512", NULL };
    uint8_t head[48];
    int fd;

    rig_create(f, DISK, small, NULL);
    fd = open(f->path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, head, sizeof(head), 0), sizeof(head));
    assert_true(lseek(fd, (off_t)ld_be64(head + 40), SEEK_HOLE) >=
                (off_t)(ld_be64(head + 40) + ld_be32(head + 36) * 8));
    close(fd);
}

/* A chain of three: names relative to the image above, formats guessed or given. */
static void test_chain(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t *model = calloc(1, DISK);
    char middle[128];
    struct blk_create_opts o = { .path = middle, .format = "qcow2", .backing = "base" };
    struct blk_extent x;
    struct err e = { 0 };
    struct blk *b;

    snprintf(middle, sizeof(middle), "%s/data", f->dir);
    rig_make_base(f, model, DISK, 3);
    assert_int_equal(blk_create(&o, &e), 0);
    o = (struct blk_create_opts){ .path = f->path, .format = "qcow2", .backing = "data" };
    assert_int_equal(blk_create(&o, &e), 0);
    b = rig_open_disk(f);
    assert_int_equal(b->size, DISK);
    rig_check_all(b, model);
    assert_int_equal(blk_status(b, 65536, 512, &x), 0);
    assert_int_equal(x.depth, 2);
    rig_torture(b, model, 8, 300, 0);
    rig_check_all(b, model);
    assert_int_equal(b->ops->set_backing(b,
                                         "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\","
                                         "\"filename\":\"data\"}}",
                                         "qcow2", &e),
                     0); /* QEMU's long form */
    blk_close(b);
    b = rig_open_disk(f);
    rig_check_all(b, model);
    assert_int_equal(b->ops->set_backing(b, f->path, "qcow2", &e), 0); /* itself */
    blk_close(b);
    assert_null(blk_open(&(struct blk_opts){ .path = f->path }, &e));
    assert_int_equal(e.code, ELOOP);
    free(model);
}

/* A bitmap is marked as in use while somebody writes, and stored when that ends. */
static void test_bitmaps(void **ctx)
{
    struct fixture *f = *ctx;
    struct blk *b;

    if (!has_qemu())
        skip();
    rig_create(f, DISK, NULL, NULL);
    assert_int_equal(rig_run_command("qemu-img bitmap --add %s dirty", f->path), 0);
    assert_int_equal(rig_run_command("qemu-img info %s | grep -q in-use", f->path) != 0, true);
    b = rig_open_disk(f);
    rig_self_check(b);
    assert_int_equal(rig_run_command("qemu-img info -U %s | grep -q in-use", f->path), 0);
    assert_int_equal(blk_op_sync(b, BLK_WRITE_ZEROES, 0, MIB, 0), 0);
    rig_snap(b, BLK_SNAP_CREATE, "s");
    blk_close(b);
    rig_judge(f);
    assert_int_equal(rig_run_command("qemu-img info %s | grep -q in-use", f->path) != 0, true);
}

/* --- several threads submit, the loop completes --- */

enum { THREADS = 4, THREAD_OPS = 400, THREAD_SPAN = 1 * MIB };

struct submitter {
    pthread_t thread;
    struct blk *b;
    uint8_t *model; /* of its own part of the disk */
    uint64_t first, seed;
    atomic_bool done;
};

struct waited {
    struct blk_req req;
    atomic_bool done;
    int err;
};

static void waited_done(struct blk_req *r, int err)
{
    struct waited *w = container_of(r, struct waited, req);

    w->err = err;
    atomic_store(&w->done, true);
}

static void submit_and_wait(struct blk *b, enum blk_op op, uint64_t off, uint8_t *buf, uint64_t len)
{
    struct iovec iov = { buf, len };
    struct waited w = {
        .req = { .op = op, .off = off, .len = len, .iov = &iov, .niov = 1, .done = waited_done }
    };

    blk_submit(b, &w.req);
    while (!atomic_load(&w.done))
        sched_yield();
    assert_int_equal(w.err, 0);
}

static void *submitter_run(void *opaque)
{
    struct submitter *s = opaque;
    uint8_t *buf = malloc(64 * KIB);

    for (int i = 0; i < THREAD_OPS; i++) {
        uint64_t len = (1 + rig_rnd(&s->seed) % 100) * 512,
                 at = rig_rnd(&s->seed) % ((THREAD_SPAN - len) / 512) * 512;
        unsigned what = (unsigned)(rig_rnd(&s->seed) % 10);

        if (what < 5) {
            memset(buf, (int)what + i, len);
            memcpy(s->model + at, buf, len);
            submit_and_wait(s->b, BLK_WRITE, s->first + at, buf, len);
        } else if (what < 7) {
            memset(s->model + at, 0, len);
            submit_and_wait(s->b, BLK_WRITE_ZEROES, s->first + at, NULL, len);
        } else if (what < 9) {
            submit_and_wait(s->b, BLK_READ, s->first + at, buf, len);
            assert_memory_equal(buf, s->model + at, len);
        } else {
            submit_and_wait(s->b, BLK_FLUSH, 0, NULL, 0);
        }
    }
    free(buf);
    atomic_store(&s->done, true);
    return NULL;
}

static void test_threads(void **ctx)
{
    const char *options[] = { "cluster_size=4K", NULL };
    struct submitter s[THREADS] = { 0 };
    uint8_t *model = calloc(1, DISK);
    struct fixture *f = *ctx;
    struct blk_opts o = { .path = f->path, .loop = loop_create(NULL) };
    struct err e = { 0 };
    struct blk *b;

    rig_create(f, DISK, options, NULL);
    b = blk_open(&o, &e);
    assert_non_null(b);
    for (unsigned i = 0; i < THREADS; i++) {
        s[i].b = b;
        s[i].first = i * (uint64_t)THREAD_SPAN;
        s[i].model = model + s[i].first;
        s[i].seed = i + 5;
        assert_int_equal(pthread_create(&s[i].thread, NULL, submitter_run, &s[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        while (!atomic_load(&s[i].done))
            loop_poll(o.loop, 10);
        pthread_join(s[i].thread, NULL);
    }
    rig_check_all(b, model);
    rig_self_check(b);
    blk_close(b);
    loop_destroy(o.loop);
    rig_judge(f);
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_luks_made, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_luks, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_against_qemu, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_dirty, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_l1_has_its_space, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_chain, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_bitmaps, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_threads, rig_set_up, rig_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
