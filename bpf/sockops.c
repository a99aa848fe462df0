//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * sock_ops: hands the record from the client's socket to the accepted one.
 * At CONNECT the source port is known and no SYN is sent yet; at
 * PASSIVE_ESTABLISHED nobody can have accepted the socket.
 */
#include "headers/guard.h"
#include "headers/address.h"
#include "headers/tell.h"

/*
 * The addresses are read before the branch: clang merges the two loads of it
 * into one through a computed context pointer, which the verifier refuses.
 */
#define PIN(x) asm volatile("" : "+r"(x))

#define ADDRESS(k, ctx, side)                                                                                \
	do {                                                                                                 \
		__be32 v4 = (ctx)->side##_ip4, a0 = (ctx)->side##_ip6[0], a1 = (ctx)->side##_ip6[1],         \
		       a2 = (ctx)->side##_ip6[2], a3 = (ctx)->side##_ip6[3];                                 \
		PIN(v4);                                                                                     \
		PIN(a0);                                                                                     \
		PIN(a1);                                                                                     \
		PIN(a2);                                                                                     \
		PIN(a3);                                                                                     \
		int is4 = (ctx)->family == AF_INET;                                                          \
		(k)->addr[0] = is4 ? 0 : a0;                                                                 \
		(k)->addr[1] = is4 ? 0 : a1;                                                                 \
		(k)->addr[2] = is4 ? MAPPED : a2;                                                            \
		(k)->addr[3] = is4 ? v4 : a3;                                                                \
	} while (0)

/*
 * Has the record wait for its accepted socket. Not 0: there is no room for one
 * more, or for one more of this namespace.
 */
static __always_inline long wait(struct origin *o)
{
	__s64 *waiting = bpf_map_lookup_elem(&shares, &o->key.netns);
	long err = -1;

	if (!waiting)
		return err;
	if (__sync_fetch_and_add(waiting, 1) < SHARE)
		err = bpf_map_update_elem(&handover, &o->key, &o->record, BPF_NOEXIST);
	if (err)
		__sync_fetch_and_add(waiting, -1);
	if (err == -EEXIST)
		err = bpf_map_update_elem(&handover, &o->key, &o->record, BPF_EXIST);
	return err;
}

/* Not 0: it was not there. Whoever takes a record out gives its place back. */
static __always_inline long take(struct flow_key *key)
{
	long err = bpf_map_delete_elem(&handover, key);
	__s64 *waiting = err ? NULL : bpf_map_lookup_elem(&shares, &key->netns);

	if (waiting)
		__sync_fetch_and_add(waiting, -1);
	return err;
}

static __always_inline void connecting(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct origin *o = bpf_sk_storage_get(&origins, sk, 0, 0);
	__u16 port = bpf_ntohl(ctx->remote_port);

	if (!o || o->record.side != SIDE_CLIENT || o->key.passage != port)
		return;
	ADDRESS(&o->key, ctx, local);
	o->key.port = ctx->local_port;
	/* Without its STATE callback a record could outlive its socket. */
	if (bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG) ||
	    wait(o))
		/* No record: the passage will close the connection. */
		refuse(REASON_FULL, IPPROTO_TCP, &o->record.dst, o->record.netns);
}

static __always_inline void accepted(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct settings *s = the_settings();
	struct flow_key key = {};
	struct record *r;
	struct origin *o;

	if (!s || ctx->local_port != s->port)
		return;
	key.netns = bpf_get_netns_cookie(ctx);
	key.passage = ctx->local_port;
	key.port = bpf_ntohl(ctx->remote_port);
	ADDRESS(&key, ctx, remote);
	r = bpf_map_lookup_elem(&handover, &key);
	if (!r)
		return;
	o = bpf_sk_storage_get(&origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (o) {
		o->record = *r;
		o->record.side = SIDE_PASSAGE;
	}
	/*
	 * The client's end may have been taken away meanwhile, and its place
	 * been given to another while it was read.
	 */
	if (take(&key))
		bpf_sk_storage_delete(&origins, sk);
	else if (o)
		count(COUNT_HANDED);
}

static __always_inline void closed(struct bpf_sock *sk)
{
	struct origin *o = bpf_sk_storage_get(&origins, sk, 0, 0);
	struct record *r;

	if (!o || o->record.side != SIDE_CLIENT)
		return;
	r = bpf_map_lookup_elem(&handover, &o->key);
	if (r && r->client == o->record.client)
		take(&o->key);
}

SEC("sockops")
int sock_ops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		connecting(ctx, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		accepted(ctx, sk);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == BPF_TCP_CLOSE)
			closed(sk);
		break;
	}
	return 1;
}
