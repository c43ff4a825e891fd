/*
 * vnc_auth.c: VNC authentication (RFC 6143, 7.2.2): weak by design; it keeps passers-by out, not listeners.
 */
#include <openssl/evp.h>
#include <string.h>

#include "display/vnc_priv.h"

enum { DES_BLOCK = 8, KEYS = 3 };

/* The protocol numbers a key's bits from the other end. */
static uint8_t vnc_reverse(uint8_t byte)
{
    uint8_t val = 0;

    for (unsigned i = 0; i < 8; i++)
        val = (uint8_t)(val | (byte >> i & 1) << (7 - i));
    return val;
}

/* Single DES is gone from OpenSSL's default provider; triple DES with three equal keys is the same. */
bool vnc_auth_response(const char *password, const uint8_t challenge[VNC_CHALLENGE],
                       uint8_t response[VNC_CHALLENGE])
{
    uint8_t key[KEYS * DES_BLOCK] = { 0 };
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len = 0;
    bool ok;

    for (unsigned i = 0; i < sizeof(key); i++)
        if (i % DES_BLOCK < strlen(password))
            key[i] = vnc_reverse((uint8_t)password[i % DES_BLOCK]);
    ok = ctx && EVP_EncryptInit_ex(ctx, EVP_des_ede3_ecb(), NULL, key, NULL) == 1 &&
         EVP_CIPHER_CTX_set_padding(ctx, 0) == 1 &&
         EVP_EncryptUpdate(ctx, response, &len, challenge, VNC_CHALLENGE) == 1 &&
         len == VNC_CHALLENGE;
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}
