/*
 * image_store.h: what the commands on kept images share. Single thread.
 */
#ifndef CMD_IMAGE_STORE_H
#define CMD_IMAGE_STORE_H

#include "cmd/image_args.h"
#include "image/store.h"

/* Notes the checksum of the new image's disk and the date, and commits it. */
must_check int image_store_seal(struct store_entry *s, struct err *e);
/* `ruche image build WHAT` without options; image_build.c's. */
must_check int image_build_default(const char *what, struct err *e);

#endif
