//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* One object, so that its programs share their maps. */
#include "connect.c"
#include "sockops.c"
#include "peername.c"
#include "sendmsg.c"
#include "socket.c"
#include "bind.c"
#include "facts.c"
#include "egress.c"

char __license[] SEC("license") = "GPL";

/* Keeps types that only constants use in the BTF, for the bindings. */
const enum mode *unused_mode __attribute__((unused));
const enum role *unused_role __attribute__((unused));
const enum reason *unused_reason __attribute__((unused));
const enum counter *unused_counter __attribute__((unused));
const struct birth *unused_birth __attribute__((unused));
const struct report *unused_report __attribute__((unused));
