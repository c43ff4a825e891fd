/*
 * store.h: the user's images and the disks of their VMs: $XDG_DATA_HOME/ruche (~/.local/share/ruche), for root
 * /var/lib/ruche, or $RUCHE_DATA_DIR. Each is a folder; what is not whole yet has a name with a dot in front.
 *
 *   images/NAME/disk.FORMAT   read-only
 *   images/NAME/image.json    format, sha256, source and what else is known of it
 *   images/NAME/vmlinuz, initrd.img   of those that can be booted directly
 *   vms/NAME/disk.qcow2       overlay of an image, with what the VM has written
 *   vms/NAME/vm.json          which image
 *   vms/NAME/uefi.vars        its UEFI variables, if it boots by UEFI
 *   uefi/NAME.vars            those of VMs that have only a name
 *
 * Single thread.
 */
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

#include <jansson.h>
#include <limits.h>

#include "base/err.h"

enum { STORE_NAME_MAX = 64, STORE_SHA256_LEN = 64 };
enum store_kind { STORE_IMAGES, STORE_VMS };

struct store_entry {
    char name[STORE_NAME_MAX + 1];
    char dir[PATH_MAX];
    json_t *meta; /* of image.json or vm.json: an object */
};

/* 1 to 64 letters, digits and . _ - : with none of . and - in front. */
bool store_name_ok(const char *name);

/* 0 (store_close() is due); -ENOENT: there is none; another error with its sentence. */
must_check int store_open(struct store_entry *s, enum store_kind kind, const char *name,
                          struct err *e);
void store_close(struct store_entry *s);
/* A file in its folder. */
void store_file(const struct store_entry *s, const char *file, char *path, size_t len);
/* The file of its disk: "disk" in its meta. */
void store_disk(const struct store_entry *s, char *path, size_t len);

/*
 * A new entry is filled in in a folder of its own (s->dir) and gets its name in store_commit(), with its meta;
 * store_abort() removes it. -EEXIST with a sentence if the name is there already.
 */
must_check int store_begin(struct store_entry *s, enum store_kind kind, const char *name,
                           struct err *e);
must_check int store_commit(struct store_entry *s, enum store_kind kind, struct err *e);
void store_abort(struct store_entry *s);
/* -ENOENT: there is none. */
must_check int store_remove(enum store_kind kind, const char *name, struct err *e);

/*
 * The file of the UEFI variables of a VM that has a name and no folder here; its own folder is made if make. 0 or -errno
 * with a sentence.
 */
must_check int store_uefi_vars(const char *name, bool make, char *path, size_t len, struct err *e);

/* The names there are, sorted; store_names_free() is due if it returns 0. -errno. */
struct store_names {
    char **name;
    size_t n;
};
must_check int store_list(enum store_kind kind, struct store_names *l);
void store_names_free(struct store_names *l);

/* Of a file's content, in hexadecimal. */
must_check int store_sha256(const char *path, char hex[STORE_SHA256_LEN + 1], struct err *e);
/* A copy that shares its blocks where the file system can, and its holes everywhere. */
must_check int store_copy(const char *from, const char *to, struct err *e);

#endif
