//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* sendmsg4/6: no datagram to a protected destination; there is no passage for it. */
#include "headers/guard.h"
#include "headers/address.h"
#include "headers/tell.h"

static __always_inline int allowed(struct bpf_sock_addr *ctx, struct endpoint *dst)
{
	if (protection(dst, is_loopback(dst->addr), 0) == FREE || !current_covered(the_settings(), NULL))
		return 1;
	return refuse(REASON_DATAGRAM, ctx->protocol, dst, bpf_get_netns_cookie(ctx));
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	struct endpoint dst = {.port = bpf_ntohs(ctx->user_port)};

	send4(dst.addr, ctx->user_ip4);
	return allowed(ctx, &dst);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	struct endpoint dst = {.port = bpf_ntohs(ctx->user_port)};

	dst.addr[0] = ctx->user_ip6[0];
	dst.addr[1] = ctx->user_ip6[1];
	dst.addr[2] = ctx->user_ip6[2];
	dst.addr[3] = ctx->user_ip6[3];
	send6(dst.addr);
	return allowed(ctx, &dst);
}
