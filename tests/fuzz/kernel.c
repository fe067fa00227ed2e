/*
 * What the kernel answers: sock_diag, rtnetlink, sysctl and /proc.
 *
 * The first byte of the input says which question is asked, the rest is what is received: pieces,
 * each behind its length (16 bits). In a sandbox, or under a tracer, it may be another program that
 * answers. Every question is asked twice, with different garbage in the memory behind each piece,
 * and must be answered alike: nothing is read that was not received.
 */
#include "fuzz.h"

#include "kernel/addresses.h"
#include "kernel/diag.h"
#include "kernel/listeners.h"
#include "kernel/route.h"
#include "kernel/sysctl.h"
#include "table/process.h"
#include "tools/status/capacity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static struct input received;
static unsigned char garbage;
static unsigned calls;

static long receive(void *to, size_t room, int flags)
{
	size_t size = input_16(&received) & 0x3fff;

	if (received.left == 0) {
		errno = EAGAIN;
		return -1;
	}
	if (size > received.left)
		size = received.left;
	size_t kept = size < room ? size : room;
	memset(to, garbage, room);
	input_bytes(&received, to, kept);
	received.at += size - kept;
	received.left -= size - kept;
	return (long)(flags & MSG_TRUNC ? size : kept);
}

static long kernel(long number, const long a[static 6])
{
	fuzz_check(calls++ < 20000, "a question that does not end");
	switch (number) {
	case SYS_socket:
	case SYS_openat:
		return FUZZ_FD;
	case SYS_sendmsg:
	case SYS_sendto:
	case SYS_close:
	case SYS_connect:
		return 1;
	case SYS_ioctl:
		return 0;
	case SYS_recvfrom:
		return receive((void *)a[1], (size_t)a[2], (int)a[3]);
	case SYS_read:
		return received.left == 0 ? 0 : receive((void *)a[1], (size_t)a[2], 0);
	case SYS_getsockname:
		errno = EBADF;
		return -1;
	default:
		return FUZZ_REAL;
	}
}

FILE *__wrap_fopen64(const char *path, const char *mode);

/* /proc/PID/environ */
FILE *__wrap_fopen64(const char *path, const char *mode)
{
	FILE *to = received.left > 0 ? fmemopen((void *)received.at, received.left, "r") : NULL;

	received.left = 0;
	return to;
}

/* What an answer came to, to be compared. */
struct answer {
	long result;
	uint64_t more[4];
	struct addr addr;
	uint64_t hash; /* of all that was visited */
	struct portset ports[2];
};

static void mix(struct answer *to, const void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		to->hash = (to->hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
}

static void visit(
	void *context, const struct tuplebind_lane *lane, uint16_t lport, enum diag_state state)
{
	fuzz_check(state <= DIAG_OPEN && lane->fport != 0);
	mix(context, lane, sizeof *lane);
	mix(context, &lport, sizeof lport);
	mix(context, &state, sizeof state);
}

static void visit_port(void *context, uint16_t port)
{
	mix(context, &port, sizeof port);
}

/* An error is one that the kernel can give. */
static void check_result(long result, long most)
{
	fuzz_check(result >= -4095 && result <= most, "%ld", result);
}

static void ask_diag(struct answer *to, unsigned how)
{
	struct tuplebind_lane lane = {.fport = 80, .protocol = how & 1 ? IPPROTO_UDP : IPPROTO_TCP};

	if (how & 2)
		lane.laddr[10] = lane.laddr[11] = lane.faddr[10] = lane.faddr[11] = 0xff;
	to->result = diag_query_cookie(FUZZ_FD, &lane, 40000, &to->more[0]);
	check_result(to->result, DIAG_OPEN);
	/* Without an answer there is no cookie. */
	fuzz_check(to->result >= DIAG_ABSENT || to->more[0] == 0);
}

static void ask_route(struct answer *to, unsigned how)
{
	struct addr faddr = {.scope = 0};
	unsigned bits = 0;

	if (how & 1)
		faddr = addr_from_number((unsigned __int128)0xffff << 32 | 0x0a000001);
	else
		faddr.bytes[0] = 0x20;
	if (how & 2) {
		to->result = route_source(&faddr, IPPROTO_TCP, 80, &to->addr);
		fuzz_check(to->result != 0 || !addr_is_any(&to->addr));
	} else if (how & 4) {
		to->result = route_check(&faddr, &faddr);
	} else {
		to->result = route_is_local(&faddr, &bits);
		to->more[0] = bits;
	}
	check_result(to->result, 1);
}

static void ask_addresses(struct answer *to)
{
	/* By itself, so that a byte too many is noticed. */
	struct addresses_buffer *buffer = malloc(sizeof *buffer);
	struct addr found[16];

	memset(found, 0, sizeof found);
	to->result = addresses_of("eth0", found, 16, buffer);
	check_result(to->result, 1 << 20);
	for (long i = 0; i < to->result && i < 16; i++)
		fuzz_check(found[i].scope == 0 || addr_reach(&found[i]) == ADDR_LINK);
	mix(to, found, sizeof found);
	free(buffer);
}

static void ask_ports(struct answer *to)
{
	to->result = sysctl_ports(&to->ports[0], &to->ports[1]);
	check_result(to->result, 0);
	fuzz_check(portset_count(&to->ports[0]) > 0);
	struct portset outside = to->ports[1];
	portset_remove(&outside, &to->ports[0]);
	fuzz_check(portset_count(&outside) == 0);
}

static void ask_capacity(struct answer *to)
{
	static struct capacity_base base;
	struct capacity capacity = {.source = CAPACITY_UNKNOWN};
	struct fault f;

	input_8(&received);
	struct input environment = received;
	received.left = 0;
	fuzz_check(capacity_base_read(&base, NULL, &f) == 0);
	received = environment;
	capacity_add_process(&capacity, &base, true, 1);
	capacity_end(&capacity, &base, true);
	fuzz_check(capacity.count == portset_count(&capacity.ports));
	to->result = capacity.count;
	to->ports[0] = capacity.ports;
}

static struct answer ask(const uint8_t *data, size_t size, unsigned char behind)
{
	struct answer to;

	memset(&to, 0, sizeof to);
	garbage = behind;
	calls = 0;
	received = (struct input){data, size};
	unsigned how = input_8(&received);
	switch (how % 8) {
	case 0:
		ask_diag(&to, how / 8);
		break;
	case 1:
		to.result = diag_dump(how / 8 & 1 ? IPPROTO_UDP : IPPROTO_TCP,
			(uint16_t)(how / 8 & 2 ? 80 : 0), visit, &to);
		check_result(to.result, 0);
		break;
	case 2:
		to.result = diag_listeners(visit_port, &to);
		check_result(to.result, 0);
		break;
	case 3:
		ask_route(&to, how / 8);
		break;
	case 4:
		ask_addresses(&to);
		break;
	case 5:
		ask_ports(&to);
		break;
	case 6:
		to.more[0] = process_start_time(1);
		break;
	default:
		ask_capacity(&to);
	}
	return to;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_kernel = kernel;
	struct answer one = ask(data, size, 0), other = ask(data, size, 0xa5);
	fuzz_check(memcmp(&one, &other, sizeof one) == 0, "%ld and %ld", one.result, other.result);
	return 0;
}
