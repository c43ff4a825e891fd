/*
 * A VHD image of any bytes (fuzz_disk.h), with footers whose checksums are right.
 */
#include <unistd.h>

#include "block/vhd_format.h"
#include "fuzz_disk.h"

static void fuzz_vhd_sum(uint8_t *p, size_t n, size_t at)
{
    st_be32(p + at, vhd_checksum(p, n, at));
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
    off_t size = lseek(fd, 0, SEEK_END);

    fuzz_disk_sum(fd, 0, VHD_FOOTER, VHD_CHECKSUM, fuzz_vhd_sum);
    fuzz_disk_sum(fd, (uint64_t)size - VHD_FOOTER, VHD_FOOTER, VHD_CHECKSUM, fuzz_vhd_sum);
    fuzz_disk_use(fd, "vhd");
    return 0;
}
