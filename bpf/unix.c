//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * connect_unix, sendmsg_unix (kernel 6.7): a covered caller's connection to a
 * protected server's unix socket goes to the passage, which listens at an
 * abstract name of the network namespace; a datagram to it is refused. Names
 * are compared as they were written: another spelling of a path gets past,
 * unless only listed names are allowed.
 *
 * An object of its own, which shares the maps by their pins.
 */
#include "headers/guard.h"
#include "headers/address.h"
#include "headers/local.h"
#include "headers/tell.h"

#define AF_UNIX_NAME sizeof(__u16) /* offset of sun_path */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sockaddr_un {
	__u16 sun_family;
	char sun_path[PATH];
};

struct bpf_sock_addr_kern {
	struct sock *sk;
	struct sockaddr_un *uaddr;
	__u32 uaddrlen;
};

struct unix_sock {
	struct sock sk;
	struct sock *peer;
};

#pragma clang attribute pop

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym;
extern int bpf_sock_addr_set_sun_path(struct bpf_sock_addr_kern *ctx, const __u8 *path,
				      __u32 path__sz) __ksym;

TRIE(paths, struct path, __u32, 4096);

char __license[] SEC("license") = "GPL";

/* A socket's name as the kernel got it. */
struct name {
	__u64 length;
	__u8 bytes[PATH];
	__u8 zero[4];
};

/* The name, also in the trie's form; 0: none. */
static __always_inline int read_name(struct bpf_sock_addr_kern *k, struct name *name, struct path *key)
{
	__u64 len = k->uaddrlen; /* wide, so that its bounds are those of a register */

	if (len <= AF_UNIX_NAME)
		return 0;
	len -= AF_UNIX_NAME;
	if (len > PATH)
		len = PATH;
	if (bpf_probe_read_kernel(name->bytes, len, k->uaddr->sun_path))
		return 0;
	name->length = len;
	key->bits = sizeof(key->kind) * 8 + sizeof(key->name) * 8;
	if (!name->bytes[0]) {
		key->kind = 'a';
		key->name[0] = len;
		__builtin_memcpy(key->name + 1, name->bytes, PATH);
		return 1;
	}
	key->kind = 'p';
	/* What stands behind the end of a path is not a part of it. */
	return bpf_probe_read_kernel_str(key->name, PATH + 1, name->bytes) > 1;
}

/* A path with a .. in it leads where its beginning does not say. */
static __always_inline int climbs(struct path *p)
{
	for (int i = 0; i + 2 < PATH; i++)
		if (p->name[i] == '/' && p->name[i + 1] == '.' && p->name[i + 2] == '.')
			return 1;
	return 0;
}

/*
 * What a covered caller's name is: UNIX_ALLOWED, UNIX_PROTECTED, or 0 where it
 * is not on the list of those allowed.
 */
static __always_inline __u32 judge(struct bpf_sock_addr_kern *k, struct name *name)
{
	struct settings *set = the_settings();
	struct path key = {};
	__u32 *naming = NULL;

	if (read_name(k, name, &key))
		naming = bpf_map_lookup_elem(&paths, &key);
	if (naming && *naming == UNIX_ALLOWED && key.kind == 'p' && climbs(&key))
		naming = NULL;
	if (naming && *naming == UNIX_ALLOWED)
		return UNIX_ALLOWED;
	if (!naming && !(set && set->unix_list))
		return UNIX_ALLOWED;
	if (!current_covered(set, k->sk))
		return UNIX_ALLOWED;
	return naming ? *naming : 0;
}

/*
 * Does the passage live? Nothing keeps others from taking an abstract address
 * that nobody holds. So its listener has a witness, a socket at a port that the
 * bind hook guards, which is opened after it and closed before it.
 */
static __always_inline int lives(struct bpf_sock_addr *ctx, struct listener *l)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;
	struct tcp_sock *tp;
	int same;

	if (!l->local[1])
		return 0;
	t.ipv4.saddr = t.ipv4.daddr = LOOPBACK4;
	t.ipv4.dport = bpf_htons(l->port);
	sk = bpf_sk_lookup_tcp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	same = tp && ((struct sock *)tp)->__sk_common.skc_cookie.counter == l->witness;
	bpf_sk_release(sk);
	return same;
}

