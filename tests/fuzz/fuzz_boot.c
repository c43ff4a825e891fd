/*
 * A kernel file of any bytes: it is loaded or refused, and nothing outside of guest memory is touched.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/boot.h"
#include "fuzz.h"

enum { RAM = 32 * MIB };

static void fuzz_boot(const char *path, struct ram_region *ram)
{
    static struct x86_state s;
    struct physmap mem = { 0 };
    struct boot_params p = {
        .kernel = path, .initrd = path, .append = "x", .mem = &mem, .initrd_max = RAM, .n_e820 = 2
    };
    struct err e = { 0 };

    p.e820[0] = (struct boot_e820){ 0, 0x9fc00, E820_RAM };
    p.e820[1] = (struct boot_e820){ MIB, RAM - MIB, E820_RAM };
    BUG_ON(physmap_add(&mem, ram));
    x86_state_reset(&s, 0, true);
    BUG_ON(boot_kernel(&p, &s, &e) && !e.msg[0]);
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
    struct ram_region ram;
    char path[32];
    int fd = memfd_create("kernel", MFD_CLOEXEC);

    BUG_ON(fd < 0 || util_write_all(fd, data, len));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (!ram_alloc(&ram, "low", 0, RAM, NULL)) {
        fuzz_boot(path, &ram);
        ram_free(&ram);
    }
    close(fd);
    return 0;
}
