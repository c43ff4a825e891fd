/* Weak stand-ins until the parts that are being written land; goes away with them. */
#include <errno.h>
#include <string.h>

#include "vm/vm.h"

#define weak __attribute__((weak))
weak int cpuid_build(struct cpuid *c, const char *model, const struct cpuid_limits *l, unsigned n, struct err *e)
{ (void)c; (void)model; (void)l; (void)n; return err_set(e, ENOTSUP, "not there yet"); }
weak void config_init(struct vm_config *c) { memset(c, 0, sizeof(*c)); c->cpus = 1; c->memory = 64 * MIB; }
weak void config_fini(struct vm_config *c) { (void)c; }
