/*
 * symbols.c: an ELF file's .symtab or System.map's lines ("ffffffff81000000 T _text") to a sorted table.
 * Addresses are those of the link: a kernel that moves itself needs nokaslr, or its own kallsyms.
 */
#include "base/symbols.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SYMBOLS_FILE_MAX = GIB, SYMBOLS_MAX = 4 << 20, SYMBOLS_FAR = MIB };

struct symbol {
    uint64_t addr;
    const char *name; /* in the file's text */
};

struct symbols {
    char *file; /* with a NUL behind it */
    size_t len;
    struct symbol *sym;
    size_t n, room;
};

static int symbols_read(struct symbols *s, const char *path)
{
    FILE *f = fopen(path, "rbe");
    long len = -1;
    int rc = 0;

    if (!f)
        return -errno;
    if (!fseek(f, 0, SEEK_END))
        len = ftell(f);
    if (len < 0 || len > SYMBOLS_FILE_MAX || fseek(f, 0, SEEK_SET))
        rc = -EINVAL;
    s->file = rc ? NULL : malloc((size_t)len + 1);
    if (!rc && !s->file)
        rc = -ENOMEM;
    if (!rc) {
        s->len = fread(s->file, 1, (size_t)len, f);
        s->file[s->len] = '\0';
    }
    fclose(f);
    return rc;
}

static int symbols_add(struct symbols *s, uint64_t addr, const char *name)
{
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 4096;
        struct symbol *sym = room <= SYMBOLS_MAX ? realloc(s->sym, room * sizeof(*sym)) : NULL;

        if (!sym)
            return -ENOMEM;
        s->sym = sym;
        s->room = room;
    }
    s->sym[s->n++] = (struct symbol){ addr, name };
    return 0;
}

/* --- System.map --- */
static int symbols_line(struct symbols *s, char *line)
{
    char *end, *name;
    uint64_t addr = strtoull(line, &end, 16);

    if (end == line || end[0] != ' ' || !end[1] || end[2] != ' ' || !strchr("tTwW", end[1]))
        return 0;
    name = end + 3;
    name[strcspn(name, "\t\r ")] = '\0'; /* kallsyms has the module behind it */
    return addr && *name ? symbols_add(s, addr, name) : 0;
}

static int symbols_text(struct symbols *s)
{
    int rc = 0;

    for (char *line = s->file, *next; line && *line && !rc; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        rc = symbols_line(s, line);
    }
    return rc;
}

/* --- ELF --- */
/* n bytes at off, or NULL. */
static const void *symbols_at(const struct symbols *s, uint64_t off, uint64_t n)
{
    return off <= s->len && n <= s->len - off ? s->file + off : NULL;
}

static bool symbols_section(const struct symbols *s, const Elf64_Ehdr *h, unsigned i,
                            Elf64_Shdr *out)
{
    const void *p = i < h->e_shnum && h->e_shoff <= s->len
                        ? symbols_at(s, h->e_shoff + (uint64_t)i * sizeof(*out), sizeof(*out))
                        : NULL;

    if (p)
        memcpy(out, p, sizeof(*out));
    return p && symbols_at(s, out->sh_offset, out->sh_size);
}

static int symbols_table(struct symbols *s, const Elf64_Shdr *tab, const Elf64_Shdr *str)
{
    const char *names = s->file + str->sh_offset;
    int rc = 0;

    if (!str->sh_size || names[str->sh_size - 1])
        return -EINVAL;
    for (uint64_t at = 0; !rc && at + sizeof(Elf64_Sym) <= tab->sh_size; at += sizeof(Elf64_Sym)) {
        Elf64_Sym y;

        memcpy(&y, s->file + tab->sh_offset + at, sizeof(y));
        if (y.st_name < str->sh_size && names[y.st_name] && y.st_shndx != SHN_UNDEF &&
            (ELF64_ST_TYPE(y.st_info) == STT_FUNC || ELF64_ST_TYPE(y.st_info) == STT_NOTYPE))
            rc = symbols_add(s, y.st_value, names + y.st_name);
    }
    return rc;
}

static int symbols_elf(struct symbols *s)
{
    const void *head = symbols_at(s, 0, sizeof(Elf64_Ehdr));
    Elf64_Shdr tab, str;
    Elf64_Ehdr h;

    if (!head)
        return -EINVAL;
    memcpy(&h, head, sizeof(h));
    if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_shentsize != sizeof(Elf64_Shdr))
        return -EINVAL;
    for (unsigned i = 0; i < h.e_shnum; i++)
        if (symbols_section(s, &h, i, &tab) && tab.sh_type == SHT_SYMTAB &&
            symbols_section(s, &h, tab.sh_link, &str))
            return symbols_table(s, &tab, &str);
    return 0;
}

/* --- the table --- */
static int symbols_compare(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;

    return (x->addr > y->addr) - (x->addr < y->addr);
}

int symbols_load(struct symbols **out, const char *path, struct err *e)
{
    struct symbols *s = calloc(1, sizeof(*s));
    int rc;

    if (!s) {
        err_oom(e);
        return -ENOMEM;
    }
    rc = symbols_read(s, path);
    if (rc) {
        err_set(e, -rc, "symbols %s cannot be read: %s", path, strerror(-rc));
        goto fail;
    }
    rc = s->len >= SELFMAG && !memcmp(s->file, ELFMAG, SELFMAG) ? symbols_elf(s) : symbols_text(s);
    if (!rc && !s->n)
        rc = -EINVAL;
    if (rc) {
        err_set(e, EINVAL, "%s has no symbols: give a System.map or a 64-bit ELF file with .symtab",
                path);
        goto fail;
    }
    qsort(s->sym, s->n, sizeof(*s->sym), symbols_compare);
    *out = s;
    return 0;

fail:
    symbols_destroy(s);
    return rc;
}

void symbols_destroy(struct symbols *s)
{
    if (!s)
        return;
    free(s->sym);
    free(s->file);
    free(s);
}

const char *symbols_find(const struct symbols *s, uint64_t addr, uint64_t *off)
{
    size_t low = 0, high = s ? s->n : 0;

    while (low < high) { /* the first one above addr */
        size_t middle = low + (high - low) / 2;

        if (s->sym[middle].addr <= addr)
            low = middle + 1;
        else
            high = middle;
    }
    if (!low || addr - s->sym[low - 1].addr >= SYMBOLS_FAR)
        return NULL;
    *off = addr - s->sym[low - 1].addr;
    return s->sym[low - 1].name;
}
