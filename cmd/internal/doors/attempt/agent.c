/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * agent TARGET TOKEN STEP...: takes the steps that a door is described by, one
 * after another, with one socket in hand, and ends at the first that fails.
 */
#include "attempt.h"
#include "places.h"

#include <fcntl.h>
#include <linux/tcp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static int sock = -1;
static struct address target;
static const char *token;

#define SOL_DCCP	     269
#define DCCP_SERVICE	     2
#define IP_LOCAL_PORT_RANGE_ 51

static const struct kind {
	const char *name;
	int family, type, protocol;
} kinds[] = {
	{"tcp4", AF_INET, SOCK_STREAM, 0},
	{"tcp6", AF_INET6, SOCK_STREAM, 0},
	{"mptcp4", AF_INET, SOCK_STREAM, 262},
	{"mptcp6", AF_INET6, SOCK_STREAM, 262},
	{"udp4", AF_INET, SOCK_DGRAM, 0},
	{"udp6", AF_INET6, SOCK_DGRAM, 0},
	{"udplite4", AF_INET, SOCK_DGRAM, 136},
	{"udplite6", AF_INET6, SOCK_DGRAM, 136},
	{"sctp4", AF_INET, SOCK_STREAM, 132},
	{"sctp4-many", AF_INET, SOCK_SEQPACKET, 132},
	{"dccp4", AF_INET, 6, 33},
	{"unix", AF_UNIX, SOCK_STREAM, 0},
	{"unix-datagram", AF_UNIX, SOCK_DGRAM, 0},
	{"vsock", AF_VSOCK, SOCK_STREAM, 0},
};

static void make(char *name)
{
	uint32_t service = htonl(42);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].name, name))
			continue;
		sock = socket(kinds[i].family, kinds[i].type, kinds[i].protocol);
		tell("socket", sock);
		hurry(sock);
		if (kinds[i].protocol == 33)
			setsockopt(sock, SOL_DCCP, DCCP_SERVICE, &service, sizeof(service));
		return;
	}
	bad(name);
}

static void to(char *text)
{
	target = parse(text);
}

/* unspecified takes the family out of the target's address. */
static void unspecified(char *unused)
{
	target.sa.sa_family = AF_UNSPEC;
}

static void bind_to(char *text)
{
	struct address a = parse(text);

	tell("bind", bind(sock, &a.sa, a.len));
}

static void connect_it(char *unused)
{
	tell("connect", connect(sock, &target.sa, target.len));
}

static void disconnect(char *unused)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};

	tell("disconnect", connect(sock, &none, sizeof(none)));
}

static void set(int level, int option, int value, const char *step)
{
	tell(step, setsockopt(sock, level, option, &value, sizeof(value)));
}

static void mark(char *n)
{
	set(SOL_SOCKET, SO_MARK, atoi(n), "SO_MARK");
}

