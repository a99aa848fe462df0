/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Where a packet goes, and who may send it there: for the backstop of sockets
 * and for that of wires.
 */
#ifndef __SALLYPORT_PACKET_H
#define __SALLYPORT_PACKET_H

#include "address.h"
#include "tell.h"

#define UDPLITE	       136
#define MAX_EXTENSIONS 8
#define MAX_OPTIONS    40 /* bytes of them behind an IPv4 header */

#define LSRR 131 /* IPv4's options of source routing */
#define SSRR 137
#define SRV6 4 /* an IPv6 routing header whose last segment stands first */

#define TCP_SYN 2
#define TCP_RST 4

struct packet {
	struct endpoint dst;
	struct endpoint last; /* where it goes on to, if it is routed */
	__u32 proto;
	__u32 offset; /* of the transport header, in the frame */
	int routed;   /* its destination is the first one only */
	int blind;    /* its ports can't be known */
	int lost;     /* its last destination can't be known */
};

static __always_inline int has_ports(__u32 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == SCTP || proto == DCCP ||
	       proto == UDPLITE;
}

/*
 * 1: options between the offsets route the packet further, or are not whole.
 * Global functions are verified on their own, or their loops would be once for
 * each way that leads to them.
 */
__noinline int source_routed(struct __sk_buff *skb, __u32 at, __u32 end)
{
	__u8 o[3]; /* kind, length, pointer */

	for (int i = 0; i < MAX_OPTIONS; i++) {
		if (at >= end)
			return 0;
		if (bpf_skb_load_bytes(skb, at, o, 1))
			return 1;
		if (o[0] == 0)
			return 0;
		if (o[0] == 1) {
			at++;
			continue;
		}
		if (bpf_skb_load_bytes(skb, at, o, sizeof(o)) || o[1] < 2)
			return 1;
		if ((o[0] == LSRR || o[0] == SSRR) && o[2] <= o[1])
			return 1;
		at += o[1];
	}
	return 0;
}

static __always_inline void parse4(struct __sk_buff *skb, __u32 at, struct packet *p)
{
	__u8 h[20] __attribute__((aligned(4)));

	if (bpf_skb_load_bytes(skb, at, h, sizeof(h)) || (h[0] & 0x0f) < 5) {
		p->lost = 1;
		return;
	}
	p->proto = h[9];
	p->offset = at + (h[0] & 0x0f) * 4;
	p->blind = ((h[6] & 0x1f) | h[7]) != 0; /* a later fragment */
	set4(&p->dst, *(__be32 *)(h + 16));
	if ((h[0] & 0x0f) > 5)
		p->lost = source_routed(skb, at + sizeof(h), p->offset);
}

static __always_inline void parse6(struct __sk_buff *skb, __u32 at, struct packet *p)
{
	__u8 next, h[8];

	if (bpf_skb_load_bytes(skb, at + 6, &next, 1) ||
	    bpf_skb_load_bytes(skb, at + 24, p->dst.addr, sizeof(p->dst.addr))) {
		p->lost = 1;
		return;
	}
	p->offset = at + 40;
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		p->proto = next;
		if (next != 0 && next != 43 && next != 44 && next != 51 && next != 60)
			return;
		if (bpf_skb_load_bytes(skb, p->offset, h, sizeof(h))) {
			p->blind = 1;
			return;
		}
		if (next == 43 && h[3]) { /* segments are left */
			p->routed = 1;
			if (h[2] != SRV6 ||
			    bpf_skb_load_bytes(skb, p->offset + 8, p->last.addr, sizeof(p->last.addr)))
				p->lost = 1;
		}
		if (next == 44) {
			if (h[2] || (h[3] & 0xf8)) {
				p->blind = 1;
				p->proto = h[0];
				return;
			}
			p->offset += 8;
		} else if (next == 51) {
			p->offset += (h[1] + 2) * 4;
		} else {
			p->offset += (h[1] + 1) * 8;
		}
		next = h[0];
	}
	p->blind = 1;
}

/* at: the offset of its IP header. 0: it is no IP packet. */
__noinline int parse(struct __sk_buff *skb, __u32 protocol, __u32 at, struct packet *p)
{
	if (!p)
		return 0;
	if (protocol == bpf_htons(ETH_P_IP))
		parse4(skb, at, p);
	else if (protocol == bpf_htons(ETH_P_IPV6))
		parse6(skb, at, p);
	else
		return 0;
	return 1;
}

/*
 * May only the passage send it there? A packet whose end can't be known is
 * taken for one that goes to a protected destination.
 */
__noinline int off_limits(struct __sk_buff *skb, struct packet *p, int local)
{
	__be16 ports[2];

	if (!p || p->lost)
		return 1;
	if (!p->blind) {
		if (!has_ports(p->proto))
			return 0;
		if (bpf_skb_load_bytes(skb, p->offset, ports, sizeof(ports)))
			p->blind = 1;
		else
			p->dst.port = p->last.port = bpf_ntohs(ports[1]);
	}
	if (p->routed && protection(&p->last, 0, p->blind) != FREE)
		return 1;
	return protection(&p->dst, local && !p->blind, p->blind) != FREE;
}

/*
 * Segments without payload that open nothing and that the kernel itself owes
 * a peer: resets of a swept connection, and what its control sockets answer
 * for connections that are gone.
 */
static __always_inline int courtesy(struct __sk_buff *skb, struct packet *p)
{
	struct bpf_sock *sk = skb->sk;
	__u8 h[14];

	if (p->proto != IPPROTO_TCP || p->blind || p->lost ||
	    bpf_skb_load_bytes(skb, p->offset, h, sizeof(h)))
		return 0;
	if (skb->len > p->offset + (h[12] >> 4) * 4 || (h[13] & TCP_SYN))
		return 0;
	if (h[13] & TCP_RST)
		return 1;
	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	return sk && sk->type == SOCK_RAW && sk->protocol == IPPROTO_TCP;
}

/* Is the socket that it is of covered? 1 for none. */
__noinline int packet_covered(struct __sk_buff *skb)
{
	struct settings *s = the_settings();
	int listed = 0, free = 0;

	for (int i = 0; i < MAX_LEVELS; i++) {
		__u64 id = bpf_skb_ancestor_cgroup_id(skb, i);

		if (!id)
			break;
		if (s && id == s->daemon_cgroup)
			return 0;
		if (covers(s, id))
			listed = 1;
		if (bpf_map_lookup_elem(&exempt, &id))
			free = 1;
	}
	return listed || (!free && !(s && s->mode == MODE_CGROUP));
}

/* Adds the packet's head, from its IP header at an offset on, and sends. */
static __always_inline void report_packet(struct __sk_buff *skb, struct report *r, __u32 at)
{
	__u32 n = skb->len - at;

	r->length = n;
	if (n > HEAD)
		n = HEAD;
	n = ((n - 1) & (HEAD - 1)) + 1; /* for the verifier: 1..HEAD */
	if (!bpf_skb_load_bytes(skb, at, r->head, n))
		r->captured = n;
	bpf_ringbuf_submit(r, 0);
}

#endif
