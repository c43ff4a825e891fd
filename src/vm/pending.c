/* Weak stand-ins until the parts that are being written land; goes away with them. */
#include <errno.h>
#include <string.h>

#include "hw/lapic.h"
#include "vm/vm.h"

#define weak __attribute__((weak))
weak struct lapic *lapic_create(struct vcpu *c, struct err *e) { (void)c; return err_oom(e); }
weak void lapic_destroy(struct lapic *l) { (void)l; }
weak void lapic_reset(struct lapic *l) { (void)l; }
weak void lapic_init(struct lapic *l) { (void)l; }
weak void lapic_save(struct lapic *l, struct x86_state *s) { (void)l; (void)s; }
weak void lapic_load(struct lapic *l, const struct x86_state *s) { (void)l; (void)s; }
weak bool lapic_mmio_base(struct lapic *l, uint64_t *gpa) { (void)l; (void)gpa; return false; }
weak uint32_t lapic_mmio_read(struct lapic *l, unsigned off) { (void)l; (void)off; return 0; }
weak void lapic_mmio_write(struct lapic *l, unsigned off, uint32_t val) { (void)l; (void)off; (void)val; }
weak bool lapic_msr_read(struct lapic *l, uint32_t i, uint64_t *v) { (void)l; (void)i; (void)v; return false; }
weak bool lapic_msr_write(struct lapic *l, uint32_t i, uint64_t v) { (void)l; (void)i; (void)v; return false; }
weak bool lapic_pending(struct lapic *l) { (void)l; return false; }
weak int lapic_ack(struct lapic *l) { (void)l; return -1; }
weak uint8_t lapic_tpr_get(struct lapic *l) { (void)l; return 0; }
weak void lapic_tpr_set(struct lapic *l, uint8_t v) { (void)l; (void)v; }
weak const struct irqchip_ops lapic_irqchip = { 0 };
weak int cpuid_build(struct cpuid *c, const char *model, const struct cpuid_limits *l, unsigned n, struct err *e)
{ (void)c; (void)model; (void)l; (void)n; return err_set(e, ENOTSUP, "not there yet"); }
weak void config_init(struct vm_config *c) { memset(c, 0, sizeof(*c)); c->cpus = 1; c->memory = 64 * MIB; }
weak void config_fini(struct vm_config *c) { (void)c; }
