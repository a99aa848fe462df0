/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Who is asking, and whether that is covered. */
#ifndef __SALLYPORT_WHO_H
#define __SALLYPORT_WHO_H

#include "maps.h"

static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task_btf();
}

static __always_inline __u64 pid_inode(struct pid *pid)
{
	if (!bpf_core_field_exists(pid->ino))
		return 0;
	return pid->ino;
}

/* Fills the facts of the current task. */
static __always_inline void fill_task(struct record *r)
{
	struct task_struct *task = current_task();
	struct pid *pid = task->group_leader->thread_pid;
	struct upid upid = {};
	struct inode *exe = task->mm->exe_file->f_inode;

	r->layout = LAYOUT;
	r->tgid = task->tgid;
	r->pid = task->pid;
	r->start = task->group_leader->start_boottime;
	r->pid_inode = pid_inode(pid);
	r->cgroup = task->cgroups->dfl_cgrp->kn->id;
	r->uid = task->cred->uid.val;
	r->gid = task->cred->gid.val;
	r->exe_inode = exe->i_ino;
	r->exe_dev = exe->i_sb->s_dev;
	if (!bpf_core_read(&upid, sizeof(upid), &pid->numbers[pid->level]))
		r->pid_ns = BPF_CORE_READ(upid.ns, ns.inum);
	bpf_core_read(r->comm, sizeof(r->comm), &task->comm);
}

/* Is a cgroup on the list of covered ones, or all that did not fit on it? */
static __always_inline int covers(struct settings *s, __u64 cgroup)
{
	return bpf_map_lookup_elem(&covered, &cgroup) || (s && s->around == cgroup);
}

/* Is the current task in or below a listed cgroup? */
static __always_inline int current_listed(struct settings *s)
{
	for (int i = 0; i < MAX_LEVELS; i++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(i);

		if (!id)
			return 0;
		if (covers(s, id))
			return 1;
	}
	return 0;
}

static __always_inline int current_in(void *set)
{
	for (int i = 0; i < MAX_LEVELS; i++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(i);

		if (!id)
			return 0;
		if (bpf_map_lookup_elem(set, &id))
			return 1;
	}
	return 0;
}

static __always_inline int current_below(__u64 cgroup)
{
	for (int i = 0; i < MAX_LEVELS; i++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(i);

		if (!id)
			return 0;
		if (id == cgroup)
			return 1;
	}
	return 0;
}

/* The id of the socket's cgroup at a level, 0 below its own. */
static __always_inline __u64 sock_ancestor(struct sock *sk, int level)
{
	struct cgroup *cgrp = sk->sk_cgrp_data.cgroup, *a;

	if (level > BPF_CORE_READ(cgrp, level) || bpf_core_read(&a, sizeof(a), &cgrp->ancestors[level]))
		return 0;
	return BPF_CORE_READ(a, kn, id);
}

static __always_inline int sock_listed(struct settings *s, struct sock *sk)
{
	for (int i = 0; i < MAX_LEVELS; i++) {
		__u64 id = sock_ancestor(sk, i);

		if (!id)
			return 0;
		if (covers(s, id))
			return 1;
	}
	return 0;
}

static __always_inline int sock_in(struct sock *sk, void *set)
{
	for (int i = 0; i < MAX_LEVELS; i++) {
		__u64 id = sock_ancestor(sk, i);

		if (!id)
			return 0;
		if (bpf_map_lookup_elem(set, &id))
			return 1;
	}
	return 0;
}

/* Is the current task in the daemon's cgroup? It alone is told records. */
static __always_inline int daemon_asks(void)
{
	struct settings *s = the_settings();

	return s && s->daemon_cgroup && current_below(s->daemon_cgroup);
}

/*
 * The current task is the one registered: by cgroup and by process, so that
 * neither a neighbour in the cgroup nor the next owner of the pid is taken
 * for it.
 */
static __always_inline int current_is(enum role role)
{
	struct task_struct *task = current_task();
	struct process_key key = {.tgid = task->tgid, .role = role};
	struct process *p = bpf_map_lookup_elem(&processes, &key);

	if (!p || p->start / TICK != task->group_leader->start_boottime / TICK)
		return 0;
	if (p->pid_inode) {
		__u64 inode = pid_inode(task->group_leader->thread_pid);

		if (inode && inode != p->pid_inode)
			return 0;
	}
	return !p->cgroup || current_below(p->cgroup);
}

/*
 * Covered in cgroup mode: the task or the socket's maker. In host mode all
 * but those whose task and socket are both exempt. sk may be NULL.
 */
static __always_inline int current_covered(struct settings *s, struct sock *sk)
{
	if (current_is(ROLE_DAEMON))
		return 0;
	if (current_listed(s) || (sk && sock_listed(s, sk)))
		return 1;
	if (s && s->mode == MODE_CGROUP)
		return 0;
	return !(current_in(&exempt) && (!sk || sock_in(sk, &exempt)));
}

#endif
