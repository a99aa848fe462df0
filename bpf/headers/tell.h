/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Reports to user space, at a rate that an agent can't raise. */
#ifndef __SALLYPORT_TELL_H
#define __SALLYPORT_TELL_H

#include "who.h"

#define SECOND		   1000000000ULL
#define REPORTS_PER_SECOND 128 /* and CPU */

/* A report could not be sent: it is counted with the others of its kind. */
static __always_inline void keep(struct repeat_key *key, __u32 n)
{
	struct repeat *seen = bpf_map_lookup_elem(&repeats, key);

	if (seen)
		__sync_fetch_and_add(&seen->count, n + 1);
}

/* May a report be sent now? *n gets how many the last silence swallowed. */
static __always_inline int may_tell(struct repeat_key *key, __u64 now, __u32 *n)
{
	struct repeat *seen = bpf_map_lookup_elem(&repeats, key), fresh = {.next = now + SECOND};
	__u32 zero = 0;
	struct rate *rate;

	if (seen) {
		if (now < seen->next) {
			__sync_fetch_and_add(&seen->count, 1);
			return 0;
		}
		*n = __sync_lock_test_and_set(&seen->count, 0);
		seen->next = now + SECOND;
	} else {
		bpf_map_update_elem(&repeats, key, &fresh, BPF_ANY);
	}
	rate = bpf_map_lookup_elem(&rates, &zero);
	if (!rate)
		return 0;
	if (now - rate->second >= SECOND) {
		rate->second = now;
		rate->count = 0;
	}
	if (rate->count++ < REPORTS_PER_SECOND)
		return 1;
	count(COUNT_SUPPRESSED);
	keep(key, *n);
	return 0;
}

/* Reserves a report and fills what all reports have; NULL: none is to be sent. */
static __always_inline struct report *tell(enum reason reason, __u32 proto, struct endpoint *dst,
					   __u64 sock_cgroup, int known)
{
	struct repeat_key key = {.cgroup = sock_cgroup, .reason = reason, .dst = *dst};
	__u64 now = bpf_ktime_get_boot_ns();
	struct report *r;
	__u32 n = 0;

	if (known) {
		key.tgid = current_task()->tgid;
		key.start = current_task()->group_leader->start_boottime;
	}
	if (!may_tell(&key, now, &n))
		return NULL;
	r = bpf_ringbuf_reserve(&reports, sizeof(*r), 0);
	if (!r) {
		count(COUNT_LOST);
		keep(&key, n);
		return NULL;
	}
	__builtin_memset(r, 0, sizeof(*r));
	r->time = now;
	r->reason = reason;
	r->proto = proto;
	r->known = known;
	r->repeats = n;
	r->lost = counted(COUNT_LOST);
	r->suppressed = counted(COUNT_SUPPRESSED);
	r->who.layout = LAYOUT;
	if (known)
		fill_task(&r->who);
	r->who.sock_cgroup = sock_cgroup;
	r->who.dst = *dst;
	return r;
}

/* Tells the loader that a covered process is where there is no passage. */
static __always_inline void tell_birth(__u64 netns)
{
	__u64 now = bpf_ktime_get_boot_ns(), *told = bpf_map_lookup_elem(&born, &netns);
	struct birth *b;

	if (told && now - *told < SECOND / 20)
		return;
	bpf_map_update_elem(&born, &netns, &now, BPF_ANY);
	b = bpf_ringbuf_reserve(&births, sizeof(*b), 0);
	if (!b)
		return;
	b->netns = netns;
	b->tgid = current_task()->tgid;
	b->start = current_task()->group_leader->start_boottime;
	b->zero = 0;
	bpf_ringbuf_submit(b, 0);
}

/* Is nothing enforced? Then what would be refused is let through. */
static __always_inline int observing(void)
{
	struct settings *s = the_settings();

	return s && s->observes;
}

/*
 * Reports a refused system call of the current task. 1: let it through all the
 * same, nothing is enforced.
 */
static __always_inline int refuse(enum reason reason, __u32 proto, struct endpoint *dst, __u64 netns)
{
	struct report *r;

	count(COUNT_REFUSED);
	r = tell(reason, proto, dst, 0, 1);
	if (r) {
		r->who.netns = netns;
		bpf_ringbuf_submit(r, 0);
	}
	return observing();
}

#endif
