/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef __SALLYPORT_MAPS_H
#define __SALLYPORT_MAPS_H

#include "guard.h"

#define MAP(name, kind, k, v, n)                                                                             \
	struct {                                                                                             \
		__uint(type, kind);                                                                          \
		__type(key, k);                                                                              \
		__type(value, v);                                                                            \
		__uint(max_entries, n);                                                                      \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                                                         \
	} name SEC(".maps")

/* A hash of one, because its update is atomic and an array's is not. */
MAP(config, BPF_MAP_TYPE_HASH, __u32, struct settings, 1);

#define TRIE(name, k, v, n)                                                                                  \
	struct {                                                                                             \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);                                                         \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                        \
		__type(key, k);                                                                              \
		__type(value, v);                                                                            \
		__uint(max_entries, n);                                                                      \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                                                         \
	} name SEC(".maps")

TRIE(destinations, struct prefix, struct ports, 65536);

MAP(covered, BPF_MAP_TYPE_HASH, __u64, __u32, 16384); /* cgroup2 ids */
MAP(exempt, BPF_MAP_TYPE_HASH, __u64, __u32, 16384);  /* cgroup2 ids, host mode */
MAP(processes, BPF_MAP_TYPE_HASH, struct process_key, struct process, 64);
MAP(listeners, BPF_MAP_TYPE_HASH, __u64, struct listener, 4096); /* by netns cookie */

/*
 * The hand-over. Never an LRU: what is evicted would be lost or mixed up. A
 * namespace has its share of it, which the loader makes with its listener.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow_key);
	__type(value, struct record);
	__uint(max_entries, 64 * SHARE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} handover SEC(".maps");
MAP(shares, BPF_MAP_TYPE_HASH, __u64, __s64, 4096); /* netns cookie: records that wait */

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct origin);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} origins SEC(".maps");

MAP(questions, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct question, 1);

MAP(counters, BPF_MAP_TYPE_ARRAY, __u32, __u64, COUNTERS);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} reports SEC(".maps");

/*
 * To say the same thing once a second. The loader takes out what is over, and
 * tells the rest of the count.
 */
MAP(repeats, BPF_MAP_TYPE_HASH, struct repeat_key, struct repeat, 16384);
MAP(rates, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct rate, 1);

/* For the loader: where a passage is missing. What is evicted is told again. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} births SEC(".maps");
MAP(born, BPF_MAP_TYPE_LRU_HASH, __u64, __u64, 1024); /* netns cookie, when told */

static __always_inline void count(enum counter which)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &which);

	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline __u64 counted(enum counter which)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &which);

	return n ? *n : 0;
}

static __always_inline struct settings *the_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

#endif
