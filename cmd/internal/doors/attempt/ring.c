/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * ring TARGET TOKEN [polled [pause]]: connects and sends by requests in an io_uring;
 * polled: a thread of the kernel takes them.
 */
#include "attempt.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define ENTRIES 4

static struct io_uring_params params;
static int ring;
static char *rings;
static struct io_uring_sqe *requests;

static unsigned *at(unsigned offset)
{
	return (unsigned *)(rings + offset);
}

static void set_up(unsigned flags)
{
	size_t size;

	params.flags = flags;
	ring = syscall(SYS_io_uring_setup, ENTRIES, &params);
	tell("io_uring_setup", ring);
	size = params.sq_off.array + params.sq_entries * sizeof(unsigned);
	if (size < params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe))
		size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	requests = mmap(NULL, params.sq_entries * sizeof(*requests), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
			IORING_OFF_SQES);
	tell("mmap", rings == MAP_FAILED || requests == MAP_FAILED ? -1 : 0);
}

/* ask hands one request over and waits for its result. */
static void ask(const char *step, struct io_uring_sqe request)
{
	unsigned tail = *at(params.sq_off.tail), slot = tail & *at(params.sq_off.ring_mask), head;
	struct io_uring_cqe *results = (void *)(rings + params.cq_off.cqes);
	long r;

	requests[slot] = request;
	at(params.sq_off.array)[slot] = slot;
	__atomic_store_n(at(params.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
	do
		r = syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP,
			    NULL, 0);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		tell("io_uring_enter", r);
	head = *at(params.cq_off.head);
	r = results[head & *at(params.cq_off.ring_mask)].res;
	__atomic_store_n(at(params.cq_off.head), head + 1, __ATOMIC_RELEASE);
	if (r < 0)
		errno = -r;
	tell(step, r);
}

int main(int argc, char **argv)
{
	struct address target;
	int fd;

	if (argc < 3)
		bad("usage: ring TARGET TOKEN [polled [pause]]");
	target = parse(argv[1]);
	set_up(argc > 3 ? IORING_SETUP_SQPOLL : 0);
	if (argc > 4)
		pause_here(ring);
	alarm(patience() / 1000 + 2);
	fd = socket(target.sa.sa_family, SOCK_STREAM, 0);
	tell("socket", fd);
	ask("connect", (struct io_uring_sqe){.opcode = IORING_OP_CONNECT,
					     .fd = fd,
					     .addr = (unsigned long)&target.sa,
					     .off = target.len});
	ask("send", (struct io_uring_sqe){.opcode = IORING_OP_SEND,
					  .fd = fd,
					  .addr = (unsigned long)argv[2],
					  .len = strlen(argv[2]),
					  .msg_flags = MSG_NOSIGNAL});
	return 0;
}
