//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* getpeername4/6: the client sees the peer that it asked for. */
#include "headers/guard.h"
#include "headers/address.h"

static __always_inline struct origin *client(struct bpf_sock_addr *ctx)
{
	struct origin *o;

	if (ctx->protocol != IPPROTO_TCP)
		return NULL;
	o = bpf_sk_storage_get(&origins, ctx->sk, 0, 0);
	return o && o->record.side == SIDE_CLIENT ? o : NULL;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	struct origin *o = client(ctx);

	if (o) {
		ctx->user_ip4 = o->record.dst.addr[3];
		ctx->user_port = bpf_htons(o->record.dst.port);
	}
	return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	struct origin *o = client(ctx);

	if (o) {
		ctx->user_ip6[0] = o->record.dst.addr[0];
		ctx->user_ip6[1] = o->record.dst.addr[1];
		ctx->user_ip6[2] = o->record.dst.addr[2];
		ctx->user_ip6[3] = o->record.dst.addr[3];
		ctx->user_port = bpf_htons(o->record.dst.port);
	}
	return 1;
}
