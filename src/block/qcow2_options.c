/*
 * qcow2_options.c: see qcow2_options.h.
 */
#include "block/qcow2_options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/qcow2_priv.h"

enum { OPTIONS_ITER_MS_MAX = 600 * 1000 };

static int options_bad(struct err *e, const char *name, const char *value, const char *allowed)
{
    return err_set(e, EINVAL, "option %s=%s: allowed is %s", name, value, allowed);
}

static int options_bool(const char *name, const char *value, bool *out, struct err *e)
{
    static const char *const yes[] = { "on", "yes", "true" }, *const no[] = { "off", "no",
                                                                              "false" };

    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        if (strcmp(value, yes[i]) && strcmp(value, no[i]))
            continue;
        *out = !strcmp(value, yes[i]);
        return 0;
    }
    return options_bad(e, name, value, "on or off");
}

/* A power of two from min to max, as its exponent. */
static int options_pow2(const char *name, const char *value, uint64_t min, uint64_t max,
                        unsigned *bits, struct err *e)
{
    uint64_t n;

    if (util_parse_size(value, &n) || !is_pow2(n) || n < min || n > max)
        return err_set(e, EINVAL, "option %s=%s: allowed is a power of two from %llu to %llu", name,
                       value, (unsigned long long)min, (unsigned long long)max);
    *bits = (unsigned)__builtin_ctzll(n);
    return 0;
}

static int options_word(const char *name, const char *value, const char *const *words, unsigned n,
                        const char *allowed, unsigned *out, struct err *e)
{
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(value, words[i])) {
            *out = i;
            return 0;
        }
    return options_bad(e, name, value, allowed);
}

static int options_iter_time(const char *name, const char *value, uint64_t *ms, struct err *e)
{
    char *end;

    *ms = strtoull(value, &end, 10);
    if (*value < '1' || *value > '9' || *end || *ms > OPTIONS_ITER_MS_MAX)
        return options_bad(e, name, value, "a number of milliseconds, at most 600000");
    return 0;
}

/* "encrypt.NAME" */
static int options_encrypt(const char *name, const char *value, struct qcow2_options *o,
                           struct err *e)
{
    static const char *const ciphers[] = { "aes-256", "aes-128" };
    static const char *const hashes[] = { "sha256", "sha1", "sha512" };
    static const struct {
        const char *name, *only;
    } fixed[] = { { "format", "luks" }, { "cipher-mode", "xts" }, { "ivgen-alg", "plain64" } };
    const char *what = name + strlen("encrypt.");
    unsigned n = 0;
    int rc = 0;

    o->encrypt = o->encrypt || !strcmp(what, "format");
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
        if (!strcmp(what, fixed[i].name))
            return strcmp(value, fixed[i].only) ? options_bad(e, name, value, fixed[i].only) : 0;
    if (!strcmp(what, "cipher-alg")) {
        rc = options_word(name, value, ciphers, 2, "aes-256 or aes-128", &n, e);
        o->luks.key_len = n ? 32 : 64;
    } else if (!strcmp(what, "hash-alg")) {
        rc = options_word(name, value, hashes, 3, "sha256, sha1 or sha512", &n, e);
        o->luks.hash = hashes[n];
    } else if (!strcmp(what, "iter-time")) {
        rc = options_iter_time(name, value, &o->luks.iter_ms, e);
    } else if (!strcmp(what, "key-secret")) {
        rc = err_set(e, EINVAL,
                     "option %s: there are no secret objects here; the passphrase is read from "
                     "--key-file FILE, or asked for",
                     name);
    } else {
        rc = err_set(e, EINVAL,
                     "there is no option '%s'; known are encrypt.format, encrypt.cipher-alg, "
                     "encrypt.cipher-mode, encrypt.hash-alg, encrypt.ivgen-alg, encrypt.iter-time",
                     name);
    }
    return rc;
}

static int options_named(const char *name, const char *value, struct qcow2_options *o,
                         struct err *e)
{
    static const char *const modes[] = { "off", "metadata", "falloc", "full" };
    static const char *const compat[] = { "0.10", "v2", "1.1", "v3" };
    static const char *const codecs[] = { "zlib", "zstd" };
    unsigned n = 0;
    int rc;

