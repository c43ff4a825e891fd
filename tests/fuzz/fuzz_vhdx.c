/*
 * A VHDX image of any bytes (fuzz_disk.h), with headers, a region table and log entries whose checksums are
 * right.
 */
#include <unistd.h>

#include "block/vhdx_format.h"
#include "fuzz_disk.h"

enum { FUZZ_LOG_ENTRIES = 4, FUZZ_LOG_ENTRY_MAX = 64 * KIB };

static void fuzz_vhdx_sum(uint8_t *p, size_t n, size_t at)
{
    st_le32(p + at, vhdx_checksum(p, n, at));
}

static void fuzz_vhdx_log(int fd)
{
    uint8_t h[VHDX_LOG_HEADER], header[VHDX_HEADER_SIZE];
    uint64_t at;

    if (pread(fd, header, sizeof(header), VHDX_HEADER1) != (ssize_t)sizeof(header))
        return;
    at = ld_le64(header + VHDX_HEADER_LOG_OFFSET);
    for (unsigned i = 0; i < FUZZ_LOG_ENTRIES && at < INT32_MAX; i++) {
        uint32_t len;

        if (pread(fd, h, sizeof(h), (off_t)at) != (ssize_t)sizeof(h))
            return;
        len = ld_le32(h + VHDX_LOG_LENGTH);
        if (len < sizeof(h) || len > FUZZ_LOG_ENTRY_MAX)
            return;
        fuzz_disk_sum(fd, at, len, VHDX_LOG_CHECKSUM, fuzz_vhdx_sum);
        at += len;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_confine();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    int fd = fuzz_disk_file(data, len);

    fuzz_disk_sum(fd, VHDX_HEADER1, VHDX_HEADER_SIZE, VHDX_HEADER_CHECKSUM, fuzz_vhdx_sum);
    fuzz_disk_sum(fd, VHDX_HEADER2, VHDX_HEADER_SIZE, VHDX_HEADER_CHECKSUM, fuzz_vhdx_sum);
    fuzz_disk_sum(fd, VHDX_REGIONS1, VHDX_REGIONS_SIZE, 4, fuzz_vhdx_sum);
    fuzz_vhdx_log(fd);
    fuzz_disk_use(fd, "vhdx");
    return 0;
}
