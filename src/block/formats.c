#include "block/formats.h"

#include <string.h>

#include "block/foreign.h"

static const struct blk_ops *const formats[] = {
    &blk_raw_ops,    &blk_qcow2_ops,   &blk_luks_ops,    &vdi_format.blk,
    &vhd_format.blk, &vhdx_format.blk, &vmdk_format.blk,
};

const char *blk_format_names(void)
{
    return "raw, qcow2, luks, and to be read: vdi, vhd, vhdx, vmdk";
}

const struct blk_ops *blk_format_find(const char *name)
{
    if (!strcmp(name, "vpc")) /* QEMU's name for it */
        name = "vhd";
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
        if (!strcmp(formats[i]->format, name))
            return formats[i];
    return NULL;
}

const char *blk_format_by_name(const char *path)
{
    const char *end = strrchr(path, '.');

    /* A server's disk has what is written to it. */
    if (!end || strchr(end, '/') || strstr(path, "://"))
        return "raw";
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
        if (!strcmp(formats[i]->format, end + 1))
            return formats[i]->format;
    return "raw";
}

const struct blk_ops *blk_format_probe(const void *head, size_t n)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
        if (formats[i]->probe && formats[i]->probe(head, n))
            return formats[i];
    return &blk_raw_ops;
}

#define FORMATS_CONVERT "convert it with `qemu-img convert -O raw`"

static const struct {
    const char *magic;
    unsigned off, len;
    const char *phrase, *cure;
} foreign[] = {
    { "QFI\xfb\0\0\0\1", 0, 8, "an image of the old qcow format", FORMATS_CONVERT },
    { "QED\0", 0, 4, "a QED image", FORMATS_CONVERT },
    { "\x1f\x8b", 0, 2, "compressed with gzip", "decompress it with gunzip" },
    { "BZh", 0, 3, "compressed with bzip2", "decompress it with bunzip2" },
    { "\xfd"
      "7zXZ\0",
      0, 6, "compressed with xz", "decompress it with unxz" },
    { "\x28\xb5\x2f\xfd", 0, 4, "compressed with zstd", "decompress it with unzstd" },
    { "PK\x03\x04", 0, 4, "a zip archive", "unpack it with unzip" },
};

const char *blk_format_foreign(const void *head, size_t n, const char **cure)
{
    for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
        if (foreign[i].off + foreign[i].len > n ||
            memcmp((const char *)head + foreign[i].off, foreign[i].magic, foreign[i].len))
            continue;
        *cure = foreign[i].cure;
        return foreign[i].phrase;
    }
    return NULL;
}
