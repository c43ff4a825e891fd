/*
 * A VDI image of any bytes (fuzz_disk.h).
 */
#include "fuzz_disk.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_confine();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    fuzz_disk_use(fuzz_disk_file(data, len), "vdi");
    return 0;
}
