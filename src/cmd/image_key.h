/*
 * image_key.h: passphrases of encrypted images: from a file or from the terminal, never from the command line.
 * Single thread, blocking.
 */
#ifndef CMD_IMAGE_KEY_H
#define CMD_IMAGE_KEY_H

#include <stdbool.h>

#include "base/err.h"
#include "base/util.h"

enum { IMAGE_KEY_MAX = 1024 };
struct image_key {
    bool known;
    char text[IMAGE_KEY_MAX]; /* to be wiped by image_key_forget() */
};

/* The content of a file ("-": stdin) without the newline at its end. 0 or -errno with a sentence. */
must_check int image_key_read(struct image_key *k, const char *path, struct err *e);
/* Asks on the terminal, without echo; twice: for a new one. False: there is no terminal, or nothing was said. */
bool image_key_ask(struct image_key *k, const char *image, bool twice);
void image_key_forget(struct image_key *k);

#endif
