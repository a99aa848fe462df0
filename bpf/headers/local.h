/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is known of a unix socket, for the programs that need it. */
#ifndef __SALLYPORT_LOCAL_H
#define __SALLYPORT_LOCAL_H

#include "guard.h"

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct local);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} locals SEC(".maps");

#endif
