/*
 * kvm_probe.h: is there hardware behind /dev/kvm, and what do its guests see? Answered by small guests.
 * Any thread.
 */
#ifndef ACCEL_KVM_KVM_PROBE_H
#define ACCEL_KVM_KVM_PROBE_H

#include <linux/kvm.h>

#include "accel/accel.h"

void kvm_probe(struct accel_probe *p);
/* The feature words that a guest sees whose vCPU was given this table. -errno, *e set. */
int kvm_probe_cpuid(const struct kvm_cpuid2 *given, struct cpuid_words *seen, struct err *e);

#endif
