/*
 * kvm_probe.h: is the KVM of this host real? Some hosts' /dev/kvm runs guest code by emulation, hundreds of
 * times slower than hardware. Measured, in a few milliseconds. Any thread.
 */
#ifndef ACCEL_KVM_KVM_PROBE_H
#define ACCEL_KVM_KVM_PROBE_H

#include "accel/accel.h"

void kvm_probe(struct accel_probe *p);

#endif
