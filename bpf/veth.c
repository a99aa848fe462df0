//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The host's end of a veth pair whose other end is in a network namespace with
 * covered processes. What a packet socket sends there passes no hook of the
 * namespace, and comes in here.
 *
 * A frame keeps its socket across the wire. One of an inet socket is judged as
 * the backstop of sockets has judged it; one of any other socket, or of none,
 * may not go to a protected destination.
 *
 * An object of its own, which shares the maps by their pins.
 */
#include "headers/guard.h"
#include "headers/packet.h"

#define ETH_HLEN     14
#define ETH_P_8021Q  0x8100
#define ETH_P_8021AD 0x88A8
#define MAX_TAGS     4 /* in the frame, besides the one that the kernel took out */

/* Verdicts of tcx, and of a filter on kernels that have none. */
#define NEXT (-1)
#define DROP 2

char __license[] SEC("license") = "GPL";

/* By the interface's index: the network namespace at the other end. */
struct wire {
	__u64 netns; /* cookie */
};
MAP(wires, BPF_MAP_TYPE_HASH, __u32, struct wire, 16384);

static __always_inline int tagged(__u32 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

/* A socket whose packets go through the backstop of sockets. */
static __always_inline int is_inet(struct bpf_sock *sk)
{
	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	return sk && (sk->family == AF_INET || sk->family == AF_INET6);
}

static __always_inline void drop(struct __sk_buff *skb, struct packet *p, __u32 at)
{
	__u32 index = skb->ifindex;
	struct wire *w = bpf_map_lookup_elem(&wires, &index);
	struct report *r;

	count(COUNT_DROPPED);
	/* Whose time this runs in says nothing of the sender. */
	r = tell(REASON_PACKET, p->proto, &p->dst, bpf_skb_cgroup_id(skb), 0);
	if (!r)
		return;
	r->who.uid = bpf_get_socket_uid(skb);
	r->who.netns = w ? w->netns : 0;
	report_packet(skb, r, at);
}

SEC("tc")
int veth(struct __sk_buff *skb)
{
	__u32 protocol = skb->protocol, at = ETH_HLEN;
	struct packet p = {};
	struct bpf_sock *sk;
	__be16 tag[2];

	for (int i = 0; i < MAX_TAGS && tagged(protocol); i++) {
		if (bpf_skb_load_bytes(skb, at, tag, sizeof(tag)))
			return NEXT; /* no room for an address */
		protocol = tag[1];
		at += sizeof(tag);
	}
	if (tagged(protocol))
		p.lost = 1;
	else if (!parse(skb, protocol, at, &p))
		return NEXT;
	if (!off_limits(skb, &p, 0))
		return NEXT;
	sk = skb->sk;
	if (is_inet(sk) && !packet_covered(skb))
		return NEXT;
	if ((!sk || is_inet(sk)) && courtesy(skb, &p))
		return NEXT;
	drop(skb, &p, at);
	return observing() ? NEXT : DROP;
}

const struct wire *unused_wire __attribute__((unused));
