/*
 * qcow2_luks.c: see qcow2_luks.h. The header: "LUKS On-Disk Format Specification", version 1.2. Known are
 * aes-xts-plain64 and aes-xts-plain, with the hashes that OpenSSL has; that is what QEMU and cryptsetup make.
 */
#include "block/qcow2_luks.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/endian.h"
#include "base/iov.h"

enum {
    LUKS_HEADER = 592,
    LUKS_SECTOR = 512,
    LUKS_SLOTS = 8,
    LUKS_SLOT = 48,
    LUKS_SLOT_FIRST = 208,
    LUKS_ACTIVE = 0x00ac71f3,
    LUKS_DIGEST = 20,
    LUKS_SALT = 32,
    LUKS_TEXT = 32,
    LUKS_KEY_MAX = 64,
    LUKS_ITERATIONS_MAX = 32 * 1000 * 1000, /* a hostile image must not take for ever */

    /* of new headers */
    LUKS_ALIGN = 4096,
    LUKS_STRIPES = 4000,
    LUKS_ITERATIONS_MIN = 1000,
    LUKS_ITERATIONS_TRY = 20000, /* to find out how fast we are */
    LUKS_ITER_MS = 2000,
    LUKS_DIGEST_SHARE = 8, /* the digest of the key takes less than a try at a passphrase */
    LUKS_INACTIVE = 0xdead,
};

struct qcow2_luks {
    const EVP_CIPHER *cipher;
    const EVP_MD *hash;
    uint8_t key[LUKS_KEY_MAX];
    uint32_t key_len;
};

/* --- sectors --- */

static int luks_crypt_sectors(const struct qcow2_luks *l, const uint8_t *key, uint64_t sector,
                              uint8_t *buf, uint64_t len, int encrypt)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n, ok = ctx && EVP_CipherInit_ex(ctx, l->cipher, NULL, key, NULL, encrypt);

    for (uint64_t at = 0; ok && at < len; at += LUKS_SECTOR) {
        uint8_t iv[16] = { 0 };

        st_le64(iv, sector++);
        ok = EVP_CipherInit_ex(ctx, NULL, NULL, NULL, iv, encrypt) &&
             EVP_CipherUpdate(ctx, buf + at, &n, buf + at, LUKS_SECTOR);
    }
    EVP_CIPHER_CTX_free(ctx);
    return ok ? 0 : -EIO;
}

int qcow2_luks_encrypt(const struct qcow2_luks *l, uint64_t host, uint8_t *buf, uint64_t len)
{
    return luks_crypt_sectors(l, l->key, host / LUKS_SECTOR, buf, len, 1);
}

int qcow2_luks_decrypt(const struct qcow2_luks *l, uint64_t host, const struct iovec *iov, int niov,
                       uint64_t len)
{
    uint8_t *buf;
    int rc;

    if (niov == 1)
        return luks_crypt_sectors(l, l->key, host / LUKS_SECTOR, iov->iov_base, len, 0);
    buf = malloc(len);
    if (!buf)
        return -ENOMEM;
    iov_copy_from(iov, (unsigned)niov, 0, buf, len);
    rc = luks_crypt_sectors(l, l->key, host / LUKS_SECTOR, buf, len, 0);
    if (!rc)
        iov_copy_to(iov, (unsigned)niov, 0, buf, len);
    free(buf);
    return rc;
}

/* --- keys --- */

static int luks_derive(const struct qcow2_luks *l, const void *secret, size_t len,
                       const uint8_t *salt, uint32_t iterations, uint8_t *out, uint32_t out_len)
{
    if (!iterations || iterations > LUKS_ITERATIONS_MAX)
        return -EINVAL;
    return PKCS5_PBKDF2_HMAC(secret, (int)len, salt, LUKS_SALT, (int)iterations, l->hash,
                             (int)out_len, out)
               ? 0
               : -EIO;
}

