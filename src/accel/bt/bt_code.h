/*
 * bt_code.h: which guest memory holds decoded code: shared by the vCPUs of a VM. Any thread; the model is
 * described in bt_block.h. bt_code_written() and bt_code_recheck() are in bt.h.
 */
#ifndef ACCEL_BT_BT_CODE_H
#define ACCEL_BT_BT_CODE_H

#include "accel/bt/bt_block.h"
#include "accel/bt/bt_perf.h"

/* NULL if the VM runs under another accelerator (the interpreter then serves single instructions). */
struct bt_code *bt_code_of(const struct vm *vm);
must_check int bt_code_create(struct vm *vm, struct bt_code **out, struct err *e);
void bt_code_destroy(struct bt_code *code);
/* Where generated code is named; NULL: nobody wants that. */
struct bt_perf *bt_code_perf(const struct vm *vm);
/* r gets its code bitmap; mapping it again has what was decoded of it compared with what is there now. */
must_check int bt_code_map(struct bt_code *code, struct ram_region *r);
void bt_code_unmap(struct bt_code *code, struct ram_region *r);

/*
 * c's thread: it is to be told of writes to the page (BT_TLB_REQ_STALE), or no longer. A version read behind
 * bt_code_use() is one whose end it is told of.
 */
void bt_code_use(const struct bt_cpu *c, struct bt_code_page *page);
void bt_code_unuse(const struct bt_cpu *c, struct bt_code_page *page);
/* bt_code_written() for c's own write: everybody else is told. */
void bt_code_written_by(const struct bt_cpu *c, uint64_t gpa, uint64_t len);

/* The page that gpa lies in, or NULL. */
const struct bt_code_page *bt_code_page_at(const struct vm *vm, uint64_t gpa);

/* The lock of LOCKed accesses that are not left to a host instruction: MMIO, line crossings. */
void bt_code_lock(struct vm *vm);
void bt_code_unlock(struct vm *vm);

/*
 * [gpa, gpa+len), within one page, is about to be decoded: from now on writes to it are noticed. Returns
 * its page and the version that is valid for bytes read afterwards; NULL if it cannot be watched.
 */
struct bt_code_page *bt_code_mark(struct bt_cpu *c, uint64_t gpa, unsigned len, uint32_t *version);

#endif
