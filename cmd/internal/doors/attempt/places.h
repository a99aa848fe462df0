/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Steps that change where an agent is: its cgroup, its namespaces, its folder. */
#ifndef ATTEMPT_PLACES_H
#define ATTEMPT_PLACES_H

#include "attempt.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	tell(path, n);
	close(fd);
}

/* join moves the agent into a cgroup, by its folder. */
static void join(char *dir)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	put(path, "0");
}

/* clone goes on in a child that is born in another cgroup. */
static void clone_into(char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), status;
	struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = fd};
	pid_t child;

	tell("open cgroup", fd);
	child = syscall(SYS_clone3, &args, sizeof(args));
	if (child == 0)
		return;
	tell("clone3(CLONE_INTO_CGROUP)", child);
	if (waitpid(child, &status, 0) < 0)
		tell("wait", -1);
	exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void become_root(int namespaces, const char *step)
{
	char uid[64], gid[64];

	snprintf(uid, sizeof(uid), "0 %d 1", getuid());
	snprintf(gid, sizeof(gid), "0 %d 1", getgid());
	tell(step, unshare(CLONE_NEWUSER | namespaces));
	put("/proc/self/setgroups", "deny");
	put("/proc/self/uid_map", uid);
	put("/proc/self/gid_map", gid);
}

/* unshare makes the agent root in a user and a network namespace of its own. */
static void unshare_it(char *unused)
{
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd;

	become_root(CLONE_NEWNET, "unshare(CLONE_NEWUSER|CLONE_NEWNET)");
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	tell("lo up", ioctl(fd, SIOCSIFFLAGS, &r));
	close(fd);
}

static void unshare_mounts(char *unused)
{
	become_root(CLONE_NEWNS, "unshare(CLONE_NEWUSER|CLONE_NEWNS)");
}

/* mount=SOURCE,AT */
static void bind_mount(char *what)
{
	char *at = strchr(what, ',');

	if (!at)
		bad(what);
	*at++ = 0;
	tell("mount", mount(what, at, NULL, MS_BIND, NULL));
}

/* setns=DESCRIPTOR */
static void set_namespace(char *fd)
{
	tell("setns", setns(atoi(fd), CLONE_NEWNET));
}

static void change_folder(char *dir)
{
	tell("chdir", chdir(dir));
}

#endif