/* Each piece of the block becomes the hash of its number and itself. */
static bool luks_diffuse(const struct qcow2_luks *l, uint8_t *block)
{
    unsigned size = (unsigned)EVP_MD_get_size(l->hash), len = l->key_len;
    bool ok = true;

    for (unsigned at = 0, i = 0; ok && at < len; at += size, i++) {
        uint8_t in[4 + EVP_MAX_MD_SIZE], out[EVP_MAX_MD_SIZE];
        unsigned n = (unsigned)min_u64(size, len - at);

        st_be32(in, i);
        memcpy(in + 4, block + at, n);
        ok = EVP_Digest(in, 4 + n, out, NULL, l->hash, NULL);
        memcpy(block + at, out, n);
    }
    return ok;
}

static bool luks_merge(const struct qcow2_luks *l, const uint8_t *material, uint32_t stripes,
                       uint8_t *key)
{
    memset(key, 0, l->key_len);
    for (uint32_t s = 0; s < stripes; s++) {
        for (uint32_t i = 0; i < l->key_len; i++)
            key[i] ^= material[(uint64_t)s * l->key_len + i];
        if (s + 1 < stripes && !luks_diffuse(l, key))
            return false;
    }
    return true;
}

/* Does this slot open with the passphrase? Then the key is in l. */
static bool luks_try_slot(struct qcow2_luks *l, const uint8_t *header, size_t len,
                          const uint8_t *slot, const char *passphrase)
{
    uint64_t off = (uint64_t)ld_be32(slot + 40) * LUKS_SECTOR;
    uint32_t stripes = ld_be32(slot + 44);
    uint64_t n = (uint64_t)stripes * l->key_len, padded = align_up(n, LUKS_SECTOR);
    uint8_t slot_key[LUKS_KEY_MAX], digest[LUKS_DIGEST], *material;
    bool ok;

    if (ld_be32(slot) != LUKS_ACTIVE || !stripes || off > len || padded > len - off)
        return false;
    material = malloc(padded);
    if (!material)
        return false;
    memcpy(material, header + off, padded);
    ok = !luks_derive(l, passphrase, strlen(passphrase), slot + 8, ld_be32(slot + 4), slot_key,
                      l->key_len) &&
         !luks_crypt_sectors(l, slot_key, 0, material, padded, 0) &&
         luks_merge(l, material, stripes, l->key) &&
         !luks_derive(l, l->key, l->key_len, header + 132, ld_be32(header + 164), digest,
                      LUKS_DIGEST) &&
         !CRYPTO_memcmp(digest, header + 112, LUKS_DIGEST);
    OPENSSL_cleanse(slot_key, sizeof(slot_key));
    OPENSSL_cleanse(material, padded);
    free(material);
    return ok;
}

/* --- opening --- */

static bool luks_is(const uint8_t *field, const char *want)
{
    return !strncmp((const char *)field, want, 32);
}

static int luks_algorithms(struct qcow2_luks *l, const uint8_t *header, const char *path,
                           struct err *e)
{
    char hash[33] = "";

    memcpy(hash, header + 72, 32);
    l->key_len = ld_be32(header + 108);
    l->hash = EVP_get_digestbyname(hash);
    l->cipher = l->key_len == 64 ? EVP_aes_256_xts() : l->key_len == 32 ? EVP_aes_128_xts() : NULL;
    if (!l->cipher || !l->hash || !luks_is(header + 8, "aes") ||
        (!luks_is(header + 40, "xts-plain64") && !luks_is(header + 40, "xts-plain")))
        return err_set(e, ENOTSUP,
                       "disk '%s' is encrypted with %.32s-%.32s and %.32s, which is not known "
                       "here: convert it to "
                       "aes-xts-plain64",
                       path, (const char *)header + 8, (const char *)header + 40, hash);
    return 0;
}

