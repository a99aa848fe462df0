//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * cgroup_skb egress: the backstop. Whatever a covered socket sends to a
 * protected destination beside the passage is dropped and reported.
 */
#include "headers/guard.h"
#include "headers/packet.h"

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

	count(COUNT_DROPPED);
	r = tell(REASON_PACKET, p->proto, &p->dst, bpf_skb_cgroup_id(skb), known);
	if (!r)
		return;
	if (!known)
		r->who.uid = bpf_get_socket_uid(skb);
	r->who.netns = netns_of(skb);
	report_packet(skb, r, 0);
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	struct packet p = {};

	if (!parse(skb, skb->protocol, 0, &p) || !off_limits(skb, &p, skb->ifindex == LOOPBACK_IFINDEX))
		return 1;
	if (!packet_covered(skb) || courtesy(skb, &p))
		return 1;
	drop(skb, &p);
	return observing();
}
