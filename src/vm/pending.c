/* Weak stand-ins until the parts that are being written land; goes away with them. */
#include <errno.h>
#include <string.h>

#include "vm/vm.h"

#define weak __attribute__((weak))
weak int cpuid_build(struct cpuid *c, const char *model, const struct cpuid_limits *l, unsigned n, struct err *e)
{ (void)c; (void)model; (void)l; (void)n; return err_set(e, ENOTSUP, "not there yet"); }
weak void config_init(struct vm_config *c) { memset(c, 0, sizeof(*c)); c->cpus = 1; c->memory = 64 * MIB; }
weak void config_fini(struct vm_config *c) { (void)c; }
#include "chardev/chardev.h"
weak void chardev_attach(struct chardev *c, const struct chardev_ops *ops, void *o) { (void)c; (void)ops; (void)o; }
weak size_t chardev_write(struct chardev *c, const void *b, size_t n) { (void)c; (void)b; return n; }
weak size_t chardev_read(struct chardev *c, void *b, size_t n) { (void)c; (void)b; (void)n; return 0; }
