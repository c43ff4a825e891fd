/*
 * fw_cfg.h: QEMU's firmware configuration device: named blobs from the host to firmware and kernel.
 */
#ifndef HW_FW_CFG_H
#define HW_FW_CFG_H

#include "bus/bus.h"

enum { FW_CFG_NAME_MAX = 55, FW_CFG_FILES_MAX = 64 };
enum { /* keys with a fixed meaning */
       FW_CFG_SIGNATURE = 0x00,
       FW_CFG_ID = 0x01,
       FW_CFG_UUID = 0x02,
       FW_CFG_RAM_SIZE = 0x03,
       FW_CFG_NB_CPUS = 0x05,
       FW_CFG_BOOT_MENU = 0x0e,
       FW_CFG_MAX_CPUS = 0x0f,
       FW_CFG_FILE_DIR = 0x19,
       FW_CFG_FILE_FIRST = 0x20,
};

struct fw_cfg;

/* Selector and data at base, DMA at base + 4. */
struct fw_cfg *fw_cfg_create(struct vm *vm, uint16_t base, struct err *e);
/* Before the vCPUs run; data is copied. Adding a key or name again replaces its contents. */
must_check int fw_cfg_add_key(struct fw_cfg *f, uint16_t key, const void *data, size_t len,
                              struct err *e);
must_check int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t len,
                               struct err *e);
/*
 * The file's contents depend on what the guest did before: refresh() is called whenever the guest selects
 * it, on the vCPU's thread under the device's lock, and may replace files by fw_cfg_add_file().
 */
void fw_cfg_refresh_file(struct fw_cfg *f, const char *name, void (*refresh)(void *opaque),
                         void *opaque);

#endif
