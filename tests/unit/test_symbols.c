#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/symbols.h"

static char path[] = "/tmp/test_symbols.XXXXXX";

static int load(const void *data, size_t len, struct symbols **s)
{
    struct err e = { 0 };
    FILE *f = fopen(path, "wbe");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    return symbols_load(s, path, &e);
}

static void test_system_map(void **ctx)
{
    static const char map[] = "ffffffff81000200 T second\n"
                              "ffffffff81000000 T _text\n"
                              "0000000000000000 A absolute\n"
                              "ffffffff82000000 D data\n"
                              "not a line\n"
                              "ffffffffc0000000 t in_module\t[module]";
    struct symbols *s;
    uint64_t off;

    (void)ctx;
    assert_int_equal(load(map, sizeof(map) - 1, &s), 0);
    assert_string_equal(symbols_find(s, 0xffffffff810001ff, &off), "_text");
    assert_int_equal(off, 0x1ff);
    assert_string_equal(symbols_find(s, 0xffffffff81000200, &off), "second");
    assert_string_equal(symbols_find(s, 0xffffffffc0000010, &off), "in_module");
    assert_null(symbols_find(s, 0x1000, &off));
    assert_null(symbols_find(s, 0xffffffff82000000, &off));
    assert_null(symbols_find(NULL, 0x1000, &off));
    symbols_destroy(s);
}

struct elf {
    Elf64_Ehdr h;
    Elf64_Shdr tab, str;
    Elf64_Sym sym[2];
    char names[8];
};

static void make_elf(struct elf *f)
{
    *f = (struct elf){
        .h = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64 },
               .e_shoff = offsetof(struct elf, tab),
               .e_shentsize = sizeof(Elf64_Shdr),
               .e_shnum = 2 },
        .tab = { .sh_type = SHT_SYMTAB,
                 .sh_offset = offsetof(struct elf, sym),
                 .sh_size = sizeof(f->sym),
                 .sh_link = 1 },
        .str = { .sh_type = SHT_STRTAB,
                 .sh_offset = offsetof(struct elf, names),
                 .sh_size = sizeof(f->names) },
        .sym = { { .st_name = 1, .st_info = STT_FUNC, .st_shndx = 1, .st_value = 0x2000 },
                 { .st_name = 3, .st_info = STT_OBJECT, .st_shndx = 1, .st_value = 0x1000 } },
        .names = "\0f\0obj",
    };
}

static void test_elf(void **ctx)
{
    struct symbols *s;
    struct elf f;
    uint64_t off;

    (void)ctx;
    make_elf(&f);
    assert_int_equal(load(&f, sizeof(f), &s), 0);
    assert_string_equal(symbols_find(s, 0x2004, &off), "f");
    assert_int_equal(off, 4);
    assert_null(symbols_find(s, 0x1000, &off));
    symbols_destroy(s);
}

static void test_hostile_files(void **ctx)
{
    struct symbols *s;
    struct elf f;

    (void)ctx;
    assert_int_not_equal(load("nothing\n", 8, &s), 0);
    assert_int_not_equal(load("", 0, &s), 0);
    for (size_t n = 0; n < sizeof(f); n++) { /* cut short anywhere */
        make_elf(&f);
        assert_int_not_equal(load(&f, n, &s), 0);
    }
    f.h.e_shoff = ~0ull;
    assert_int_not_equal(load(&f, sizeof(f), &s), 0);
    make_elf(&f);
    f.tab.sh_size = ~0ull;
    assert_int_not_equal(load(&f, sizeof(f), &s), 0);
    make_elf(&f);
    f.tab.sh_link = 7;
    assert_int_not_equal(load(&f, sizeof(f), &s), 0);
    make_elf(&f);
    f.sym[0].st_name = 100;
    assert_int_not_equal(load(&f, sizeof(f), &s), 0);
    make_elf(&f);
    f.names[7] = 'x';
    assert_int_not_equal(load(&f, sizeof(f), &s), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_system_map),
        cmocka_unit_test(test_elf),
        cmocka_unit_test(test_hostile_files),
    };
    int fd = mkstemp(path), failed;

    if (fd < 0)
        return 1;
    close(fd);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
