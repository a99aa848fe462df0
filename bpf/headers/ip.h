/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Addresses in one form: IPv4 as ::ffff:a.b.c.d. No maps. */
#ifndef __SALLYPORT_IP_H
#define __SALLYPORT_IP_H

#include "kernel.h"

#define MAPPED	  bpf_htonl(0xffff)
#define LOOPBACK4 bpf_htonl(0x7f000001)
#define LOOPBACK6 bpf_htonl(1) /* the last word of ::1 */

static __always_inline int is_mapped(__be32 *a)
{
	return !a[0] && !a[1] && a[2] == MAPPED;
}

static __always_inline int is_any6(__be32 *a)
{
	return !a[0] && !a[1] && !a[2] && !a[3];
}

static __always_inline int is_loopback(__be32 *a)
{
	if (is_mapped(a))
		return (bpf_ntohl(a[3]) >> 24) == 127;
	return !a[0] && !a[1] && !a[2] && a[3] == LOOPBACK6;
}

static __always_inline void put4(__be32 *a, __be32 v4)
{
	a[0] = a[1] = 0;
	a[2] = MAPPED;
	a[3] = v4;
}

/* The unspecified address means loopback to whoever sends to it. */
static __always_inline void send4(__be32 *a, __be32 v4)
{
	put4(a, v4 ? v4 : LOOPBACK4);
}

static __always_inline void send6(__be32 *a)
{
	if (is_any6(a))
		a[3] = LOOPBACK6;
	else if (is_mapped(a) && !a[3])
		a[3] = LOOPBACK4;
}

#endif
