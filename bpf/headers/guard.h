/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the programs and the loader share. A change of a structure or of a
 * map's shape is a new LAYOUT and a new folder of pins.
 */
#ifndef __SALLYPORT_GUARD_H
#define __SALLYPORT_GUARD_H

#include "kernel.h"

#define LAYOUT	   3
#define MAX_LEVELS 32	       /* cgroup levels looked at, from the root */
#define RANGES	   32	       /* ranges of ports that one prefix can have */
#define HEAD	   128	       /* bytes of a dropped packet that are reported */
#define TICK	   10000000ULL /* ns in a clock tick of /proc/PID/stat */
#define SHARE	   4096	       /* records of one network namespace that wait to be handed over */
#define NAMED	   51	       /* bytes of the address of the passage's unix listener */

enum mode {
	MODE_NONE = 0, /* not set: everybody is covered, nobody gets through */
	MODE_HOST = 1,
	MODE_CGROUP = 2,
};

enum role {
	ROLE_LOADER = 1, /* may bind the passage's port */
	ROLE_DAEMON = 2, /* may reach protected destinations */
};

enum side {
	SIDE_CLIENT = 1,
	SIDE_PASSAGE = 2,
	SIDE_ASKED = 3,	   /* connect is under way: only dst is filled */
	SIDE_LISTENER = 4, /* the passage's own unix listener: nothing else is filled */
};

enum reason {
	REASON_PACKET = 1,	/* a packet that went round: dropped */
	REASON_NO_LISTENER = 2, /* no passage in this network namespace */
	REASON_DATAGRAM = 3,	/* UDP and others: no passage for them */
	REASON_SOCKET = 4,	/* raw, SCTP, DCCP */
	REASON_BIND = 5,	/* the passage's port */
	REASON_DIRECT = 6,	/* the passage dialled directly */
	REASON_FULL = 7,	/* the hand-over has no room */
	REASON_ALIAS = 8,	/* another local address of a protected one */
	REASON_INTERNAL = 9,	/* no memory for the record, not set up */
	REASON_UNIX = 10,	/* a unix socket that is not on the allow-list */
};

enum counter {
	COUNT_TURNED = 0,     /* connections turned into the passage */
	COUNT_HANDED = 1,     /* records handed to an accepted socket */
	COUNT_REFUSED = 2,    /* system calls refused */
	COUNT_DROPPED = 3,    /* packets dropped */
	COUNT_SUPPRESSED = 4, /* reports not sent because of the rate */
	COUNT_LOST = 5,	      /* reports not sent because the ring was full */
	COUNTERS = 6,
};

struct settings {
	__u32 layout;
	__u32 mode;	     /* enum mode */
	__u64 daemon_cgroup; /* cgroup2 id */
	__u16 port;	     /* of the passage, host order */
	__u8 unix_list;	     /* 1: only listed unix sockets may be connected to */
	__u8 observes;	     /* 1: what is refused or dropped is only reported, and let through */
	__u8 zero[4];
	__u64 around; /* cgroup2 id, covered as if listed: the list is full; 0: it is not */
};

/*
 * A protected prefix with all its ports, those of shorter prefixes included:
 * the longest match alone decides. Prefix ::/128 holds the ports that some
 * address of this host is protected at.
 */
struct prefix {
	__u32 bits;
	__be32 addr[4]; /* IPv4 as ::ffff:a.b.c.d */
};

struct range {
	__u16 first, last; /* host order */
};

struct ports {
	__u32 n;
	struct range at[RANGES];
};

struct endpoint {
	__be32 addr[4]; /* IPv4 as ::ffff:a.b.c.d */
	__u16 port;	/* host order */
	__u16 zero;
};

struct process_key {
	__u32 tgid; /* initial pid namespace */
	__u32 role; /* enum role */
};

