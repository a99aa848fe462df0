//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * connect_unix (kernel 6.7): a covered caller's connection to a protected
 * server's unix socket goes to the passage, which listens at an abstract name
 * of the network namespace. Names are compared as they were written: another
 * spelling of a path gets past, unless only listed names are allowed.
 *
 * An object of its own, which shares the maps by their pins.
 */
#include "headers/guard.h"
#include "headers/address.h"
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

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct local);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} locals SEC(".maps");

/* For names, which are too large for a program's stack. */
struct scratch {
	struct path key;
	struct local local;
};
MAP(scratches, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct scratch, 1);

char __license[] SEC("license") = "GPL";

/* The socket's name as the kernel got it, in the trie's form; 0: none. */
static __always_inline int read_name(struct bpf_sock_addr_kern *k, struct scratch *s)
{
	__u64 len = k->uaddrlen; /* wide, so that its bounds are those of a register */

	__builtin_memset(s, 0, sizeof(*s));
	if (len <= AF_UNIX_NAME)
		return 0;
	len -= AF_UNIX_NAME;
	if (len > PATH)
		len = PATH;
	if (bpf_probe_read_kernel(s->local.name, len, k->uaddr->sun_path))
		return 0;
	s->local.length = len;
	s->key.bits = sizeof(s->key.kind) * 8 + sizeof(s->key.name) * 8;
	if (!s->local.name[0]) {
		s->key.kind = 'a';
		s->key.name[0] = len;
		__builtin_memcpy(s->key.name + 1, s->local.name, PATH);
		return 1;
	}
	s->key.kind = 'p';
	/* What stands behind the end of a path is not a part of it. */
	return bpf_probe_read_kernel_str(s->key.name, PATH + 1, s->local.name) > 1;
}

/* A path with a .. in it leads where its beginning does not say. */
static __always_inline int climbs(struct path *p)
{
	for (int i = 0; i + 2 < PATH; i++)
		if (p->name[i] == '/' && p->name[i + 1] == '.' && p->name[i + 2] == '.')
			return 1;
	return 0;
}

SEC("cgroup/connect_unix")
int connect_unix(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *k = bpf_cast_to_kern_ctx(ctx);
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct settings *set = the_settings();
	struct endpoint none = {};
	struct listener *l;
	struct scratch *s;
	struct local *mine;
	__u32 zero = 0, *naming;
	int named;

	/* An earlier attempt's record must not speak for this one. */
	bpf_sk_storage_delete(&locals, ctx->sk);
	s = bpf_map_lookup_elem(&scratches, &zero);
	if (!s)
		return 0;
	named = read_name(k, s);
	naming = named ? bpf_map_lookup_elem(&paths, &s->key) : NULL;
	if (naming && *naming == UNIX_ALLOWED && s->key.kind == 'p' && climbs(&s->key))
		naming = NULL;
	if (naming && *naming == UNIX_ALLOWED)
		return 1;
	if (!naming && !(set && set->unix_list))
		return 1;
	if (!current_covered(set, k->sk))
		return 1;
	if (!naming || *naming != UNIX_PROTECTED)
		return refuse(REASON_UNIX, 0, &none, netns);
	l = bpf_map_lookup_elem(&listeners, &netns);
	if (!l || !l->local || ctx->type != SOCK_STREAM) {
		tell_birth(netns);
		return refuse(REASON_NO_LISTENER, 0, &none, netns);
	}
	mine = bpf_sk_storage_get(&locals, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!mine)
		return refuse(REASON_INTERNAL, 0, &none, netns);
	__builtin_memcpy(mine, &s->local, sizeof(*mine));
	fill_task(&mine->record);
	mine->record.side = SIDE_CLIENT;
	mine->record.sock_cgroup = BPF_CORE_READ(k->sk, sk_cgrp_data.cgroup, kn, id);
	mine->record.netns = netns;
	mine->record.client = bpf_get_socket_cookie(ctx);
	count(COUNT_TURNED);
	{
		__u8 passage[] = "\0sallyport.passage";

		if (bpf_sock_addr_set_sun_path(k, passage, sizeof(passage) - 1))
			return refuse(REASON_INTERNAL, 0, &none, netns);
	}
	return 1;
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
	struct settings *s = the_settings();
	struct local *mine, *theirs;
	struct unix_sock *u;

	if (!s || !s->daemon_cgroup || !current_below(s->daemon_cgroup))
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
	struct settings *s;

	if (ctx->level != LEVEL || ctx->optname != LOCAL || !ctx->sk)
		return 1;
	if ((void *)(out + 1) > ctx->optval_end)
		return 1;
	s = the_settings();
	if (!s || !s->daemon_cgroup || !current_below(s->daemon_cgroup))
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
