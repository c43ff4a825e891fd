/*
 * fuzz_symbols.c: symbol files (ELF, System.map) of any bytes. What was accepted answers for any address with a
 * name that ends and an offset that leads back.
 */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/symbols.h"

static void fuzz_symbols_ask(const struct symbols *s, uint64_t addr)
{
    uint64_t off = 0;
    const char *name = symbols_find(s, addr, &off);

    BUG_ON(name && (off > addr || !name[0]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct symbols *s = NULL;
    struct err e = { 0 };
    char path[64];
    int fd = memfd_create("symbols", MFD_CLOEXEC);

    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        return 0;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (symbols_load(&s, path, &e)) {
        BUG_ON(!e.msg[0]);
    } else {
        fuzz_symbols_ask(s, 0);
        fuzz_symbols_ask(s, ~0ull);
        for (size_t i = 0; i + 8 <= len && i < KIB; i += 8) {
            uint64_t addr;

            memcpy(&addr, data + i, sizeof(addr));
            fuzz_symbols_ask(s, addr);
        }
        symbols_destroy(s);
    }
    close(fd);
    return 0;
}