struct process {
	__u64 start;	 /* ns since boot; compared by TICK */
	__u64 pid_inode; /* 0: not known */
	__u64 cgroup;	 /* cgroup2 id that it must be below; 0: any */
};

/* The passage of one network namespace. */
struct listener {
	__u16 port;	   /* host order */
	__u8 v4, v6;	   /* families that it serves */
	__u8 local[NAMED]; /* abstract address of its unix listener; local[1] is 0 where there is none */
	__u8 zero;
	__u64 witness; /* cookie of the socket at 127.0.0.1 that lives and dies with it */
};

struct flow_key {
	__u64 netns;	/* cookie */
	__be32 addr[4]; /* the client's */
	__u16 port;	/* the client's, host order */
	__u16 passage;	/* host order */
	__u32 zero;
};

/* What the kernel knows of who connected, and whither. */
struct record {
	__u32 layout;
	__u32 side;	   /* enum side */
	__u64 start;	   /* group leader's start_boottime, ns */
	__u64 pid_inode;   /* struct pid's, 0 before 6.9 */
	__u64 cgroup;	   /* current task's, cgroup2 id */
	__u64 sock_cgroup; /* socket's, cgroup2 id */
	__u64 exe_inode;
	__u64 netns;		 /* cookie */
	__u64 client;		 /* socket cookie of the client's socket */
	__u32 tgid, pid;	 /* initial pid namespace */
	__u32 uid, gid;		 /* initial user namespace */
	__u32 exe_dev;		 /* kernel's encoding: major << 20 | minor */
	__u32 pid_ns;		 /* inode number */
	struct endpoint dst;	 /* as asked for */
	struct endpoint reached; /* after other programs changed it */
	__u8 comm[16];
};

/* The client socket's record carries the key that it is handed over under. */
struct origin {
	struct record record;
	struct flow_key key;
};

struct report {
	__u64 time;	   /* ns since boot */
	__u64 lost;	   /* COUNT_LOST so far */
	__u64 suppressed;  /* COUNT_SUPPRESSED so far */
	struct record who; /* dst: the protected endpoint */
	__u32 reason;	   /* enum reason */
	__u32 known;	   /* 1: who is the process that did it */
	__u32 proto;	   /* IPPROTO_ */
	__u32 length;	   /* of the packet, 0 for a refused system call */
	__u32 captured;	   /* bytes in head */
	__u32 repeats;	   /* earlier ones that this report stands for */
	__u8 head[HEAD];   /* packet from its network header */
};

struct repeat_key {
	__u64 cgroup; /* socket's, or the task's where it has none */
	__u64 start;  /* of the process, where it is known */
	__u32 tgid;
	__u32 reason;
	struct endpoint dst;
	__u32 zero;
};

struct repeat {
	__u64 next;  /* no report before, ns since boot */
	__u64 count; /* since the last report */
};

struct rate {
	__u64 second;
	__u64 count;
};

/* The address of a connect that is under way, where it is not protected. */
struct question {
	__u64 socket; /* cookie */
	struct endpoint dst;
	__u32 zero;
};

/* A network namespace that has covered processes and no passage. */
struct birth {
	__u64 netns; /* cookie */
	__u64 start; /* of a process in it, ns since boot */
	__u32 tgid;
	__u32 zero;
};

#define PATH 108 /* sizeof(sun_path) */

/*
 * A unix socket's name, for the longest match: kind, then the bytes. An exact
 * path ends with its NUL, a prefix does not. An abstract name is exact: its
 * length stands first.
 */
struct path {
	__u32 bits;
	__u8 kind; /* 'p' path, 'a' abstract */
	__u8 name[PATH + 1];
	__u8 zero[2];
};

enum naming {
	UNIX_ALLOWED = 1,
	UNIX_PROTECTED = 2,
};

/* What a client of a unix socket asked for. */
struct local {
	struct record record;
	__u64 length;
	__u8 name[PATH];
	__u8 zero[4];
};

#endif
