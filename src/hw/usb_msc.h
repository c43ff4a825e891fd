/*
 * usb_msc.h: a USB stick or CD-ROM drive: SCSI over the bulk-only transport (USB Mass Storage Class,
 * Bulk-Only Transport 1.0).
 */
#ifndef HW_USB_MSC_H
#define HW_USB_MSC_H

#include "hw/scsi_disk.h"
#include "hw/usb.h"

/*
 * To be plugged into a controller, which owns it then, and it the disk; NULL with a sentence, and the disk stays
 * the caller's. speed: USB_FULL, USB_HIGH or USB_SUPER. serial: NULL: one by index.
 */
struct usb_dev *usb_msc_create(struct blk *disk, bool cdrom, const char *serial, unsigned index,
                               enum usb_speed speed, struct err *e);

#endif
