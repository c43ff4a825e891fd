/*
 * iso9660.c: ECMA-119 (ISO 9660), Rock Ridge (RRIP 1.12 in SUSP 1.12), Joliet. Fixed places:
 *
 *   sector 16 primary descriptor      19, 20 its path tables      23 its folder
 *          17 Joliet's descriptor     21, 22 its path tables      24 its folder
 *          18 end of descriptors                                  25 the files, one after the other
 *
 * Numbers of kind 7.x.3 are there twice, in either byte order.
 */
#include "image/iso9660.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/endian.h"

enum {
    ISO_SECTOR = 2048,
    ISO_PRIMARY = 16,
    ISO_JOLIET = 17,
    ISO_END = 18,
    ISO_PATHS = 19, /* little and big endian, of the primary and of Joliet */
    ISO_FOLDER = 23,
    ISO_JOLIET_FOLDER = 24,
    ISO_FILES = 25,
    ISO_PATH_LEN = 10,
    ISO_RECORD = 33, /* of a folder's entry, without its name */
    ISO_IS_FOLDER = 2,
    ISO_DATE = 7,
    ISO_LABEL_MAX = 16,
    ISO_SHORT_NAME = 8,
};

struct iso {
    uint8_t *data;
    uint32_t sectors;
    uint8_t date[ISO_DATE];
    const struct iso9660_file *file;
    size_t n;
    uint32_t at[ISO9660_FILES_MAX]; /* sectors */
};

static void iso_both16(uint8_t *p, uint16_t v)
{
    st_le16(p, v);
    st_be16(p + 2, v);
}

static void iso_both32(uint8_t *p, uint32_t v)
{
    st_le32(p, v);
    st_be32(p + 4, v);
}

/* Characters in a field, which has no end mark. */
static void iso_text(uint8_t *p, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)text[i];
}

static void iso_set_date(struct iso *iso)
{
    time_t now = time(NULL);
    struct tm tm;

    gmtime_r(&now, &tm);
    iso->date[0] = (uint8_t)tm.tm_year;
    iso->date[1] = (uint8_t)(tm.tm_mon + 1);
    iso->date[2] = (uint8_t)tm.tm_mday;
    iso->date[3] = (uint8_t)tm.tm_hour;
    iso->date[4] = (uint8_t)tm.tm_min;
    iso->date[5] = (uint8_t)tm.tm_sec;
}

/* --- folders --- */

struct iso_entry {
    const uint8_t *name;
    size_t name_len;
    uint32_t sector, len;
    bool folder;
    uint8_t system[128]; /* Rock Ridge's fields */
    size_t system_len;
};

/* Writes an entry at p; its length. */
static size_t iso_entry(const struct iso *iso, uint8_t *p, const struct iso_entry *d)
{
    size_t named = ISO_RECORD + d->name_len + (d->name_len % 2 ? 0 : 1);
    size_t len = named + d->system_len;

    len += len % 2;
    p[0] = (uint8_t)len;
    iso_both32(p + 2, d->sector);
    iso_both32(p + 10, d->len);
    memcpy(p + 18, iso->date, ISO_DATE);
    p[25] = d->folder ? ISO_IS_FOLDER : 0;
    iso_both16(p + 28, 1);
    p[32] = (uint8_t)d->name_len;
    memcpy(p + ISO_RECORD, d->name, d->name_len);
    memcpy(p + named, d->system, d->system_len);
    return len;
}

/* SUSP 5: signature, length, version. Returns the place for what follows. */
static uint8_t *iso_system(struct iso_entry *d, const char *signature, uint8_t len)
{
    uint8_t *p = d->system + d->system_len;

    iso_text(p, signature, 2);
    p[2] = len;
    p[3] = 1;
    d->system_len += len;
    return p + 4;
}

/* POSIX attributes: who may read it. */
static void iso_system_px(struct iso_entry *d)
{
    uint8_t *p = iso_system(d, "PX", 44);

    iso_both32(p, d->folder ? 040555 : 0100444);
    iso_both32(p + 8, d->folder ? 2 : 1);
    iso_both32(p + 32, 1 + d->sector);
}

/* "." and ".."; the first folder's "." also says that the fields of Rock Ridge are there. */
static uint8_t *iso_dots(const struct iso *iso, uint8_t *p, uint32_t folder, bool rock_ridge)
{
    for (uint8_t which = 0; which < 2; which++) {
        struct iso_entry d = { &which, 1, folder, ISO_SECTOR, true, { 0 }, 0 };

        if (rock_ridge && !which) {
            uint8_t *er;

            iso_text(iso_system(&d, "SP", 7), "\xbe\xef", 3);
            iso_system_px(&d);
            er = iso_system(&d, "ER", 18);
            er[0] = 10;
            er[3] = 1;
            iso_text(er + 4, "RRIP_1991A", 10);
        } else if (rock_ridge) {
            iso_system_px(&d);
        }
        p += iso_entry(iso, p, &d);
    }
    return p;
}

/* "user-data" as "USERDATA.;1": what a reader gets that knows only the standard. */
static size_t iso_short_name(const char *name, uint8_t *to)
{
    size_t n = 0;

    for (; *name && n < ISO_SHORT_NAME; name++)
        if (isalnum((unsigned char)*name))
            to[n++] = (uint8_t)toupper((unsigned char)*name);
    iso_text(to + n, ".;1", 3);
    return n + 3;
}

static size_t iso_wide(const char *text, uint8_t *to)
{
    size_t n = 0;

    for (; *text; text++) {
        to[n++] = 0;
        to[n++] = (uint8_t)*text;
    }
    return n;
}

