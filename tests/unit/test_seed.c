/* The volume for cloud-init: what is in it, and that it is a CD that others can read (if xorriso is here). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "image/iso9660.h"
#include "image/seed.h"

enum { SECTOR = 2048, FOLDER = 23, JOLIET_FOLDER = 24 };

struct found {
    uint32_t sector, len;
};

/* The file of the folder at `sector` whose entry has these bytes in it. */
static bool find(const uint8_t *iso, unsigned sector, const void *name, size_t name_len,
                 struct found *f)
{
    const uint8_t *p = iso + (size_t)sector * SECTOR;

    for (; p[0]; p += p[0])
        if (memmem(p + 33, p[0] - 33u, name, name_len)) {
            f->sector = ld_le32(p + 2);
            f->len = ld_le32(p + 10);
            assert_int_equal(ld_be32(p + 6), f->sector);
            assert_int_equal(ld_be32(p + 14), f->len);
            return true;
        }
    return false;
}

static char *content(const uint8_t *iso, size_t len, const char *name)
{
    struct found f, joliet;
    uint8_t wide[64];

    for (size_t i = 0; i < strlen(name); i++) {
        wide[2 * i] = 0;
        wide[2 * i + 1] = (uint8_t)name[i];
    }
    assert_true(find(iso, FOLDER, name, strlen(name), &f));
    assert_true(find(iso, JOLIET_FOLDER, wide, 2 * strlen(name), &joliet));
    assert_int_equal(f.sector, joliet.sector);
    assert_true((uint64_t)f.sector * SECTOR + f.len <= len);
    return strndup((const char *)iso + (size_t)f.sector * SECTOR, f.len);
}

static void test_made_of_options(void **state)
{
    const struct seed_opts o = { .name = "web",
                                 .user = "me",
                                 .ssh_keys =
                                     "ssh-ed25519 AAAA \"one\"\n# note\nssh-rsa BBBB two\n" };
    struct err e = { 0 };
    size_t len;
    uint8_t *iso = seed_make(&o, &len, &e);
    char *user = content(iso, len, "user-data"), *meta = content(iso, len, "meta-data");
    json_t *root, *u, *m;

    (void)state;
    assert_int_equal(len % SECTOR, 0);
    assert_int_equal(strncmp(user, "#cloud-config\n", 14), 0);
    root = json_loads(user + 14, 0, NULL);
    m = json_loads(meta, 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(m, "local-hostname")), "web");
    u = json_array_get(json_object_get(root, "users"), 0);
    assert_string_equal(json_string_value(json_object_get(u, "name")), "me");
    assert_true(json_is_true(json_object_get(u, "lock_passwd")));
    assert_int_equal(json_array_size(json_object_get(u, "ssh_authorized_keys")), 2);
    json_decref(root);
    json_decref(m);
    free(user);
    free(meta);
    free(iso);
}

static char *instance(const struct seed_opts *o)
{
    size_t len;
    uint8_t *iso = seed_make(o, &len, NULL);
    char *meta = content(iso, len, "meta-data"), *id;
    json_t *m = json_loads(meta, 0, NULL);

    id = strdup(json_string_value(json_object_get(m, "instance-id")));
    json_decref(m);
    free(meta);
    free(iso);
    return id;
}

/* The same at the next start; another one if something else is asked for. */
static void test_instance(void **state)
{
    const struct seed_opts a = { .name = "a", .user_data = "#cloud-config\n{}\n" };
    const struct seed_opts b = { .name = "a", .user_data = "#cloud-config\n{ }\n" };
    char *first = instance(&a), *again = instance(&a), *other = instance(&b);

    (void)state;
    assert_string_equal(first, again);
    assert_string_not_equal(first, other);
    free(first);
    free(again);
    free(other);
}

static void test_others_read_it(void **state)
{
    const struct seed_opts o = { .name = "web", .hostname = "host", .user_data = "#!/bin/sh\n" };
    char path[] = "/tmp/ruche-seed-XXXXXX", command[128], text[4096];
    int fd = mkstemp(path);
    size_t len, n;
    uint8_t *iso = seed_make(&o, &len, NULL);
    FILE *f;

    (void)state;
    assert_int_equal(write(fd, iso, len), len);
    close(fd);
    free(iso);
    if (access("/usr/bin/xorriso", X_OK)) {
        unlink(path);
        skip();
    }
    snprintf(command, sizeof(command), "xorriso -indev %s -pvd_info -find / 2>/dev/null", path);
    f = popen(command, "re"); /* NOLINT: a test, of a fixed command */
    n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    assert_int_equal(pclose(f), 0);
    unlink(path);
    assert_non_null(strstr(text, "Volume Id    : cidata"));
    assert_non_null(strstr(text, "'/meta-data'"));
    assert_non_null(strstr(text, "'/user-data'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_of_options),
        cmocka_unit_test(test_instance),
        cmocka_unit_test(test_others_read_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
