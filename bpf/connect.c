//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * connect4/6: a covered caller's connection to a protected destination goes
 * to the passage, and the caller's record stays with the socket. Whatever
 * fails refuses: EPERM.
 */
#include "headers/guard.h"
#include "headers/address.h"
#include "headers/tell.h"

/* Is the socket bound to an IPv4 address? Then that decides what :: means. */
static __always_inline int v4_source(struct bpf_sock_addr *ctx)
{
	return ctx->sk->src_ip6[2] == MAPPED && ctx->sk->src_ip6[0] == 0 && ctx->sk->src_ip6[1] == 0;
}

/* 1: leave it as it is; 0: refuse; -1: turn it, r is its record. */
static __always_inline int decide(struct bpf_sock_addr *ctx, struct endpoint *dst, int v4)
{
	int tcp = ctx->protocol == IPPROTO_TCP && ctx->type == SOCK_STREAM, local = is_loopback(dst->addr);
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct listener *l = bpf_map_lookup_elem(&listeners, &netns);
	struct settings *s = the_settings();
	struct tcp_sock *tp;
	struct origin *o;
	int p;

	if (tcp && l && local && dst->port == l->port) {
		refuse(REASON_DIRECT, ctx->protocol, dst, netns);
		return 0;
	}
	p = protection(dst, local, 0);
	tp = tcp ? bpf_skc_to_tcp_sock(ctx->sk) : NULL;
	if (p == FREE || !current_covered(s, (struct sock *)tp)) {
		/* An earlier attempt's record must not speak for this one. */
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
		return 0;
	}
	if (p == ALIAS) {
		refuse(REASON_ALIAS, ctx->protocol, dst, netns);
		return 0;
	}
	if (!l || !(v4 ? l->v4 : l->v6)) {
		refuse(REASON_NO_LISTENER, ctx->protocol, dst, netns);
		return 0;
	}
	o = s && tp ? bpf_sk_storage_get(&origins, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
	if (!o) {
		refuse(REASON_INTERNAL, ctx->protocol, dst, netns);
		return 0;
	}
	__builtin_memset(o, 0, sizeof(*o));
	fill_task(&o->record);
	o->record.side = SIDE_CLIENT;
	o->record.sock_cgroup = BPF_CORE_READ((struct sock *)tp, sk_cgrp_data.cgroup, kn, id);
	o->record.netns = netns;
	o->record.client = bpf_get_socket_cookie(ctx);
	o->record.dst = *dst;
	o->key.netns = netns;
	o->key.passage = l->port;
	count(COUNT_TURNED);
	ctx->user_port = bpf_htons(l->port);
	return -1;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint dst = {.port = bpf_ntohs(ctx->user_port)};
	__be32 addr = ctx->user_ip4;
	int verdict;

	if (!addr) {
		/* The kernel takes the bound source, else loopback. */
		addr = ctx->family == AF_INET ? ctx->sk->src_ip4 : 0;
		if (!addr)
			addr = LOOPBACK4;
	}
	set4(&dst, addr);
	verdict = decide(ctx, &dst, 1);
	if (verdict >= 0)
		return verdict;
	ctx->user_ip4 = LOOPBACK4;
	return 1;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct endpoint dst = {.port = bpf_ntohs(ctx->user_port)};
	int v4, verdict;

	dst.addr[0] = ctx->user_ip6[0];
	dst.addr[1] = ctx->user_ip6[1];
	dst.addr[2] = ctx->user_ip6[2];
	dst.addr[3] = ctx->user_ip6[3];
	if (is_any6(dst.addr)) {
		/* The kernel takes ::1, or 127.0.0.1 for a mapped source. */
		if (v4_source(ctx))
			set4(&dst, ctx->sk->src_ip6[3] ? ctx->sk->src_ip6[3] : LOOPBACK4);
		else
			dst.addr[3] = bpf_htonl(1);
	}
	v4 = is_mapped(dst.addr);
	if (v4 && !dst.addr[3])
		dst.addr[3] = v4_source(ctx) && ctx->sk->src_ip6[3] ? ctx->sk->src_ip6[3] : LOOPBACK4;
	verdict = decide(ctx, &dst, v4);
	if (verdict >= 0)
		return verdict;
	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	ctx->user_ip6[2] = v4 ? MAPPED : 0;
	ctx->user_ip6[3] = v4 ? LOOPBACK4 : bpf_htonl(1);
	return 1;
}
