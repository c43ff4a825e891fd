/*
 * seed.h: what a cloud image is told at its first start (cloud-init's datasource NoCloud): a volume named cidata
 * with meta-data and user-data. No state, any thread.
 */
#ifndef IMAGE_SEED_H
#define IMAGE_SEED_H

#include "base/err.h"

struct seed_opts {
    const char *name;      /* of the VM: the same instance at its next start */
    const char *hostname;  /* NULL: name */
    const char *user;      /* one who may use sudo; NULL: the image's own default */
    const char *ssh_keys;  /* public keys, a line each; NULL: none */
    const char *password;  /* of the user; NULL: none */
    const char *user_data; /* instead of all but the host name; NULL: made of the rest */
};

/* The volume: malloc'd, *len bytes; NULL with a sentence. */
uint8_t *seed_make(const struct seed_opts *o, size_t *len, struct err *e);

#endif
