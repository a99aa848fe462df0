//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Who reaches what, for `sallyport discover`: TCP connections are counted by
 * who makes them and whither, and nothing is changed or refused. An object of
 * its own: its maps are never pinned and its links end with the process.
 */
#include "headers/ip.h"

/* What tells one kind of connection from another. */
struct reach {
	__u64 cgroup; /* current task's, cgroup2 id */
	__u64 exe_inode;
	__u32 exe_dev;	/* kernel's encoding: major << 20 | minor */
	__u32 uid;	/* initial user namespace */
	__u32 netns;	/* inode number, of the socket's */
	__be32 addr[4]; /* as asked for; IPv4 as ::ffff:a.b.c.d */
	__u16 port;	/* host order */
	__u16 zero;
};

struct seen {
	__u64 count; /* connections asked for */
	__u64 first; /* ns since boot */
	__u64 last;  /* ns since boot */
};

/* A kind that was not seen before, for user space to look at its process. */
struct fresh {
	struct reach key;
	__u32 tgid; /* initial pid namespace */
	__u32 zero;
	__u64 start; /* group leader's start_boottime, ns */
	__u8 comm[16];
};

enum unseen {
	UNSEEN_FULL = 0, /* connections of kinds that found no room */
	UNSEEN_RING = 1, /* kinds that were counted, but not told of */
	UNSEENS = 2,
};

struct ns_common___reach {
	unsigned int inum;
} __attribute__((preserve_access_index));

struct net___reach {
	struct ns_common___reach ns;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct reach);
	__type(value, struct seen);
} reached SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} arrivals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, UNSEENS);
	__type(key, __u32);
	__type(value, __u64);
} missed SEC(".maps");

static __always_inline void miss(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&missed, &which);

	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline void note(struct bpf_sock_addr *ctx, struct reach *key)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
	struct inode *exe = BPF_CORE_READ(task, mm, exe_file, f_inode);
	struct seen *s, new = {.count = 1};
	struct net___reach *net;
	struct tcp_sock *tp;
	struct fresh *f;

	if (ctx->protocol != IPPROTO_TCP || ctx->type != SOCK_STREAM)
		return;
	tp = bpf_skc_to_tcp_sock(ctx->sk);
	if (!tp)
		return;
	net = (struct net___reach *)BPF_CORE_READ((struct sock *)tp, __sk_common.skc_net.net);
	key->netns = BPF_CORE_READ(net, ns.inum);
	key->cgroup = task->cgroups->dfl_cgrp->kn->id;
	key->uid = task->cred->uid.val;
	key->exe_inode = BPF_CORE_READ(exe, i_ino);
	key->exe_dev = BPF_CORE_READ(exe, i_sb, s_dev);
	new.first = new.last = bpf_ktime_get_boot_ns();

	s = bpf_map_lookup_elem(&reached, key);
	if (s) {
		__sync_fetch_and_add(&s->count, 1);
		s->last = new.last;
		return;
	}
	if (bpf_map_update_elem(&reached, key, &new, BPF_NOEXIST)) {
		/* Full, or another one of the kind came between. */
		s = bpf_map_lookup_elem(&reached, key);
		if (s)
			__sync_fetch_and_add(&s->count, 1);
		else
			miss(UNSEEN_FULL);
		return;
	}
	f = bpf_ringbuf_reserve(&arrivals, sizeof(*f), 0);
	if (!f) {
		miss(UNSEEN_RING);
		return;
	}
	__builtin_memset(f, 0, sizeof(*f));
	f->key = *key;
	f->tgid = task->tgid;
	f->start = BPF_CORE_READ(task, group_leader, start_boottime);
	bpf_core_read(f->comm, sizeof(f->comm), &task->comm);
	bpf_ringbuf_submit(f, 0);
}

SEC("cgroup/connect4")
int discover4(struct bpf_sock_addr *ctx)
{
	struct reach key = {.port = bpf_ntohs(ctx->user_port)};

	send4(key.addr, ctx->user_ip4);
	note(ctx, &key);
	return 1;
}

SEC("cgroup/connect6")
int discover6(struct bpf_sock_addr *ctx)
{
	struct reach key = {.port = bpf_ntohs(ctx->user_port)};

	key.addr[0] = ctx->user_ip6[0];
	key.addr[1] = ctx->user_ip6[1];
	key.addr[2] = ctx->user_ip6[2];
	key.addr[3] = ctx->user_ip6[3];
	send6(key.addr);
	note(ctx, &key);
	return 1;
}

char __license[] SEC("license") = "GPL";

/* Keeps types in the BTF that nothing else would, for the bindings. */
const enum unseen *unused_unseen __attribute__((unused));
const struct fresh *unused_fresh __attribute__((unused));
