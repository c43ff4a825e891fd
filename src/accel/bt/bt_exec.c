/*
 * bt_exec.c: two mappings of shared anonymous memory. Not of a memfd: hosts forbid executable ones
 * (vm.memfd_noexec), and perf looks for names of generated code in anonymous memory only.
 */
#include "accel/bt/bt_exec.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

int bt_exec_map(size_t len, uint8_t **w, const uint8_t **x, struct err *e)
{
    void *write, *execute = MAP_FAILED;
    int error;

    *w = NULL;
    *x = NULL;
    write =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (write == MAP_FAILED)
        goto fail;
    execute = mremap(write, 0, len, MREMAP_MAYMOVE); /* of shared memory, this maps it once more */
    if (execute == MAP_FAILED || mprotect(execute, len, PROT_READ | PROT_EXEC))
        goto fail;
    *w = write;
    *x = execute;
    return 0;

fail:
    error = errno;
    bt_exec_unmap(len, write == MAP_FAILED ? NULL : write, execute == MAP_FAILED ? NULL : execute);
    return err_set(e, error,
                   "no executable memory for the accelerator bt: %s (is it forbidden by a security "
                   "policy?)",
                   strerror(error));
}

void bt_exec_unmap(size_t len, uint8_t *w, const uint8_t *x)
{
    if (w)
        munmap(w, len);
    if (x)
        munmap((void *)(uintptr_t)x, len);
}
