/*
 * scsi.h: numbers of SCSI (SPC-4, SBC-3, MMC-4): operation codes, status, sense. Any thread.
 */
#ifndef HW_SCSI_H
#define HW_SCSI_H

#include <stdint.h>

#include "base/endian.h"

enum { /* operation codes */
       SCSI_TEST_UNIT_READY = 0x00,
       SCSI_REQUEST_SENSE = 0x03,
       SCSI_READ6 = 0x08,
       SCSI_WRITE6 = 0x0a,
       SCSI_INQUIRY = 0x12,
       SCSI_MODE_SELECT6 = 0x15,
       SCSI_RESERVE6 = 0x16,
       SCSI_RELEASE6 = 0x17,
       SCSI_MODE_SENSE6 = 0x1a,
       SCSI_START_STOP = 0x1b,
       SCSI_SEND_DIAGNOSTIC = 0x1d,
       SCSI_PREVENT = 0x1e,
       SCSI_READ_FORMAT_CAPACITIES = 0x23,
       SCSI_READ_CAPACITY10 = 0x25,
       SCSI_READ10 = 0x28,
       SCSI_WRITE10 = 0x2a,
       SCSI_SEEK10 = 0x2b,
       SCSI_WRITE_VERIFY10 = 0x2e,
       SCSI_VERIFY10 = 0x2f,
       SCSI_SYNCHRONIZE_CACHE10 = 0x35,
       SCSI_WRITE_SAME10 = 0x41,
       SCSI_UNMAP = 0x42,
       SCSI_READ_TOC = 0x43,
       SCSI_GET_CONFIGURATION = 0x46,
       SCSI_GET_EVENT = 0x4a,
       SCSI_READ_DISC = 0x51,
       SCSI_MODE_SELECT10 = 0x55,
       SCSI_MODE_SENSE10 = 0x5a,
       SCSI_READ16 = 0x88,
       SCSI_WRITE16 = 0x8a,
       SCSI_WRITE_VERIFY16 = 0x8e,
       SCSI_VERIFY16 = 0x8f,
       SCSI_SYNCHRONIZE_CACHE16 = 0x91,
       SCSI_WRITE_SAME16 = 0x93,
       SCSI_SERVICE_ACTION_IN16 = 0x9e,
       SCSI_REPORT_LUNS = 0xa0,
       SCSI_MAINTENANCE_IN = 0xa3,
       SCSI_READ12 = 0xa8,
       SCSI_WRITE12 = 0xaa,
       SCSI_WRITE_VERIFY12 = 0xae,
       SCSI_VERIFY12 = 0xaf,
       SCSI_SET_SPEED = 0xbb,
       SCSI_MECHANISM = 0xbd,
       SCSI_READ_CD = 0xbe,
};
enum { /* status */
       SCSI_GOOD = 0x00,
       SCSI_CHECK_CONDITION = 0x02,
       SCSI_BUSY = 0x08,
       SCSI_RESERVATION_CONFLICT = 0x18,
       SCSI_TASK_ABORTED = 0x40,
};
enum { /* sense keys with their codes: key << 16 | asc << 8 | ascq */
       SENSE_NONE = 0,
       SENSE_NO_MEDIUM = 0x023a01,
       SENSE_TRAY_OPEN = 0x023a02,
       SENSE_WRITE_ERROR = 0x030c00,
       SENSE_READ_ERROR = 0x031100,
       SENSE_BAD_COMMAND = 0x052000,
       SENSE_BAD_ADDRESS = 0x052100,
       SENSE_BAD_FIELD = 0x052400,
       SENSE_BAD_LUN = 0x052500,
       SENSE_BAD_PARAMETER = 0x052600,
       SENSE_NOT_SAVED = 0x053900,
       SENSE_LOCKED = 0x055302,
       SENSE_CHANGED = 0x062800,
       SENSE_POWER_ON = 0x062900,
       SENSE_PROTECTED = 0x072700,
       SENSE_NO_SPACE = 0x072707,
};
enum { SCSI_CDB_MAX = 16 };

static inline uint8_t scsi_sense_key(uint32_t sense)
{
    return (uint8_t)(sense >> 16);
}

/* The big-endian field of 1, 2 or 4 bytes at p, which may stand anywhere in a CDB. */
static inline uint32_t scsi_be(const uint8_t *p, unsigned len)
{
    if (len == 1)
        return *p;
    return len == 2 ? ld_be16(p) : ld_be32(p);
}

#endif
