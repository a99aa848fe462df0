/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * wire TARGET TOKEN FROM HOW [pause]: speaks TCP by hand, with CAP_NET_RAW.
 * HOW: raw (the kernel writes the IP header), header (IP_HDRINCL), or
 * packet=INTERFACE (AF_PACKET, IPv4 only). FROM is the address to send from.
 *
 * The kernel would answer the server's SYN-ACK with a reset. A listener on the
 * same port that takes only packets of the largest TTL keeps it quiet.
 */
#include "attempt.h"

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>

#define IPV6_MINHOPCOUNT_ 73

static struct address target, from;
static struct sockaddr_ll link_to;
static int out = -1, in = -1, header, family;
static const char *interface;

static void quiet(void)
{
	int fd = socket(family, SOCK_STREAM, 0), most = 255;

	if (family == AF_INET)
		tell("IP_MINTTL", setsockopt(fd, IPPROTO_IP, IP_MINTTL, &most, sizeof(most)));
	else
		tell("IPV6_MINHOPCOUNT",
		     setsockopt(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT_, &most, sizeof(most)));
	tell("bind", bind(fd, &from.sa, from.len));
	tell("listen", listen(fd, 1));
	getsockname(fd, &from.sa, &from.len);
}

/* resolve asks the neighbour table for the server's hardware address. */
static void resolve(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in nudge = target.in;
	struct arpreq r = {};

	if (!strcmp(interface, "lo"))
		return;
	nudge.sin_port = htons(9);
	memcpy(&r.arp_pa, &target.in, sizeof(target.in));
	strncpy(r.arp_dev, interface, sizeof(r.arp_dev) - 1);
	for (int i = 0; i < patience(); i += 10) {
		sendto(fd, "", 1, 0, (struct sockaddr *)&nudge, sizeof(nudge));
		usleep(10000);
		if (!ioctl(fd, SIOCGARP, &r) && (r.arp_flags & ATF_COM)) {
			memcpy(link_to.sll_addr, r.arp_ha.sa_data, 6);
			close(fd);
			return;
		}
	}
	tell("SIOCGARP", -1);
}

static void open_packet(char *name)
{
	interface = name;
	out = in = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP));
	tell("socket(AF_PACKET)", out);
	link_to = (struct sockaddr_ll){.sll_family = AF_PACKET,
				       .sll_protocol = htons(ETH_P_IP),
				       .sll_ifindex = if_nametoindex(name),
				       .sll_halen = 6};
	tell("bind", bind(in, (struct sockaddr *)&link_to, sizeof(link_to)));
	header = 1;
}

static void open_raw(int own_header)
{
	in = socket(family, SOCK_RAW, IPPROTO_TCP);
	tell("socket(SOCK_RAW, IPPROTO_TCP)", in);
	out = in;
	if (own_header) {
		out = socket(family, SOCK_RAW, IPPROTO_RAW);
		tell("socket(SOCK_RAW, IPPROTO_RAW)", out);
		header = 1;
	}
}

static uint32_t add(uint32_t sum, const void *data, size_t n)
{
	const uint8_t *b = data;

	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? b[i] : b[i] << 8;
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum);
}

static uint16_t checksum(const void *segment, size_t n)
{
	uint32_t sum = IPPROTO_TCP + n;

	if (family == AF_INET) {
		sum = add(sum, &from.in.sin_addr, 4);
		sum = add(sum, &target.in.sin_addr, 4);
	} else {
		sum = add(sum, &from.in6.sin6_addr, 16);
		sum = add(sum, &target.in6.sin6_addr, 16);
	}
	return fold(add(sum, segment, n));
}

static size_t write_header(char *p, size_t payload)
{
	if (family == AF_INET) {
		struct iphdr h = {.ihl = 5, .version = 4, .ttl = 64, .protocol = IPPROTO_TCP};

		h.tot_len = htons(sizeof(h) + payload);
		h.saddr = from.in.sin_addr.s_addr;
		h.daddr = target.in.sin_addr.s_addr;
		h.check = fold(add(0, &h, sizeof(h)));
		memcpy(p, &h, sizeof(h));
		return sizeof(h);
	}
	struct ip6_hdr h = {.ip6_src = from.in6.sin6_addr, .ip6_dst = target.in6.sin6_addr};

	h.ip6_flow = htonl(6 << 28);
	h.ip6_plen = htons(payload);
	h.ip6_nxt = IPPROTO_TCP;
	h.ip6_hops = 64;
	memcpy(p, &h, sizeof(h));
	return sizeof(h);
}

static void segment(const char *step, uint8_t flags, uint32_t seq, uint32_t ack, const char *data)
{
	char packet[512];
	size_t at = header ? write_header(packet, sizeof(struct tcphdr) + strlen(data)) : 0;
	size_t n = sizeof(struct tcphdr) + strlen(data);
	struct tcphdr *t = (void *)(packet + at);
	struct address where = target;
	ssize_t r;

	memset(t, 0, sizeof(*t));
	t->source = from.in.sin_port;
	t->dest = target.in.sin_port;
	t->seq = htonl(seq);
	t->ack_seq = htonl(ack);
	t->doff = 5;
	t->th_flags = flags;
	t->window = htons(65535);
	memcpy(t + 1, data, strlen(data));
	t->check = checksum(t, n);
	where.in.sin_port = 0; /* no port in a raw socket's address */
	if (link_to.sll_family)
		r = sendto(out, packet, at + n, 0, (struct sockaddr *)&link_to, sizeof(link_to));
	else
		r = sendto(out, packet, at + n, 0, &where.sa, where.len);
	tell(step, r);
}

/* answered waits for the SYN-ACK and returns the server's sequence number. */
static uint32_t answered(void)
{
	struct pollfd p = {in, POLLIN, 0};
	char packet[2048];

	while (poll(&p, 1, patience()) > 0) {
		ssize_t n = recv(in, packet, sizeof(packet), 0);
		size_t at = family == AF_INET ? (packet[0] & 0x0f) * 4 : 0;
		struct tcphdr *t = (void *)(packet + at);

		if (n < (ssize_t)(at + sizeof(*t)) || t->source != target.in.sin_port ||
		    t->dest != from.in.sin_port)
			continue;
		if (t->th_flags == (TH_SYN | TH_ACK)) {
			tell("SYN-ACK", 0);
			return ntohl(t->seq);
		}
	}
	errno = ETIMEDOUT;
	tell("SYN-ACK", -1);
	return 0;
}

int main(int argc, char **argv)
{
	uint32_t theirs;

	if (argc < 5)
		bad("usage: wire TARGET TOKEN FROM HOW [pause]");
	target = parse(argv[1]);
	from = parse(argv[3]);
	family = target.sa.sa_family;
	quiet();
	if (!strncmp(argv[4], "packet=", 7))
		open_packet(argv[4] + 7);
	else
		open_raw(!strcmp(argv[4], "header"));
	if (argc > 5)
		pause_here(out);
	if (link_to.sll_family)
		resolve();
	segment("SYN", TH_SYN, 1000, 0, "");
	theirs = answered();
	segment("ACK with data", TH_ACK | TH_PUSH, 1001, theirs + 1, argv[2]);
	return 0;
}
