//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * sock_create: sockets whose connections no hook would see. In host mode
 * those that only carry control protocols stay, so that ping and routing
 * daemons work; the egress backstop looks at their packets as well.
 */
#include "headers/guard.h"
#include "headers/tell.h"

static __always_inline int control(__u32 protocol)
{
	switch (protocol) {
	case 1:	  /* ICMP */
	case 2:	  /* IGMP */
	case 58:  /* ICMPv6 */
	case 89:  /* OSPF */
	case 103: /* PIM */
	case 112: /* VRRP */
		return 1;
	}
	return 0;
}

SEC("cgroup/sock_create")
int sock_create(struct bpf_sock *ctx)
{
	__u32 raw = ctx->type == SOCK_RAW, protocol = ctx->protocol;
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct endpoint none = {};

	if (!raw && protocol != SCTP && protocol != DCCP) {
		/* The earliest sign of a namespace: no connect was refused yet. */
		if (!bpf_map_lookup_elem(&listeners, &netns) && current_covered(the_settings(), NULL))
			tell_birth(netns);
		return 1;
	}
	if (raw && control(protocol) && !current_listed(the_settings()))
		return 1;
	if (!current_covered(the_settings(), NULL))
		return 1;
	return refuse(REASON_SOCKET, protocol, &none, netns);
}