static void reuse(char *unused)
{
	set(SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
	set(SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
}

static void port_range(char *port)
{
	int p = atoi(port);

	set(IPPROTO_IP, IP_LOCAL_PORT_RANGE_, p << 16 | p, "IP_LOCAL_PORT_RANGE");
}

static void fast_open_connect(char *unused)
{
	set(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1, "TCP_FASTOPEN_CONNECT");
}

/* end keeps a connection until the other side has read it: who closes at once
 * is nobody any more when the passage asks for its record. */
static void end(void)
{
	int type = 0;
	socklen_t len = sizeof(type);
	char c;

	getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &len);
	if (type != SOCK_STREAM)
		return;
	shutdown(sock, SHUT_WR);
	while (recv(sock, &c, 1, 0) > 0)
		;
}

static void send_it(char *unused)
{
	tell("send", send(sock, token, strlen(token), MSG_NOSIGNAL));
	end();
}

static void sendto_it(char *unused)
{
	tell("sendto", sendto(sock, token, strlen(token), MSG_NOSIGNAL, &target.sa, target.len));
}

static void fast_open(char *unused)
{
	tell("sendto(MSG_FASTOPEN)",
	     sendto(sock, token, strlen(token), MSG_FASTOPEN | MSG_NOSIGNAL, &target.sa, target.len));
	end();
}

static void sendmmsg_it(char *unused)
{
	struct iovec data = {(void *)token, strlen(token)};
	struct mmsghdr m[2] = {};

	for (int i = 0; i < 2; i++)
		m[i].msg_hdr = (struct msghdr){
			.msg_name = &target.sa, .msg_namelen = target.len, .msg_iov = &data, .msg_iovlen = 1};
	tell("sendmmsg", sendmmsg(sock, m, 2, MSG_NOSIGNAL));
}

static void listen_it(char *unused)
{
	tell("listen", listen(sock, 8));
}

/* accept prints what comes until it is killed. */
static void accept_it(char *unused)
{
	struct timeval none = {};
	char line[256];

	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	for (;;) {
		int fd = accept(sock, NULL, NULL);
		ssize_t n;

		if (fd < 0)
			tell("accept", -1);
		n = recv(fd, line, sizeof(line) - 1, 0);
		line[n > 0 ? n : 0] = 0;
		printf("got %s\n", line);
		fflush(stdout);
		close(fd);
	}
}

static void pause_it(char *unused)
{
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* for pidfd_getfd */
	pause_here(sock);
}

/* pass and take hand the socket over descriptor 3, a unix socket. */
static void pass(char *unused)
{
	char control[CMSG_SPACE(sizeof(int))] = {}, byte = 0;
	struct iovec data = {&byte, 1};
	struct msghdr m = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	*c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(c), &sock, sizeof(int));
	tell("pass", sendmsg(3, &m, 0));
}

static void take(char *unused)
{
	char control[CMSG_SPACE(sizeof(int))] = {}, byte;
	struct iovec data = {&byte, 1};
	struct msghdr m = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *c;

	hurry(3);
	tell("take", recvmsg(3, &m, 0));
	c = CMSG_FIRSTHDR(&m);
	if (!c) {
		errno = ENOTCONN; /* the other side has ended */
		tell("take", -1);
	}
	memcpy(&sock, CMSG_DATA(c), sizeof(int));
}

static void getfd(char *who)
{
	int pid, fd, pidfd;

	if (sscanf(who, "%d,%d", &pid, &fd) != 2)
		bad(who);
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	tell("pidfd_open", pidfd);
	sock = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	tell("pidfd_getfd", sock);
}

static const struct step {
	const char *name;
	void (*take)(char *);
} steps[] = {
	{"socket", make},
	{"to", to},
	{"unspecified", unspecified},
	{"bind", bind_to},
	{"connect", connect_it},
	{"disconnect", disconnect},
	{"mark", mark},
	{"reuse", reuse},
	{"port-range", port_range},
	{"fast-open", fast_open},
	{"fast-open-connect", fast_open_connect},
	{"send", send_it},
	{"sendto", sendto_it},
	{"sendmmsg", sendmmsg_it},
	{"listen", listen_it},
	{"accept", accept_it},
	{"pause", pause_it},
	{"pass", pass},
	{"take", take},
	{"getfd", getfd},
	{"join", join},
	{"clone", clone_into},
	{"unshare", unshare_it},
	{"unshare-mounts", unshare_mounts},
	{"mount", bind_mount},
	{"setns", set_namespace},
	{"chdir", change_folder},
};

int main(int argc, char **argv)
{
	if (argc < 4)
		bad("usage: agent TARGET TOKEN STEP...");
	target = parse(argv[1]);
	token = argv[2];
	for (int i = 3; i < argc; i++) {
		char *arg = strchr(argv[i], '=');
		size_t s;

		if (arg)
			*arg++ = 0;
		for (s = 0; s < sizeof(steps) / sizeof(steps[0]); s++)
			if (!strcmp(steps[s].name, argv[i]))
				break;
		if (s == sizeof(steps) / sizeof(steps[0]))
			bad(argv[i]);
		steps[s].take(arg);
	}
	return 0;
}
