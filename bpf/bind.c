//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* bind4/6: the passage's port belongs to the loader. */
#include "headers/guard.h"
#include "headers/tell.h"

static __always_inline int may_bind(struct bpf_sock_addr *ctx)
{
	struct settings *s = the_settings();
	struct endpoint at = {.port = bpf_ntohs(ctx->user_port)};
	__u64 netns;

	if (!s || !s->port || at.port != s->port || ctx->type != SOCK_STREAM || current_is(ROLE_LOADER))
		return 1;
	netns = bpf_get_netns_cookie(ctx);
	if (!bpf_map_lookup_elem(&listeners, &netns) && !current_covered(s, NULL))
		return 1;
	refuse(REASON_BIND, ctx->protocol, &at, netns);
	return 0;
}

SEC("cgroup/bind4")
int bind4(struct bpf_sock_addr *ctx)
{
	return may_bind(ctx);
}

SEC("cgroup/bind6")
int bind6(struct bpf_sock_addr *ctx)
{
	return may_bind(ctx);
}
