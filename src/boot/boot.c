#include "boot/boot.h"

#include <errno.h>
#include <string.h>

#include "boot/linux.h"
#include "boot/multiboot.h"
#include "boot/pvh.h"

/* No kernel comes near it; a file given by mistake may well. */
#define BOOT_KERNEL_MAX GIB

static int boot_read(const struct boot_params *p, uint8_t **data, uint64_t *len, struct err *e)
{
    struct boot_file f;
    int ret = boot_file_open(&f, p->kernel, "kernel", e);

    if (ret)
        return ret;
    *len = f.len;
    *data = NULL;
    if (f.len > BOOT_KERNEL_MAX)
        ret =
            err_set(e, EFBIG, "the kernel '%s' is %llu MiB long: that is no kernel (a disk image?)",
                    p->kernel, (unsigned long long)(f.len / MIB));
    else if (!(*data = malloc(f.len)))
        ret = err_set(e, ENOMEM, "the kernel '%s' does not fit into this host's memory", p->kernel);
    else
        ret = boot_file_read(&f, 0, *data, f.len, e);
    boot_file_close(&f);
    if (ret)
        free(*data);
    return ret;
}

static int boot_elf(const struct boot_params *p, const uint8_t *data, uint64_t len,
                    struct x86_state *s, struct err *e)
{
    struct elf_image elf;
    uint64_t entry;
    int ret = elf_parse(&elf, data, len, p, e);

    if (ret)
        return ret;
    if (pvh_is(&elf, &entry))
        return pvh_boot(p, &elf, entry, s, e);
    if (elf.is64)
        return linux_boot_vmlinux(p, &elf, s, e);
    return err_set(e, ENOTSUP,
                   "the kernel '%s' is a 32-bit ELF file with neither a multiboot header nor a PVH "
                   "note: there is no known way to start it",
                   p->kernel);
}

static int boot_unknown(const struct boot_params *p, const uint8_t *data, uint64_t len,
                        struct err *e)
{
    uint8_t head[4] = { 0 };

    if (data)
        memcpy(head, data, min_u64(len, sizeof(head)));
    if (head[0] == 'M' && head[1] == 'Z')
        return err_set(
            e, ENOTSUP,
            "the kernel '%s' is an EFI program without a Linux boot header (a unified kernel "
            "image?): give the kernel and the initrd inside it separately",
            p->kernel);
    return err_set(e, ENOTSUP,
                   "the kernel '%s' is neither a Linux bzImage, nor an ELF kernel, nor a multiboot "
                   "kernel: check the file (first bytes %02x %02x %02x %02x)",
                   p->kernel, head[0], head[1], head[2], head[3]);
}

int boot_kernel(const struct boot_params *params, struct x86_state *s, struct err *e)
{
    struct boot_place place;
    struct boot_params with_place = *params;
    const struct boot_params *p = &with_place;
    uint64_t len, at;
    uint8_t *data;
    int ret;

    BUG_ON(p->n_e820 > BOOT_E820_MAX);
    with_place.place = &place;
    ret = boot_place_init(p, e);
    if (!ret)
        ret = boot_read(p, &data, &len, e);
    if (ret)
        return ret;
    /* Multiboot before PVH: what has both headers (Xen) is meant for boot loaders first. */
    if (linux_is_bzimage(data, len))
        ret = linux_boot_bzimage(p, data, len, s, e);
    else if (multiboot_find(data, len, &at))
        ret = multiboot_boot(p, data, len, at, s, e);
    else if (elf_is(data, len))
        ret = boot_elf(p, data, len, s, e);
    else
        ret = boot_unknown(p, data, len, e);
    free(data);
    return ret;
}
