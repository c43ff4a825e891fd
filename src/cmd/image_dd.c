/*
 * image_dd.c: `ruche image dd`: a piece of a disk, in the words of dd.
 */
#include <errno.h>
#include <string.h>

#include "cmd/image.h"
#include "image/copy.h"

enum { DD_WORKERS = 8, DD_SPARSE = 4 * KIB };

struct dd {
    const char *in, *out;
    uint64_t bs, count, skip; /* count, skip: blocks */
    bool counted;
};

static int dd_number(const char *word, const char *value, uint64_t *n, struct err *e)
{
    return util_parse_size(value, n) ? err_set(e, EINVAL, "%s: no number is '%s'", word, value) : 0;
}

/* "if=FILE" and so on. */
static int dd_word(struct dd *d, const char *word, struct err *e)
{
    const char *value = strchr(word, '=');
    size_t n = value ? (size_t)(value++ - word) : 0;

    if (n == 2 && !strncmp(word, "if", n))
        d->in = value;
    else if (n == 2 && !strncmp(word, "of", n))
        d->out = value;
    else if (n == 2 && !strncmp(word, "bs", n))
        return dd_number(word, value, &d->bs, e);
    else if (n == 4 && !strncmp(word, "skip", n))
        return dd_number(word, value, &d->skip, e);
    else if (n == 5 && !strncmp(word, "count", n)) {
        d->counted = true;
        return dd_number(word, value, &d->count, e);
    } else
        return err_set(e, EINVAL, "'%s': dd takes if=, of=, bs=, count= and skip=", word);
    return 0;
}

static int dd_parse(const struct image_args *a, struct dd *d, struct err *e)
{
    int rc = 0;

    *d = (struct dd){ .bs = BLK_SECTOR };
    for (int i = 0; !rc && i < a->n_operands; i++)
        rc = dd_word(d, a->operands[i], e);
    if (!rc && (!d->in || !d->out))
        rc = err_set(e, EINVAL, "from where to where? if=FILE of=FILE");
    if (!rc && (!d->bs || d->bs > INT32_MAX))
        rc = err_set(e, EINVAL, "bs= is from 1 to 2G");
    return rc;
}

/* What of the disk is wanted, in bytes. */
static int dd_range(const struct dd *d, uint64_t size, struct copy_opts *c, struct err *e)
{
    uint64_t length;

    if (ckd_mul(&c->skip, d->skip, d->bs) || c->skip > size)
        return err_set(e, EINVAL, "'%s' has only %llu bytes: skip= is behind its end", d->in,
                       (unsigned long long)size);
    c->length = size - c->skip;
    if (d->counted && !ckd_mul(&length, d->count, d->bs))
        c->length = min_u64(c->length, length);
    if ((c->skip | c->length) % BLK_SECTOR)
        return err_set(e, EINVAL,
                       "a piece of a disk begins and ends at a sector of %d bytes: bs=%d",
                       (int)BLK_SECTOR, (int)BLK_SECTOR);
    return 0;
}

static int image_dd(const struct image_args *a, struct image_session *s, struct err *e)
{
    struct out_opts t = { .format = a->out_format ? a->out_format : "raw", .sparse = DD_SPARSE };
    struct copy_opts c = { .loop = s->loop, .workers = DD_WORKERS, .sparse = true };
    struct blk_opts o = { .format = a->format, .readonly = true, .share = a->share };
    struct copy_result result;
    struct dd d;
    struct blk *b;
    struct out *out;

    if (dd_parse(a, &d, e))
        return CMD_USAGE;
    o.path = d.in;
    b = image_session_disk(s, &o, e);
    if (!b || dd_range(&d, b->size, &c, e))
        return 0;
    t.path = d.out;
    t.size = c.length;
    t.passphrase = image_session_target_key(s);
    out = out_open(&t, s->loop, e);
    if (out && !copy_disks(s->disk, 1, out, &c, &result, e) && !out_finish(out, e) && !a->quiet)
        fprintf(stderr, "%llu bytes copied\n", (unsigned long long)c.length);
    out_close(out);
    return 0;
}

int cmd_image_dd(int argc, char **argv)
{
    return image_run(IMAGE_DD, argc, argv, 2, 5, image_dd);
}
