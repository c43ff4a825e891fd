/*
 * machine_pc_uefi.c: hears from UEFI firmware that nothing can be booted. A release build of OVMF says nothing at the
 * debug port; its boot manager (EDK II, MdeModulePkg/Universal/BdsDxe) writes to its consoles, of which the serial port
 * is one.
 */
#include "vm/machine_pc_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "chardev/chardev.h"

/* What it comes to after all else: its own shell, or where it is built without one, the end. */
static bool pc_uefi_is_hopeless(const char *line)
{
    const char *said = strstr(line, "BdsDxe: ");

    if (!said)
        return false;
    return strstr(said, "No bootable option") ||
           (strstr(said, "starting Boot") && strstr(said, "\"EFI Internal Shell\""));
}

static void pc_uefi_line(struct pc_uefi *u)
{
    u->line[u->len] = '\0';
    if (pc_uefi_is_hopeless(u->line))
        log_limited(
            &u->limit, LOG_WARN, "firmware",
            "no bootable device: UEFI has tried all that --boot order= lets it try, and no disk "
            "has a system for UEFI on it (--firmware bios boots one for a BIOS)");
    u->len = 0;
}

/* The guest's bytes, also those of the system that it boots. */
static void pc_uefi_heard(void *opaque, const uint8_t *bytes, size_t len)
{
    struct pc_uefi *u = opaque;

    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == '\n')
            pc_uefi_line(u);
        else if (bytes[i] >= ' ' && bytes[i] < 0x7f && u->len < sizeof(u->line) - 1)
            u->line[u->len++] = (char)bytes[i];
    }
}

void pc_listen_to_uefi(struct machine *m)
{
    chardev_listen(m->serial, pc_uefi_heard, &m->uefi);
}
