/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Addresses in one form, and which of them are protected. */
#ifndef __SALLYPORT_ADDRESS_H
#define __SALLYPORT_ADDRESS_H

#include "maps.h"

#define MAPPED	  bpf_htonl(0xffff)
#define LOOPBACK4 bpf_htonl(0x7f000001)

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
	return !a[0] && !a[1] && !a[2] && a[3] == bpf_htonl(1);
}

static __always_inline void set4(struct endpoint *e, __be32 addr)
{
	e->addr[0] = e->addr[1] = 0;
	e->addr[2] = MAPPED;
	e->addr[3] = addr;
}

enum protection {
	FREE = 0,
	PROTECTED = 1,
	ALIAS = 2, /* a local address beside a protected local one */
};

/* Port 0 of an endpoint stands for "unknown", where blind, else for nothing. */
static __always_inline int protection(struct endpoint *e, int local, int blind)
{
	struct endpoint port = {.port = e->port};

	if (!e->port && !blind)
		return FREE;
	if (bpf_map_lookup_elem(&destinations, e))
		return PROTECTED;
	if (local && bpf_map_lookup_elem(&destinations, &port))
		return ALIAS;
	return FREE;
}

#endif
