//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * unix_stream_connect, a hook of security modules (where bpf is among the
 * kernel's): what connect_unix has turned must arrive at the passage's
 * own listener. Only here are both ends known; between connect_unix and this the
 * passage may die, and somebody else take its address.
 *
 * An object of its own, since kernels may be without these hooks.
 */
#include "headers/guard.h"
#include "headers/local.h"
#include "headers/tell.h"

#include <bpf/bpf_tracing.h>

#define EPERM 1

char __license[] SEC("license") = "GPL";

SEC("lsm/unix_stream_connect")
int BPF_PROG(stream, struct sock *client, struct sock *server, struct sock *accepted, int before)
{
	struct endpoint none = {};
	struct local *asked, *at;

	if (before)
		return before;
	asked = bpf_sk_storage_get(&locals, client, 0, 0);
	if (!asked || asked->record.side != SIDE_CLIENT)
		return 0;
	at = bpf_sk_storage_get(&locals, server, 0, 0);
	if (at && at->record.side == SIDE_LISTENER)
		return 0;
	return refuse(REASON_NO_LISTENER, 0, &none, client->__sk_common.skc_net.net->net_cookie) ? 0 : -EPERM;
}

const enum side *unused_side __attribute__((unused));
