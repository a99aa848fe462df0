//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * cgroup_skb egress: the backstop. Whatever a covered socket sends to a
 * protected destination beside the passage is dropped and reported.
 */
#include "headers/guard.h"
#include "headers/address.h"
#include "headers/tell.h"

#define UDPLITE	       136
#define MAX_EXTENSIONS 8

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4

struct packet {
	struct endpoint dst;
	__u32 proto;
	__u32 offset; /* of the transport header */
	int blind;    /* its ports can't be known */
};

static __always_inline int has_ports(__u32 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == SCTP || proto == DCCP ||
	       proto == UDPLITE;
}

static __always_inline int parse4(struct __sk_buff *skb, struct packet *p)
{
	__u8 h[20];

	if (bpf_skb_load_bytes(skb, 0, h, sizeof(h)))
		return -1;
	p->proto = h[9];
	p->offset = (h[0] & 0x0f) * 4;
	p->blind = ((h[6] & 0x1f) | h[7]) != 0; /* a later fragment */
	set4(&p->dst, *(__be32 *)(h + 16));
	return 0;
}

static __always_inline int parse6(struct __sk_buff *skb, struct packet *p)
{
	__u8 next, h[8];

	if (bpf_skb_load_bytes(skb, 6, &next, 1) || bpf_skb_load_bytes(skb, 24, p->dst.addr, 16))
		return -1;
	p->offset = 40;
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		p->proto = next;
		if (next != 0 && next != 43 && next != 44 && next != 51 && next != 60)
			return 0;
		if (bpf_skb_load_bytes(skb, p->offset, h, sizeof(h)))
			return -1;
		if (next == 44) {
			if (h[2] || (h[3] & 0xf8)) {
				p->blind = 1;
				p->proto = h[0];
				return 0;
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
	return 0;
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

	if (p->proto != IPPROTO_TCP || p->blind || bpf_skb_load_bytes(skb, p->offset, h, sizeof(h)))
		return 0;
	if (skb->len > p->offset + (h[12] >> 4) * 4 || (h[13] & TCP_SYN))
		return 0;
	if (h[13] & TCP_RST)
		return 1;
	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	return sk && sk->type == SOCK_RAW && sk->protocol == IPPROTO_TCP;
}

static __always_inline int packet_covered(struct __sk_buff *skb, struct settings *s)
{
	int listed = 0, free = 0;

	for (int i = 0; i < MAX_LEVELS; i++) {
		__u64 id = bpf_skb_ancestor_cgroup_id(skb, i);

		if (!id)
			break;
		if (s && id == s->daemon_cgroup)
			return 0;
		if (bpf_map_lookup_elem(&covered, &id))
			listed = 1;
		if (bpf_map_lookup_elem(&exempt, &id))
			free = 1;
	}
	return listed || (!free && !(s && s->mode == MODE_CGROUP));
}

/*
 * Is the current task the sender? A TCP socket sends in its owner's context
 * only while it is locked by it; the others always do.
 */
static __always_inline int sender_known(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (!sk)
		return 0;
	if (sk->protocol != IPPROTO_TCP)
		return 1;
	tp = bpf_skc_to_tcp_sock(sk);
	return tp && ((struct sock *)tp)->sk_lock.owned;
}

/* The helper for it is newer than 6.1 here; 0 for all but TCP. */
static __always_inline __u64 netns_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;

	return tp ? ((struct sock *)tp)->__sk_common.skc_net.net->net_cookie : 0;
}

static __always_inline void drop(struct __sk_buff *skb, struct packet *p)
{
	int known = sender_known(skb);
	struct report *r;
	__u32 n = skb->len;

	count(COUNT_DROPPED);
	r = tell(REASON_PACKET, p->proto, &p->dst, bpf_skb_cgroup_id(skb), known);
	if (!r)
		return;
	r->length = n;
	if (!known)
		r->who.uid = bpf_get_socket_uid(skb);
	r->who.netns = netns_of(skb);
	if (n > HEAD)
		n = HEAD;
	n = ((n - 1) & (HEAD - 1)) + 1; /* for the verifier: 1..HEAD */
	if (!bpf_skb_load_bytes(skb, 0, r->head, n))
		r->captured = n;
	bpf_ringbuf_submit(r, 0);
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	struct packet p = {};
	__be16 ports[2];
	int bad;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		bad = parse4(skb, &p);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		bad = parse6(skb, &p);
	else
		return 1;
	if (bad)
		p.blind = 1;
	if (!p.blind) {
		if (!has_ports(p.proto))
			return 1;
		if (bpf_skb_load_bytes(skb, p.offset, ports, sizeof(ports)))
			p.blind = 1;
		else
			p.dst.port = bpf_ntohs(ports[1]);
	}
	if (protection(&p.dst, !p.blind && skb->ifindex == LOOPBACK_IFINDEX, p.blind) == FREE)
		return 1;
	if (!packet_covered(skb, the_settings()) || courtesy(skb, &p))
		return 1;
	drop(skb, &p);
	return observing();
}