static int luks_unlock(struct qcow2_luks *l, const uint8_t *header, size_t len,
                       const char *passphrase, const char *path, struct err *e)
{
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        if (luks_try_slot(l, header, len, header + LUKS_SLOT_FIRST + i * LUKS_SLOT, passphrase))
            return 0;
    return err_set(e, EKEYREJECTED, "disk '%s': the passphrase does not open it", path);
}

struct qcow2_luks *qcow2_luks_open(const uint8_t *header, size_t len, const char *passphrase,
                                   const char *path, struct err *e)
{
    struct qcow2_luks *l;

    if (len < LUKS_HEADER || memcmp(header, "LUKS\xba\xbe\0\1", 8)) {
        err_set(e, EINVAL, "disk '%s': its encryption header is damaged", path);
        return NULL;
    }
    if (!passphrase) {
        err_set(e, ENOKEY,
                "disk '%s' is encrypted: its passphrase is needed (ruche run --disk "
                "FILE,key-file=FILE, ruche image --key-file FILE)",
                path);
        return NULL;
    }
    l = calloc(1, sizeof(*l));
    if (!l)
        return err_oom(e);
    if (luks_algorithms(l, header, path, e) || luks_unlock(l, header, len, passphrase, path, e)) {
        qcow2_luks_close(l);
        return NULL;
    }
    return l;
}

void qcow2_luks_close(struct qcow2_luks *l)
{
    if (l)
        OPENSSL_cleanse(l, sizeof(*l));
    free(l);
}

/* --- a new header --- */

static uint64_t luks_material_len(uint32_t key_len)
{
    return align_up((uint64_t)LUKS_STRIPES * key_len, LUKS_ALIGN);
}

static uint32_t luks_key_len(const struct qcow2_luks_params *p)
{
    return p->key_len ? p->key_len : LUKS_KEY_MAX;
}

uint64_t qcow2_luks_header_len(const struct qcow2_luks_params *p)
{
    return LUKS_ALIGN + LUKS_SLOTS * luks_material_len(luks_key_len(p));
}

/* The key in stripes of which none may be missing. */
static bool luks_split(const struct qcow2_luks *l, uint8_t *material)
{
    uint8_t *last = material + (uint64_t)(LUKS_STRIPES - 1) * l->key_len,
            block[LUKS_KEY_MAX] = { 0 };

    if (RAND_bytes(material, (int)((LUKS_STRIPES - 1) * l->key_len)) != 1)
        return false;
    for (uint32_t s = 0; s < LUKS_STRIPES - 1; s++) {
        for (uint32_t i = 0; i < l->key_len; i++)
            block[i] ^= material[(uint64_t)s * l->key_len + i];
        if (!luks_diffuse(l, block))
            return false;
    }
    for (uint32_t i = 0; i < l->key_len; i++)
        last[i] = block[i] ^ l->key[i];
    OPENSSL_cleanse(block, sizeof(block));
    return true;
}

static uint64_t luks_cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* So many take that long here; 0: it cannot be done. */
static uint32_t luks_iterations(const struct qcow2_luks *l, uint64_t ms)
{
    uint8_t salt[LUKS_SALT] = { 0 }, out[LUKS_KEY_MAX];
    uint64_t start = luks_cpu_ns(), took, n;

    if (luks_derive(l, "passphrase", 10, salt, LUKS_ITERATIONS_TRY, out, l->key_len))
        return 0;
    took = max_u64(luks_cpu_ns() - start, 1);
    n = (uint64_t)((uint128)ms * 1000000 * LUKS_ITERATIONS_TRY / took);
    return (uint32_t)min_u64(max_u64(n, LUKS_ITERATIONS_MIN), LUKS_ITERATIONS_MAX);
}

static void luks_text(uint8_t *field, const char *text)
{
    snprintf((char *)field, LUKS_TEXT, "%s", text);
}

