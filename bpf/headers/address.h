/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Addresses in one form, and which of them are protected. */
#ifndef __SALLYPORT_ADDRESS_H
#define __SALLYPORT_ADDRESS_H

#include "ip.h"
#include "maps.h"

static __always_inline void set4(struct endpoint *e, __be32 addr)
{
	put4(e->addr, addr);
}

enum protection {
	FREE = 0,
	PROTECTED = 1,
	ALIAS = 2, /* a local address beside a protected local one */
};

static __always_inline int has_port(struct ports *p, __u16 port)
{
	for (int i = 0; i < RANGES; i++) {
		if (i >= p->n)
			return 0;
		if (p->at[i].first <= port && port <= p->at[i].last)
			return 1;
	}
	return 0;
}

/* Blind: the port is not known, and any that is protected counts. */
static __always_inline int protection(struct endpoint *e, int local, int blind)
{
	struct prefix key = {.bits = 128};
	struct ports *p;

	if (!e->port && !blind)
		return FREE;
	__builtin_memcpy(key.addr, e->addr, sizeof(key.addr));
	p = bpf_map_lookup_elem(&destinations, &key);
	if (p && (blind ? p->n != 0 : has_port(p, e->port)))
		return PROTECTED;
	if (!local)
		return FREE;
	__builtin_memset(key.addr, 0, sizeof(key.addr));
	p = bpf_map_lookup_elem(&destinations, &key);
	return p && has_port(p, e->port) ? ALIAS : FREE;
}

#endif
