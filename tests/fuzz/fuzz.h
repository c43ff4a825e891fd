/*
 * fuzz.h: what the fuzz targets share: a cursor over the input, which yields zeros past its end, and a
 * process that can reach no network. Single thread.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <string.h>

#include "base/endian.h"
#include "base/util.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct fuzz_input {
    const uint8_t *p;
    size_t len;
};

static inline void fuzz_bytes(struct fuzz_input *in, void *to, size_t len)
{
    size_t n = (size_t)min_u64(len, in->len);

    memset(to, 0, len);
    if (!n)
        return;
    memcpy(to, in->p, n);
    in->p += n;
    in->len -= n;
}

static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
    uint8_t v;

    fuzz_bytes(in, &v, sizeof(v));
    return v;
}

static inline uint16_t fuzz_u16(struct fuzz_input *in)
{
    uint8_t b[2];

    fuzz_bytes(in, b, sizeof(b));
    return ld_le16(b);
}

static inline uint32_t fuzz_u32(struct fuzz_input *in)
{
    uint8_t b[4];

    fuzz_bytes(in, b, sizeof(b));
    return ld_le32(b);
}

static inline uint64_t fuzz_u64(struct fuzz_input *in)
{
    uint8_t b[8];

    fuzz_bytes(in, b, sizeof(b));
    return ld_le64(b);
}

/*
 * From now on this process connects to nobody and sends nothing: the user network would carry what the
 * fuzzer makes up into the world. The log is turned off. Once, at the start.
 */
void fuzz_confine(void);

/*
 * A fault outside of guest code that bt's handler would leave to the default action goes to the
 * fuzzer's handler, which keeps the input. Call fuzz_signals_save() before the first bt processor
 * exists and fuzz_signals_chain() after.
 */
void fuzz_signals_save(void);
void fuzz_signals_chain(void);

#endif
