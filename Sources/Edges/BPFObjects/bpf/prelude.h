/* What every eBPF program of the data plane includes first: uapi types, libbpf's helpers and the shared contract. */
#ifndef BATON_PRELUDE_H
#define BATON_PRELUDE_H

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "contract.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#endif
