/*
 * run_image.h: what `ruche run NAME` adds to the options: the disk of that VM, made of an image. Single thread.
 */
#ifndef CMD_RUN_IMAGE_H
#define CMD_RUN_IMAGE_H

#include "cmd/options.h"

/*
 * Finds or makes the VM's disk and puts it before the others; nothing is made for a dry run. Nothing to do if
 * no image was named. 0 or -errno with a sentence.
 */
must_check int run_image_prepare(struct options *o, struct err *e);

#endif