static int luks_format_fields(struct qcow2_luks *l, const struct qcow2_luks_params *p,
                              uint8_t *header)
{
    static const uint8_t magic[] = { 'L', 'U', 'K', 'S', 0xba, 0xbe, 0, 1 };
    const char *hash = p->hash ? p->hash : "sha256";
    uint64_t ms = p->iter_ms ? p->iter_ms : LUKS_ITER_MS;
    uint32_t iterations = luks_iterations(l, ms / LUKS_DIGEST_SHARE);
    uint8_t id[16];
    int rc;

    memcpy(header, magic, sizeof(magic));
    luks_text(header + 8, "aes");
    luks_text(header + 40, "xts-plain64");
    luks_text(header + 72, hash);
    st_be32(header + 104, (uint32_t)(qcow2_luks_header_len(p) / LUKS_SECTOR));
    st_be32(header + 108, l->key_len);
    st_be32(header + 164, iterations);
    if (!iterations || RAND_priv_bytes(l->key, (int)l->key_len) != 1 ||
        RAND_bytes(header + 132, LUKS_SALT) != 1 || RAND_bytes(id, sizeof(id)) != 1)
        return -EIO;
    rc = luks_derive(l, l->key, l->key_len, header + 132, iterations, header + 112, LUKS_DIGEST);
    snprintf((char *)header + 168, 40,
             "%02x%02x%02x%02x-%02x%02x-4%01x%02x-a%01x%02x-%02x%02x%02x%02x%02x%02x", id[0], id[1],
             id[2], id[3], id[4], id[5], id[6] & 15, id[7], id[8] & 15, id[9], id[10], id[11],
             id[12], id[13], id[14], id[15]);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        uint8_t *slot = header + LUKS_SLOT_FIRST + (size_t)i * LUKS_SLOT;

        st_be32(slot, LUKS_INACTIVE);
        st_be32(slot + 40,
                (uint32_t)((LUKS_ALIGN + i * luks_material_len(l->key_len)) / LUKS_SECTOR));
        st_be32(slot + 44, LUKS_STRIPES);
    }
    return rc;
}

/* The first slot opens with the passphrase. */
static int luks_format_slot(const struct qcow2_luks *l, const struct qcow2_luks_params *p,
                            const char *passphrase, uint8_t *header)
{
    uint8_t *slot = header + LUKS_SLOT_FIRST, *material = header + LUKS_ALIGN;
    uint32_t iterations = luks_iterations(l, p->iter_ms ? p->iter_ms : LUKS_ITER_MS);
    uint8_t slot_key[LUKS_KEY_MAX];
    int rc = -EIO;

    st_be32(slot, LUKS_ACTIVE);
    st_be32(slot + 4, iterations);
    if (iterations && RAND_bytes(slot + 8, LUKS_SALT) == 1 && luks_split(l, material) &&
        !luks_derive(l, passphrase, strlen(passphrase), slot + 8, iterations, slot_key, l->key_len))
        rc = luks_crypt_sectors(l, slot_key, 0, material,
                                align_up((uint64_t)LUKS_STRIPES * l->key_len, LUKS_SECTOR), 1);
    OPENSSL_cleanse(slot_key, sizeof(slot_key));
    return rc;
}

int qcow2_luks_format(const struct qcow2_luks_params *p, const char *passphrase, uint8_t *header,
                      struct err *e)
{
    struct qcow2_luks l = { .key_len = luks_key_len(p) };
    int rc;

    if (!passphrase || !*passphrase)
        return err_set(e, ENOKEY,
                       "an encrypted image needs a passphrase: --key-file FILE (- for stdin)");
    l.cipher = l.key_len == 64 ? EVP_aes_256_xts() : EVP_aes_128_xts();
    l.hash = EVP_get_digestbyname(p->hash ? p->hash : "sha256");
    memset(header, 0, qcow2_luks_header_len(p));
    rc = l.hash ? luks_format_fields(&l, p, header) : -EINVAL;
    if (!rc)
        rc = luks_format_slot(&l, p, passphrase, header);
    OPENSSL_cleanse(&l, sizeof(l));
    return rc ? err_set(e, -rc, "a new key cannot be made: %s", strerror(-rc)) : 0;
}
