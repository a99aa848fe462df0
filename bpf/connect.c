//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * connect4/6: a covered caller's connection to a protected destination goes
 * to the passage, and the caller's record stays with the socket. Whatever
 * fails refuses: EPERM.
 *
 * Other programs may change the address on the way (a socket load balancer).
 * So there are two: asked4/6 run before them and keep what the caller asked
 * for, connect4/6 run after them, see what it would have reached, and decide
 * on both.
 */
#include "headers/guard.h"
#include "headers/address.h"
#include "headers/tell.h"

static __always_inline int is_tcp(struct bpf_sock_addr *ctx)
{
	return ctx->protocol == IPPROTO_TCP && ctx->type == SOCK_STREAM;
}

/* Is the socket bound to an IPv4 address? Then that decides what :: means. */
static __always_inline int v4_source(struct bpf_sock_addr *ctx)
{
	return ctx->sk->src_ip6[2] == MAPPED && ctx->sk->src_ip6[0] == 0 && ctx->sk->src_ip6[1] == 0;
}

static __always_inline void target4(struct bpf_sock_addr *ctx, struct endpoint *dst)
{
	__be32 addr = ctx->user_ip4;

	if (!addr) {
		/* The kernel takes the bound source, else loopback. */
		addr = ctx->family == AF_INET ? ctx->sk->src_ip4 : 0;
		if (!addr)
			addr = LOOPBACK4;
	}
	set4(dst, addr);
	dst->port = bpf_ntohs(ctx->user_port);
}

/* Returns whether the connection is an IPv4 one. */
static __always_inline int target6(struct bpf_sock_addr *ctx, struct endpoint *dst)
{
	int v4;

	dst->addr[0] = ctx->user_ip6[0];
	dst->addr[1] = ctx->user_ip6[1];
	dst->addr[2] = ctx->user_ip6[2];
	dst->addr[3] = ctx->user_ip6[3];
	dst->port = bpf_ntohs(ctx->user_port);
	if (is_any6(dst->addr)) {
		/* The kernel takes ::1, or 127.0.0.1 for a mapped source. */
		if (v4_source(ctx))
			set4(dst, ctx->sk->src_ip6[3] ? ctx->sk->src_ip6[3] : LOOPBACK4);
		else
			dst->addr[3] = LOOPBACK6;
	}
	v4 = is_mapped(dst->addr);
	if (v4 && !dst->addr[3])
		dst->addr[3] = v4_source(ctx) && ctx->sk->src_ip6[3] ? ctx->sk->src_ip6[3] : LOOPBACK4;
	return v4;
}

/*
 * Keeps what was asked for: with the socket where it is protected, which must
 * not be lost, else where the next program of this connect finds it.
 */
static __always_inline int ask(struct bpf_sock_addr *ctx, struct endpoint *dst)
{
	struct question *q;
	struct origin *o;
	__u32 zero = 0;

	if (is_tcp(ctx) && protection(dst, is_loopback(dst->addr), 0) == PROTECTED) {
		o = bpf_sk_storage_get(&origins, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!o) {
			if (!current_covered(the_settings(), NULL))
				return 1;
			return refuse(REASON_INTERNAL, ctx->protocol, dst, bpf_get_netns_cookie(ctx));
		}
		o->record.side = SIDE_ASKED;
		o->record.dst = *dst;
		return 1;
	}
	/* An earlier attempt's record must not speak for this one. */
	bpf_sk_storage_delete(&origins, ctx->sk);
	q = bpf_map_lookup_elem(&questions, &zero);
	if (q) {
		q->socket = bpf_get_socket_cookie(ctx);
		q->dst = *dst;
	}
	return 1;
}

SEC("cgroup/connect4")
int asked4(struct bpf_sock_addr *ctx)
{
	struct endpoint dst = {};

	target4(ctx, &dst);
	return ask(ctx, &dst);
}

SEC("cgroup/connect6")
int asked6(struct bpf_sock_addr *ctx)
{
	struct endpoint dst = {};

	target6(ctx, &dst);
	return ask(ctx, &dst);
}

/*
 * Does anybody listen at the passage? Asked only where nothing is enforced:
 * there a daemon that is gone must not take connections with it.
 */
