/*
 * image.h: what the files of `ruche image` share. Single thread: the loop only runs inside of requests.
 */
#ifndef CMD_IMAGE_H
#define CMD_IMAGE_H

#include <jansson.h>

#include "block/block.h"
#include "cmd/image_args.h"
#include "cmd/image_key.h"

/* The disks that a command has open. */
enum { IMAGE_SESSION_DISKS = 64 };
struct image_session {
    struct loop *loop;
    struct blk *disk[IMAGE_SESSION_DISKS];
    unsigned n_disks;
    struct image_key key, target_key; /* of encrypted images */
};
/* Does the command's work; the exit status. A sentence in *e is printed, and makes 0 a failure. */
typedef int (*image_function)(const struct image_args *a, struct image_session *s, struct err *e);
/* The frame of a subcommand: reads the options and runs it with a session, which is closed afterwards. */
int image_run(enum image_command command, int argc, char **argv, int min, int max,
              image_function run);
/*
 * Opens a disk with the session's loop, and its passphrase unless o has one; the session closes it. NULL with a
 * sentence.
 */
struct blk *image_session_disk(struct image_session *s, const struct blk_opts *o, struct err *e);

/*
 * Copies the dirty bitmaps of an image to another of the same size, open for writing. broken: those that are
 * inconsistent are left out. 0 or -errno with a sentence.
 */
must_check int image_bitmaps_copy(struct blk *from, struct blk *to, bool broken, struct err *e);
/* The passphrase for a new image, or for a second one: its own if there is one. NULL: none. */
const char *image_session_target_key(const struct image_session *s);
/* The same for a new image at path if its format (or NULL) or its options ask for encryption. -ENOKEY with a sentence if there is none. */
must_check int image_session_new_key(struct image_session *s, const char *path, const char *format,
                                     const char *const *options, const char **key, struct err *e);
/* The snapshot that -l means: qemu-img's long form is taken too. */
const char *image_snapshot_name(const char *text);
/* Do both names mean one file? */
bool image_same_file(const char *a, const char *b);
/* Prints and frees it; the exit status. NULL: out of memory. */
int image_print_json(json_t *json);
/* "1.5 GiB" */
void image_human_size(uint64_t bytes, char *text, size_t len);
/* -o NAME=VALUE,... and what stands for such options, as image_split_options(). */
const char **image_new_options(const struct image_args *a);
/* "a=1,b=2" as "a=1", "b=2", NULL (",," is a comma); one block to be freed. NULL: no memory, or text is NULL. */
const char **image_split_options(const char *text);
/* qemu-img's table of snapshots (blk_info.snapshots); nothing if there are none. */
void image_print_snapshots(const json_t *list);

#endif
