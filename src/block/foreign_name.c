/*
 * foreign_name.c: the names that images of other systems give their parents.
 */
#include <string.h>

#include "base/endian.h"
#include "block/foreign.h"

char *foreign_utf16(const uint8_t *p, size_t units, bool big)
{
    char *text = malloc(units * 3 + 1), *out = text;

    for (size_t i = 0; text && i < units; i++) {
        unsigned c = big ? ld_be16(p + 2 * i) : ld_le16(p + 2 * i);

        if (!c)
            break;
        if (c < 0x80) {
            *out++ = (char)c;
        } else if (c < 0x800) {
            *out++ = (char)(0xc0 | c >> 6);
            *out++ = (char)(0x80 | (c & 0x3f));
        } else { /* a surrogate pair becomes two of these, which no file is named by */
            *out++ = (char)(0xe0 | c >> 12);
            *out++ = (char)(0x80 | (c >> 6 & 0x3f));
            *out++ = (char)(0x80 | (c & 0x3f));
        }
    }
    if (!text)
        return NULL;
    *out = '\0';
    if (out != text)
        return text;
    free(text);
    return NULL;
}

void foreign_windows_path(char *name)
{
    const char *base;

    for (char *c = name; *c; c++)
        if (*c == '\\')
            *c = '/';
    base = strrchr(name, '/');
    if (base && (*name == '/' || name[1] == ':'))
        memmove(name, base + 1, strlen(base + 1) + 1);
}