static void iso_folder(struct iso *iso)
{
    uint8_t *p = iso->data + ISO_FOLDER * ISO_SECTOR;

    p = iso_dots(iso, p, ISO_FOLDER, true);
    for (size_t i = 0; i < iso->n; i++) {
        const struct iso9660_file *f = &iso->file[i];
        size_t name_len = strlen(f->name);
        uint8_t name[ISO_SHORT_NAME + 3], *nm;
        struct iso_entry d = {
            name, iso_short_name(f->name, name), iso->at[i], (uint32_t)f->len, false, { 0 }, 0
        };

        iso_system_px(&d);
        nm = iso_system(&d, "NM", (uint8_t)(5 + name_len));
        iso_text(nm + 1, f->name, name_len);
        p += iso_entry(iso, p, &d);
    }
}

static void iso_joliet_folder(struct iso *iso)
{
    uint8_t *p = iso->data + ISO_JOLIET_FOLDER * ISO_SECTOR;

    p = iso_dots(iso, p, ISO_JOLIET_FOLDER, false);
    for (size_t i = 0; i < iso->n; i++) {
        const struct iso9660_file *f = &iso->file[i];
        uint8_t name[2 * ISO9660_NAME_MAX];
        struct iso_entry d = {
            name, iso_wide(f->name, name), iso->at[i], (uint32_t)f->len, false, { 0 }, 0
        };

        p += iso_entry(iso, p, &d);
    }
}

/* --- descriptors --- */

/* One folder has a path table of one entry, in either byte order. */
static void iso_path_tables(struct iso *iso, uint32_t at, uint32_t folder)
{
    uint8_t *p = iso->data + at * ISO_SECTOR;

    p[0] = 1;
    st_le32(p + 2, folder);
    st_le16(p + 6, 1);
    p += ISO_SECTOR;
    p[0] = 1;
    st_be32(p + 2, folder);
    st_be16(p + 6, 1);
}

static void iso_fill(uint8_t *p, size_t len, bool wide)
{
    for (size_t i = 0; i < len; i++)
        p[i] = wide && i % 2 == 0 ? 0 : ' ';
}

/* 8.4, and 8.5 with Joliet's escape sequence (UCS-2 level 3). */
static void iso_descriptor(struct iso *iso, const char *label, bool joliet)
{
    static const uint8_t root = 0;
    uint8_t *p = iso->data + (joliet ? ISO_JOLIET : ISO_PRIMARY) * ISO_SECTOR;
    uint32_t paths = joliet ? ISO_PATHS + 2 : ISO_PATHS;
    struct iso_entry d = { &root, 1, joliet ? ISO_JOLIET_FOLDER : ISO_FOLDER, ISO_SECTOR, true,
                           { 0 }, 0 };

    p[0] = joliet ? 2 : 1;
    iso_text(p + 1, "CD001", 5);
    p[6] = 1;
    iso_fill(p + 8, 64, joliet);
    if (joliet) {
        iso_wide(label, p + 40);
        iso_text(p + 88, "%/E", 3);
    } else {
        iso_text(p + 40, label, strlen(label));
    }
    iso_both32(p + 80, iso->sectors);
    iso_both16(p + 120, 1);
    iso_both16(p + 124, 1);
    iso_both16(p + 128, ISO_SECTOR);
    iso_both32(p + 132, ISO_PATH_LEN);
    st_le32(p + 140, paths);
    st_be32(p + 148, paths + 1);
    iso_entry(iso, p + 156, &d);
    iso_fill(p + 190, 623, joliet);
    for (unsigned i = 0; i < 4; i++) /* dates: not told */
        memset(p + 813 + 17 * i, '0', 16);
    p[881] = 1;
}

uint8_t *iso9660_make(const char *label, const struct iso9660_file *files, size_t n, size_t *len,
                      struct err *e)
{
    struct iso iso = { .file = files, .n = n, .sectors = ISO_FILES };
    uint8_t *end;

    BUG_ON(n > ISO9660_FILES_MAX || strlen(label) > ISO_LABEL_MAX);
    for (size_t i = 0; i < n; i++) {
        BUG_ON(strlen(files[i].name) > ISO9660_NAME_MAX);
        if (files[i].len > ISO9660_FILE_MAX) {
            err_set(e, EFBIG, "%s is larger than 64 MiB", files[i].name);
            return NULL;
        }
        iso.at[i] = iso.sectors;
        iso.sectors += (uint32_t)((files[i].len + ISO_SECTOR - 1) / ISO_SECTOR);
    }
    iso.data = calloc(iso.sectors, ISO_SECTOR);
    if (!iso.data)
        return err_oom(e);
    iso_set_date(&iso);
    iso_descriptor(&iso, label, false);
    iso_descriptor(&iso, label, true);
    end = iso.data + ISO_END * ISO_SECTOR;
    end[0] = 255;
    iso_text(end + 1, "CD001\1", 6);
    iso_path_tables(&iso, ISO_PATHS, ISO_FOLDER);
    iso_path_tables(&iso, ISO_PATHS + 2, ISO_JOLIET_FOLDER);
    iso_folder(&iso);
    iso_joliet_folder(&iso);
    for (size_t i = 0; i < n; i++)
        if (files[i].len)
            memcpy(iso.data + (size_t)iso.at[i] * ISO_SECTOR, files[i].data, files[i].len);
    *len = (size_t)iso.sectors * ISO_SECTOR;
    return iso.data;
}
