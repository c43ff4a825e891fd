/*
 * foreign.h: what the formats share that are only read (image/out.h writes new ones): VDI, VHD, VHDX, VMDK. A
 * format checks the image and loads its tables when it is opened, within bounds that the size of the file sets,
 * and from then on only says where a byte of the disk is (map()); foreign_io.c fetches it.
 *
 * Threads: as block.h says. The tables do not change after open(), so map() runs on any thread.
 */
#ifndef BLOCK_FOREIGN_H
#define BLOCK_FOREIGN_H

#include "block/block.h"

enum {
    FOREIGN_MAX_FILES = 1024,       /* a split image of 2 TiB */
    FOREIGN_MAX_UNIT = 2 * MIB,     /* of what is compressed in one piece */
    FOREIGN_MAX_TABLES = 512 * MIB, /* what an open image may take of our memory */
    FOREIGN_MAX_TEXT = 256 * KIB,   /* a description in words */
};

enum foreign_kind {
    FOREIGN_ZERO,   /* reads as zeros */
    FOREIGN_DATA,   /* bytes of a file, as they are */
    FOREIGN_PACKED, /* part of a compressed unit */
    FOREIGN_PARENT, /* not in this image: the backing disk's, zeros without one */
};

struct foreign_extent {
    enum foreign_kind kind;
    uint64_t len;      /* for so many bytes from the asked offset on, at least 1 */
    unsigned file;     /* DATA, PACKED: index in foreign.file */
    uint64_t host_off; /* DATA: of the asked byte; PACKED: of the compressed unit */
    uint64_t host_len; /* PACKED: at most so many bytes are needed from there */
    uint64_t skip;     /* PACKED: the asked byte in the unpacked unit */
};

struct foreign {
    const char *path;  /* for sentences */
    struct blk **file; /* the files with the data; the child alone unless there are several */
    unsigned n_files;
    uint64_t size;       /* of the disk */
    uint32_t unit;       /* allocation unit in bytes; 0: none */
    bool packed;         /* map() may say FOREIGN_PACKED */
    const char *variant; /* of the format, in qemu-img's words; static */
    char *backing;       /* what the image says its parent is, or NULL */
    const char *backing_format;
    struct loop *loop;
    bool fixed;            /* no other file than the child may be opened */
    bool alone;            /* the parent is not asked for and need not be found */
    void *priv;            /* the format's */
    struct foreign_io *io; /* foreign.c's */
};

struct foreign_format {
    struct blk_ops blk;
    /* f->file[0] is open. Fills in the rest; if it fails, close() is called all the same. */
    int (*open)(struct foreign *f, struct err *e);
    /* Is that open image of the same format the parent that is meant? Optional. */
    int (*parent)(const struct foreign *f, const struct foreign *parent, struct err *e);
    void (*close)(struct foreign *f); /* frees priv, which may be NULL */
    /* What is at off, inside the disk; x->len may be less or more than len. */
    void (*map)(const struct foreign *f, uint64_t off, uint64_t len, struct foreign_extent *x);
    /* Unpacks in[0..n) into out, f->unit bytes. Any thread. 0 or -EIO. Only with f->packed. */
    int (*unpack)(const struct foreign *f, const struct foreign_extent *x, const void *in, size_t n,
                  void *out);
};
extern const struct foreign_format vdi_format, vhd_format, vhdx_format, vmdk_format;

/* For open(): exactly len bytes of a file, or a sentence. */
must_check int foreign_pread(const struct foreign *f, unsigned file, uint64_t off, void *buf,
                             size_t len, struct err *e);
/* A buffer with len bytes of a file; NULL with a sentence, also if that is more than may be had. */
void *foreign_load(const struct foreign *f, unsigned file, uint64_t off, uint64_t len,
                   const char *what, struct err *e);
/* Opens one more file beside the image; it becomes the last of f->file. */
must_check int foreign_add_file(struct foreign *f, const char *name, struct err *e);
/* Returns -EINVAL with "disk 'path' is damaged: what". */
int foreign_bad(const struct foreign *f, struct err *e, const char *fmt, ...) printf_like(3, 4);
/* Returns -ENOTSUP with "disk 'path' ...". */
int foreign_unsupported(const struct foreign *f, struct err *e, const char *fmt, ...)
    printf_like(3, 4);

/* foreign_name.c */
/* UTF-16 of either byte order as UTF-8; NULL if it is empty or no memory is left. */
char *foreign_utf16(const uint8_t *p, size_t units, bool big);
/* In place, slashes for backslashes. Of an absolute path, which is another machine's, the file's name alone. */
void foreign_windows_path(char *name);

/* For the formats' struct blk_ops. */
int foreign_open(struct blk *b, const struct blk_opts *o, struct err *e);
void foreign_close(struct blk *b);
void foreign_submit(struct blk *b, struct blk_req *r);
void foreign_wait(struct blk *b);
int foreign_status(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *x);
int foreign_unpack(struct blk *b, const struct blk_extent *x, const void *in, void *out);
void foreign_info(struct blk *b, struct blk_info *i);
int foreign_check(struct blk *b, unsigned fix, struct blk_check *c, struct err *e);
#define FOREIGN_BLK(name)                                                                          \
    {                                                                                              \
        .format = #name, .probe = name##_probe, .open = foreign_open, .close = foreign_close,      \
        .submit = foreign_submit, .wait = foreign_wait, .status = foreign_status,                  \
        .unpack = foreign_unpack, .info = foreign_info, .check = foreign_check                     \
    }

/* foreign_io.c: requests of an open image. */
must_check int foreign_io_create(struct blk *b, struct foreign *f, struct err *e);
void foreign_io_destroy(struct foreign *f);
/* The extent at off, joined with the ones behind it as far as they go on, at most len. */
void foreign_map(const struct blk *b, uint64_t off, uint64_t len, struct foreign_extent *x);

#endif
