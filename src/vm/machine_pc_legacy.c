/*
 * machine_pc_legacy.c: what the `pc` machine has from the first PCs: DMA controllers; and a parallel port and
 * floppies, if somebody wants them.
 */
#include "vm/machine_pc_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hw/fdc.h"
#include "hw/mc146818.h"
#include "hw/parport.h"

int pc_create_dma(struct machine *m, struct err *e)
{
    static const struct i8237_at at = { PC_DMA_LOW, PC_DMA_HIGH, PC_DMA_PAGE };

    m->dma = i8237_create(m->vm, &at, e);
    return m->dma ? 0 : -e->code;
}

int pc_create_parallel(struct machine *m, struct err *e)
{
    const char *where = m->vm->cfg->parallel;

    if (!where || !strcmp(where, "none"))
        return 0;
    m->parallel = pc_open_stream(m, "parallel port", where, e);
    if (!m->parallel)
        return -e->code;
    return parport_create(m->vm, PC_LPT1, pc_isa_irq(m, PC_IRQ_LPT1), m->parallel, e) ? 0
                                                                                      : -e->code;
}

/* --- floppies --- */

/* What firmware and others read: the types of both drives; how many there are. */
static void pc_floppy_cmos(struct machine *m, struct blk *const disk[FDC_DRIVES])
{
    uint8_t equipment = PC_EQUIPMENT_FPU | PC_EQUIPMENT_MOUSE;

    if (disk[0])
        equipment |= (uint8_t)(PC_EQUIPMENT_FLOPPY | (disk[1] ? PC_EQUIPMENT_FLOPPY2 : 0));
    mc146818_set_cmos(m->rtc, PC_CMOS_FLOPPY,
                      (uint8_t)(fdc_cmos_type(disk[0]) << 4 | fdc_cmos_type(disk[1])));
    mc146818_set_cmos(m->rtc, PC_CMOS_EQUIPMENT, equipment);
}

static int pc_open_floppy(struct machine *m, unsigned index, unsigned n, struct blk **disk,
                          struct err *e)
{
    *disk = pc_open_disk(m, index, e);
    if (!*disk)
        return -e->code;
    snprintf(m->disk_path[index], sizeof(m->disk_path[index]), PC_FLOPPY_PATH "%x", n);
    if ((*disk)->size > FDC_IMAGE_MAX)
        return err_set(e, EFBIG,
                       "floppy %s has %llu bytes, and the largest floppy has %u: is it meant for "
                       "--disk or --cdrom?",
                       m->vm->cfg->disk[index].path, (unsigned long long)(*disk)->size,
                       FDC_IMAGE_MAX);
    return 0;
}

int pc_create_floppies(struct machine *m, struct err *e)
{
    const struct fdc_at at = { PC_FDC, pc_isa_irq(m, PC_IRQ_FDC), m->dma, PC_DMA_FDC };
    struct blk *disk[FDC_DRIVES] = { 0 };
    unsigned n = 0;
    int rc = 0;

    for (unsigned i = 0; !rc && i < m->vm->cfg->n_disks; i++)
        if (config_disk_bus(&m->vm->cfg->disk[i]) == CONFIG_BUS_FLOPPY) {
            rc = pc_open_floppy(m, i, n, &disk[n], e);
            n++; /* the configuration has at most two */
        }
    pc_floppy_cmos(m, disk);
    if (!rc && n && !fdc_create(m->vm, &at, disk, e))
        rc = -e->code;
    for (unsigned i = 0; rc && i < FDC_DRIVES; i++)
        blk_close(disk[i]);
    return rc;
}