    if (!strcmp(name, "cluster_size"))
        return options_pow2(name, value, 512, 2 * MIB, &o->cluster_bits, e);
    if (!strcmp(name, "refcount_bits"))
        return options_pow2(name, value, 1, 64, &o->refcount_order, e);
    if (!strcmp(name, "extended_l2"))
        return options_bool(name, value, &o->extended_l2, e);
    if (!strcmp(name, "lazy_refcounts"))
        return options_bool(name, value, &o->lazy_refcounts, e);
    if (!strcmp(name, "data_file_raw"))
        return options_bool(name, value, &o->data_file_raw, e);
    if (!strcmp(name, "preallocation")) {
        rc = options_word(name, value, modes, 4, "off, metadata, falloc or full", &n, e);
        o->preallocation = (enum blk_prealloc)n;
    } else if (!strcmp(name, "compat")) {
        rc = options_word(name, value, compat, 4, "0.10 (v2) or 1.1 (v3)", &n, e);
        o->version = n < 2 ? 2 : 3;
    } else if (!strcmp(name, "compression_type")) {
        rc = options_word(name, value, codecs, 2, "zlib or zstd", &n, e);
        o->compression = (uint8_t)n;
    } else if (!strcmp(name, "data_file")) {
        o->data_file = *value ? value : NULL;
        rc = 0;
    } else if (!strncmp(name, "encrypt.", 8)) {
        rc = options_encrypt(name, value, o, e);
    } else if (!strcmp(name, "encryption")) {
        rc = strcmp(value, "off") ? err_set(e, ENOTSUP,
                                            "encryption=on is the old AES encryption, which is "
                                            "unsafe: say --encrypt (encrypt.format=luks)")
                                  : 0;
    } else {
        rc = err_set(e, EINVAL,
                     "qcow2 has no option '%s'; known are cluster_size, compat, compression_type, "
                     "data_file, "
                     "data_file_raw, encrypt.format, extended_l2, lazy_refcounts, preallocation, "
                     "refcount_bits",
                     name);
    }
    return rc;
}

int qcow2_options_parse(const char *const *options, struct qcow2_options *o, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; !rc && options && options[i]; i++) {
        const char *value = strchr(options[i], '=');
        char name[64];

        if (!value || (size_t)(value - options[i]) >= sizeof(name))
            return err_set(e, EINVAL, "option '%s': what is wanted is name=value", options[i]);
        snprintf(name, sizeof(name), "%.*s", (int)(value - options[i]), options[i]);
        rc = options_named(name, value + 1, o, e);
    }
    return rc;
}

int qcow2_options_check(const struct qcow2_options *o, bool has_backing, struct err *e)
{
    if (o->version < 3 && (o->extended_l2 || o->lazy_refcounts || o->compression || o->data_file ||
                           o->refcount_order != 4))
        return err_set(e, EINVAL,
                       "compat=0.10 has no extended_l2, lazy_refcounts, data_file, other "
                       "compression_type than "
                       "zlib or refcount_bits than 16: use compat=1.1");
    if (o->extended_l2 && o->cluster_bits < QCOW2_MIN_EXT_BITS)
        return err_set(e, EINVAL,
                       "extended_l2=on needs clusters of at least 16K: cluster_size=64K");
    if (o->encrypt && o->data_file_raw)
        return err_set(e, EINVAL, "a raw data file cannot be encrypted: leave out data_file_raw");
    if (o->encrypt && o->preallocation && o->version < 3)
        return err_set(e, EINVAL, "preallocation of an encrypted image needs compat=1.1");
    if (!o->encrypt && (o->luks.key_len || o->luks.hash || o->luks.iter_ms))
        return err_set(e, EINVAL, "options of encryption need encrypt.format=luks (--encrypt)");
    if (o->data_file_raw && !o->data_file)
        return err_set(e, EINVAL, "data_file_raw=on needs data_file=");
    if (o->data_file_raw && has_backing)
        return err_set(e, EINVAL, "a raw data file cannot go together with a backing file");
    if (o->preallocation && has_backing && !o->extended_l2)
        return err_set(
            e, EINVAL,
            "preallocation with a backing file would hide it: use extended_l2=on, or leave it out");
    if (o->preallocation && has_backing && o->preallocation != BLK_PREALLOC_METADATA)
        return err_set(e, EINVAL, "with a backing file preallocation can be off or metadata");
    return 0;
}
