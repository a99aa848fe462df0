/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the attempts share: addresses, and telling what was done. Each line
 * that an attempt prints names a step and how it went; nobody takes its word
 * for where its bytes arrived.
 */
#ifndef ATTEMPT_H
#define ATTEMPT_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

struct address {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
		struct sockaddr_vm vm;
	};
	socklen_t len;
};

/* tell prints how a step went, and ends the attempt where it failed. */
static void tell(const char *step, long result)
{
	printf("%s: %s\n", step, result < 0 ? strerror(errno) : "ok");
	fflush(stdout);
	if (result < 0)
		exit(1);
}

static void bad(const char *what)
{
	printf("not an address or argument: %s\n", what);
	exit(2);
}

/* Reads A.B.C.D:PORT, [V6]:PORT, unix:PATH, abstract:NAME, vsock:CID:PORT. */
static struct address parse(const char *text)
{
	struct address a = {};
	char host[128], *port;

	if (!strncmp(text, "unix:", 5) || !strncmp(text, "abstract:", 9)) {
		int abstract = text[0] == 'a';
		const char *name = strchr(text, ':') + 1;

		if (strlen(name) + 2 > sizeof(a.un.sun_path))
			bad(text);
		a.un.sun_family = AF_UNIX;
		strcpy(a.un.sun_path + abstract, name);
		a.len = offsetof(struct sockaddr_un, sun_path) + strlen(name) + 1;
		return a;
	}
	if (!strncmp(text, "vsock:", 6)) {
		a.vm.svm_family = AF_VSOCK;
		if (sscanf(text, "vsock:%u:%u", &a.vm.svm_cid, &a.vm.svm_port) != 2)
			bad(text);
		a.len = sizeof(a.vm);
		return a;
	}
	if (strlen(text) >= sizeof(host))
		bad(text);
	strcpy(host, text + (text[0] == '['));
	port = strrchr(host, ':');
	if (!port)
		bad(text);
	*port++ = 0;
	if (text[0] == '[') {
		host[strlen(host) - 1] = 0;
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = htons(atoi(port));
		a.len = sizeof(a.in6);
		if (inet_pton(AF_INET6, host, &a.in6.sin6_addr) != 1)
			bad(text);
		return a;
	}
	a.in.sin_family = AF_INET;
	a.in.sin_port = htons(atoi(port));
	a.len = sizeof(a.in);
	if (inet_pton(AF_INET, host, &a.in.sin_addr) != 1)
		bad(text);
	return a;
}

/* pause_here says so, and goes on when a line or the end comes in. */
static inline void pause_here(int fd)
{
	char c;

	printf("paused %d %d\n", getpid(), fd);
	fflush(stdout);
	if (read(0, &c, 1) < 0)
		tell("pause", -1);
}

/* patience is how long an attempt waits for an answer, in milliseconds. */
static int patience(void)
{
	const char *ms = getenv("DOORS_PATIENCE");

	return ms ? atoi(ms) : 1000;
}

static inline void hurry(int fd)
{
	struct timeval t = {patience() / 1000, patience() % 1000 * 1000};

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
}

#endif