SEC("cgroup/connect_unix")
int connect_unix(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *k = bpf_cast_to_kern_ctx(ctx);
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct endpoint none = {};
	struct name name = {};
	struct listener *l;
	struct local *mine;
	__u32 naming;

	/* An earlier attempt's record must not speak for this one. */
	bpf_sk_storage_delete(&locals, ctx->sk);
	naming = judge(k, &name);
	if (naming == UNIX_ALLOWED)
		return 1;
	if (naming != UNIX_PROTECTED)
		return refuse(REASON_UNIX, 0, &none, netns);
	if (ctx->type != SOCK_STREAM)
		return refuse(REASON_DATAGRAM, 0, &none, netns);
	l = bpf_map_lookup_elem(&listeners, &netns);
	if (!l || !lives(ctx, l)) {
		tell_birth(netns);
		return refuse(REASON_NO_LISTENER, 0, &none, netns);
	}
	mine = bpf_sk_storage_get(&locals, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!mine)
		return refuse(REASON_INTERNAL, 0, &none, netns);
	mine->length = name.length;
	__builtin_memcpy(mine->name, name.bytes, PATH);
	fill_task(&mine->record);
	mine->record.side = SIDE_CLIENT;
	mine->record.sock_cgroup = BPF_CORE_READ(k->sk, sk_cgrp_data.cgroup, kn, id);
	mine->record.netns = netns;
	mine->record.client = bpf_get_socket_cookie(ctx);
	count(COUNT_TURNED);
	if (bpf_sock_addr_set_sun_path(k, l->local, NAMED))
		return refuse(REASON_INTERNAL, 0, &none, netns);
	return 1;
}

SEC("cgroup/sendmsg_unix")
int sendmsg_unix(struct bpf_sock_addr *ctx)
{
	struct endpoint none = {};
	struct name name = {};
	__u32 naming = judge(bpf_cast_to_kern_ctx(ctx), &name);

	if (naming == UNIX_ALLOWED)
		return 1;
	return refuse(naming == UNIX_PROTECTED ? REASON_DATAGRAM : REASON_UNIX, 0, &none,
		      bpf_get_netns_cookie(ctx));
}

/*
 * The client sees the name that it asked for. ctx->sk is the other end, whose
 * peer is the socket of the one who asks.
 */
SEC("cgroup/getpeername_unix")
int getpeername_unix(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *k = bpf_cast_to_kern_ctx(ctx);
	struct unix_sock *other = (struct unix_sock *)bpf_skc_to_unix_sock(ctx->sk);
	struct local *mine;
	__u64 length;

	if (!other || !other->peer)
		return 1;
	mine = bpf_sk_storage_get(&locals, other->peer, 0, 0);
	if (!mine || mine->record.side != SIDE_CLIENT)
		return 1;
	length = mine->length;
	if (length > PATH)
		return 1;
	asm volatile("" : "+r"(length)); /* or clang makes one test of both */
	if (length)
		bpf_sock_addr_set_sun_path(k, mine->name, length);
	return 1;
}

/*
 * The record of an accepted socket is that of its peer, and this is the hook
 * that sees both: the daemon asks for the socket's own name before it asks for
 * the record.
 */
SEC("cgroup/getsockname_unix")
int getsockname_unix(struct bpf_sock_addr *ctx)
{
	struct local *mine, *theirs;
	struct unix_sock *u;

	if (!daemon_asks())
		return 1;
	u = (struct unix_sock *)bpf_skc_to_unix_sock(ctx->sk);
	if (!u || !u->peer || bpf_sk_storage_get(&locals, ctx->sk, 0, 0))
		return 1;
	theirs = bpf_sk_storage_get(&locals, u->peer, 0, 0);
	if (!theirs || theirs->record.side != SIDE_CLIENT)
		return 1;
	mine = bpf_sk_storage_get(&locals, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!mine)
		return 1;
	__builtin_memcpy(mine, theirs, sizeof(*mine));
	mine->record.side = SIDE_PASSAGE;
	count(COUNT_HANDED);
	return 1;
}

#define LEVEL 0x53504f52 /* "SPOR" */
#define LOCAL 2

/* getsockopt: the record of an accepted unix socket, for the daemon. */
SEC("cgroup/getsockopt")
int facts_unix(struct bpf_sockopt *ctx)
{
	struct local *out = ctx->optval, *mine;

	if (ctx->level != LEVEL || ctx->optname != LOCAL || !ctx->sk)
		return 1;
	if ((void *)(out + 1) > ctx->optval_end)
		return 1;
	if (!daemon_asks())
		return 1;
	mine = bpf_sk_storage_get(&locals, ctx->sk, 0, 0);
	if (!mine || mine->record.side != SIDE_PASSAGE)
		return 1;
	__builtin_memcpy(out, mine, sizeof(*out));
	ctx->optlen = sizeof(*out);
	barrier(); /* one store for both is not allowed */
	ctx->retval = 0;
	return 1;
}

const enum naming *unused_naming __attribute__((unused));