static __always_inline int served(struct bpf_sock_addr *ctx, struct listener *l, int v4)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;

	if (v4) {
		t.ipv4.saddr = t.ipv4.daddr = LOOPBACK4;
		t.ipv4.dport = bpf_htons(l->port);
		sk = bpf_sk_lookup_tcp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		t.ipv6.saddr[3] = t.ipv6.daddr[3] = LOOPBACK6;
		t.ipv6.dport = bpf_htons(l->port);
		sk = bpf_sk_lookup_tcp(ctx, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return 0;
	bpf_sk_release(sk);
	return 1;
}

/* 1: leave it as it is; 0: refuse; -1: turn it, with its record. */
static __always_inline int decide(struct bpf_sock_addr *ctx, struct endpoint *reached, int v4)
{
	int tcp = is_tcp(ctx), local = is_loopback(reached->addr);
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct listener *l = bpf_map_lookup_elem(&listeners, &netns);
	struct settings *s = the_settings();
	struct endpoint dst = *reached;
	__u32 zero = 0, asked = 0;
	struct tcp_sock *tp;
	struct question *q;
	struct origin *o;
	int p;

	o = tcp ? bpf_sk_storage_get(&origins, ctx->sk, 0, 0) : NULL;
	if (tcp && l && local && reached->port == l->port) {
		/* Twice in one connect, while links are replaced: turned already. */
		if (o && o->record.side == SIDE_CLIENT)
			return 1;
		refuse(REASON_DIRECT, ctx->protocol, reached, netns);
		return 0;
	}
	p = protection(reached, local, 0);
	if (o && o->record.side == SIDE_ASKED) {
		dst = o->record.dst;
		p = PROTECTED;
		asked = 1;
	}
	tp = tcp ? bpf_skc_to_tcp_sock(ctx->sk) : NULL;
	if (p == FREE || !current_covered(s, (struct sock *)tp)) {
		bpf_sk_storage_delete(&origins, ctx->sk);
		return 1;
	}
	if (!tcp) {
		/*
		 * Counted, not reported: resolvers connect datagram sockets to
		 * find their source address, and nothing is sent. Whatever is
		 * sent after all, sendmsg and egress report.
		 */
		count(COUNT_REFUSED);
		return observing();
	}
	if (p == ALIAS)
		return refuse(REASON_ALIAS, ctx->protocol, &dst, netns);
	if (!l || !(v4 ? l->v4 : l->v6)) {
		tell_birth(netns);
		return refuse(REASON_NO_LISTENER, ctx->protocol, &dst, netns);
	}
	if (s && s->observes && !served(ctx, l, v4))
		return refuse(REASON_NO_LISTENER, ctx->protocol, &dst, netns);
	if (!o)
		o = s && tp ? bpf_sk_storage_get(&origins, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
	if (!o || !s || !tp)
		return refuse(REASON_INTERNAL, ctx->protocol, &dst, netns);
	q = asked ? NULL : bpf_map_lookup_elem(&questions, &zero);
	__builtin_memset(o, 0, sizeof(*o));
	fill_task(&o->record);
	o->record.side = SIDE_CLIENT;
	o->record.sock_cgroup = BPF_CORE_READ((struct sock *)tp, sk_cgrp_data.cgroup, kn, id);
	o->record.netns = netns;
	o->record.client = bpf_get_socket_cookie(ctx);
	if (q && q->socket == o->record.client)
		dst = q->dst;
	o->record.dst = dst;
	o->record.reached = *reached;
	o->key.netns = netns;
	o->key.passage = l->port;
	count(COUNT_TURNED);
	ctx->user_port = bpf_htons(l->port);
	return -1;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint dst = {};
	int verdict;

	target4(ctx, &dst);
	verdict = decide(ctx, &dst, 1);
	if (verdict >= 0)
		return verdict;
	ctx->user_ip4 = LOOPBACK4;
	return 1;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct endpoint dst = {};
	int v4, verdict;

	v4 = target6(ctx, &dst);
	verdict = decide(ctx, &dst, v4);
	if (verdict >= 0)
		return verdict;
	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	ctx->user_ip6[2] = v4 ? MAPPED : 0;
	ctx->user_ip6[3] = v4 ? LOOPBACK4 : LOOPBACK6;
	return 1;
}
