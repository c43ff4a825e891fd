/*
 * The options of `ruche image`, in all the ways that a user of qemu-img writes them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "cmd/image.h"

enum { WORDS = 16 };

/* Parses words up to NULL; the caller has image_args_fini() due. */
static bool parse(struct image_args *a, enum image_command command, int max, int *status,
                  const char *const *words)
{
    char *argv[WORDS] = { "x" };
    int argc = 1;

    for (; *words; words++)
        argv[argc++] = (char *)(uintptr_t)*words;
    return image_args_parse(a, command, argc, argv, 0, max, status);
}

static void takes_clusters_and_attached_values(void **ctx)
{
    static const char *const words[] = { "-pWc", "-Oqcow2", "-S", "64k", "-m16", "--cache=none",
                                         "a",    "b",       "--", "-c",  NULL };
    struct image_args a;
    int status;

    (void)ctx;
    assert_true(parse(&a, IMAGE_CONVERT, 8, &status, words));
    assert_true(a.progress && a.unordered && a.compress);
    assert_string_equal(a.out_format, "qcow2");
    assert_int_equal(a.sparse, 64 * KIB);
    assert_int_equal(a.workers, 16);
    assert_string_equal(a.cache, "none");
    assert_int_equal(a.n_operands, 3);
    assert_string_equal(a.operands[2], "-c");
    image_args_fini(&a);
}

static void joins_lists_and_keeps_the_last_text(void **ctx)
{
    static const char *const words[] = { "-o", "a=1", "-o", "b=2,c=3", "-f", "x", "-f", "y", NULL };
    struct image_args a;
    const char **list;
    int status;

    (void)ctx;
    assert_true(parse(&a, IMAGE_CREATE, 2, &status, words));
    assert_string_equal(a.options, "a=1,b=2,c=3");
    assert_string_equal(a.format, "y");
    list = image_split_options(a.options);
    assert_string_equal(list[2], "c=3");
    assert_null(list[3]);
    free(list);
    image_args_fini(&a);
}

static void splits_at_single_commas(void **ctx)
{
    const char **list = image_split_options("backing_file=a,,b,,c,x=1,,");

    (void)ctx;
    assert_string_equal(list[0], "backing_file=a,b,c");
    assert_string_equal(list[1], "x=1,");
    assert_null(list[2]);
    free(list);
    list = image_split_options("");
    assert_null(list[0]);
    free(list);
}

static void knows_sizes_that_begin_with_a_minus(void **ctx)
{
    static const char *const words[] = { "disk", "-5G", NULL };
    struct image_args a;
    int status;

    (void)ctx;
    assert_true(parse(&a, IMAGE_RESIZE, 2, &status, words));
    assert_string_equal(a.operands[1], "-5G");
    image_args_fini(&a);
}

static void means_by_a_letter_what_the_command_does(void **ctx)
{
    static const char *const words[] = { "-c", "name", "disk", NULL };
    struct image_args a;
    int status;

    (void)ctx;
    assert_true(parse(&a, IMAGE_SNAPSHOT, 1, &status, words));
    assert_string_equal(a.create, "name");
    assert_false(a.compress);
    image_args_fini(&a);
}

static void refuses(void **ctx)
{
    static const char *const bad[][4] = {
        { "-Z" },          { "--nonsense" },   { "-m" },       { "-m", "many" },
        { "-S", "large" }, { "--output=xml" }, { "--json=1" }, { "a", "b", "c" },
    };

    (void)ctx;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct image_args a;
        int status = 0;

        assert_false(parse(&a, IMAGE_CONVERT, 2, &status, bad[i]));
        assert_int_equal(status, CMD_USAGE);
        image_args_fini(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_clusters_and_attached_values),
        cmocka_unit_test(joins_lists_and_keeps_the_last_text),
        cmocka_unit_test(splits_at_single_commas),
        cmocka_unit_test(knows_sizes_that_begin_with_a_minus),
        cmocka_unit_test(means_by_a_letter_what_the_command_does),
        cmocka_unit_test(refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
