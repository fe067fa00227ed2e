/*
 * What the kernel is asked: single tuples and all of them, the ports it would choose from,
 * the network namespace, the route. On real connections over loopback.
 */
#include "fixture.h"
#include "kernel/diag.h"
#include "kernel/netns.h"
#include "kernel/route.h"
#include "kernel/sock.h"
#include "kernel/sysctl.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct fixture_connection c;

static void need_diag(void)
{
	int fd = diag_open();

	if (fd < 0)
		cr_skip_test("no sock_diag here");
	diag_close(fd);
	fixture_connect(&c);
}

TestSuite(diag, .init = need_diag);

Test(diag, a_tuple_that_is_open)
{
	cr_expect_eq(diag_tuple(&c.lane, c.lport), DIAG_HELD);
	cr_expect_eq(diag_tuple(&c.lane, c.lport == 1 ? 2 : 1), DIAG_ABSENT);
}

Test(diag, a_tuple_of_another_lane)
{
	struct tuplebind_lane other = c.lane;

	other.fport++;
	cr_expect_eq(diag_tuple(&other, c.lport), DIAG_ABSENT);
	other = c.lane;
	other.faddr[15]++;
	cr_expect_eq(diag_tuple(&other, c.lport), DIAG_ABSENT);
	other = c.lane;
	other.laddr[15]++;
	cr_expect_eq(diag_tuple(&other, c.lport), DIAG_ABSENT);
}

Test(diag, a_tuple_nobody_has_open_any_more)
{
	close(c.client);
	cr_expect_eq(diag_tuple(&c.lane, c.lport), DIAG_ORPHAN);
	close(c.server);
	cr_expect_eq(diag_tuple(&c.lane, c.lport), DIAG_TIMEWAIT);
}

Test(diag, one_socket_for_many_questions)
{
	int fd = diag_open();

	for (int i = 0; i < 100; i++) {
		cr_assert_eq(diag_query(fd, &c.lane, c.lport), DIAG_HELD);
		cr_assert_eq(diag_query(fd, &c.lane, c.lane.fport), DIAG_ABSENT);
	}
	diag_close(fd);
}

Test(diag, without_a_descriptor)
{
	cr_expect_lt(diag_query(-1, &c.lane, c.lport), 0);
}

struct seen {
	unsigned clients, servers, others;
};

static void see(
	void *context, const struct tuplebind_lane *lane, uint16_t lport, enum diag_state state)
{
	struct seen *seen = context;
	bool ours = memcmp(lane, &c.lane, sizeof *lane) == 0 && lport == c.lport;

	if (ours && state == DIAG_HELD)
		seen->clients++;
	else if (lport == c.lane.fport && lane->fport == c.lport)
		seen->servers++;
	else
		seen->others++;
}

Test(diag, a_dump_has_both_ends)
{
	struct seen seen = {0};

	cr_assert_eq(diag_dump(IPPROTO_TCP, 0, see, &seen), 0);
	cr_expect_eq(seen.clients, 1);
	cr_expect_eq(seen.servers, 1);
}

Test(diag, a_dump_of_one_destination)
{
	struct seen seen = {0};

	cr_assert_eq(diag_dump(IPPROTO_TCP, c.lane.fport, see, &seen), 0);
	cr_expect_eq(seen.clients, 1);
	cr_expect_eq(seen.servers, 0);
}

/* A UDP socket of 127.0.0.1, connected to @fport there unless 0; its port in *lport. */
static int udp_socket(uint16_t fport, uint16_t *lport)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct addr unused;

	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	a.sin_port = htons(fport);
	cr_assert(fport == 0 || connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
	cr_assert_eq(sock_local(fd, &unused, lport), 0);
	return fd;
}

Test(diag, udp_tuples)
{
	struct tuplebind_lane lane = c.lane;
	uint64_t cookie;
	uint16_t lport, open_port;

	lane.protocol = IPPROTO_UDP;
	lane.fport = 9;
	int fd = udp_socket(9, &lport), open_fd = udp_socket(0, &open_port), diag = diag_open();
	cr_expect_eq(diag_query_cookie(diag, &lane, lport, &cookie), DIAG_HELD);
	cr_expect_eq(cookie, sock_cookie(fd));
	cr_expect_eq(diag_query_cookie(diag, &lane, open_port, &cookie), DIAG_OPEN);
	cr_expect_eq(cookie, sock_cookie(open_fd), "it would have the datagram");
	lane.fport++;
	cr_expect_eq(diag_query_cookie(diag, &lane, lport, &cookie), DIAG_ABSENT);
	cr_expect_eq(cookie, 0);
	cr_expect_eq(diag_answers(IPPROTO_UDP), 0);
	cr_expect_eq(diag_answers(IPPROTO_TCP), 0);
	/* No module can be there for a protocol that is none: what is said of it is not "absent".
	 */
	cr_expect_eq(diag_answers(253), -EPROTONOSUPPORT);
	lane.fport--;
	close(fd);
	cr_expect_eq(diag_query(diag, &lane, lport), DIAG_ABSENT);
}

struct seen_of {
	uint16_t lport;
	unsigned count;
};

static void see_of(
	void *context, const struct tuplebind_lane *lane, uint16_t lport, enum diag_state state)
{
	struct seen_of *seen = context;

	seen->count +=
		lport == seen->lport && memcmp(lane->laddr, c.lane.laddr, sizeof lane->laddr) == 0;
}

/* connect() of a UDP socket takes port 0: no tuple of ours has that. */
Test(diag, a_dump_leaves_out_a_foreign_port_0)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct seen_of seen = {0};
	int fd = udp_socket(0, &seen.lport);

	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	cr_assert_eq(diag_dump(IPPROTO_UDP, 0, see_of, &seen), 0);
	cr_expect_eq(seen.count, 0);
	a.sin_port = htons(9);
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	cr_assert_eq(diag_dump(IPPROTO_UDP, 0, see_of, &seen), 0);
	cr_expect_eq(seen.count, 1);
}

Test(sock, of_no_address_of_ours)
{
	struct addr laddr;
	uint16_t port;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_expect_eq(sock_local(fd, &laddr, &port), -EAFNOSUPPORT);
	close(fd);
	cr_expect_eq(sock_local(fd, &laddr, &port), -EBADF);
}

Test(sysctl, the_kernels_range)
{
	struct portset range, offered;
	unsigned first, last;
	FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");

	if (file == NULL)
		cr_skip_test("no /proc here");
	cr_assert_eq(fscanf(file, "%u %u", &first, &last), 2);
	fclose(file);
	cr_assert_eq(sysctl_ports(&range, &offered), 0);
	cr_expect_eq(portset_count(&range), last - first + 1);
	cr_expect(portset_has(&range, (uint16_t)first));
	cr_expect(portset_has(&range, (uint16_t)last));
	for (unsigned i = 0; i < 1024; i++)
		cr_assert_eq(offered.words[i] & ~range.words[i], 0, "offered is part of the range");
}

Test(netns, this_one)
{
	struct netns ns, again;

	cr_assert_eq(netns_current(&ns), 0);
	cr_assert_eq(netns_current(&again), 0);
	cr_expect_neq(ns.inode, 0);
	cr_expect_eq(ns.inode, again.inode);
	cr_expect_eq(ns.cookie, again.cookie);
	fixture_connect(&c);
	cr_expect(netns_has_socket(&ns, c.client));
	if (ns.cookie != 0) {
		ns.cookie++;
		cr_expect_not(netns_has_socket(&ns, c.client));
		ns.cookie = 0;
		cr_expect(netns_has_socket(&ns, c.client), "the kernel cannot tell");
	}
}

Test(route, to_loopback)
{
	struct addr to, from;

	addr_parse("127.0.0.1", &to);
	cr_assert_eq(route_source(&to, IPPROTO_TCP, 80, &from), 0);
	cr_expect(addr_equal(&to, &from));
}

Test(route, leaves_no_descriptor)
{
	struct addr to, from;
	int before = dup(STDERR_FILENO), after;

	close(before);
	addr_parse("127.0.0.1", &to);
	route_source(&to, IPPROTO_TCP, 80, &from);
	addr_parse("fe80::1", &to);
	to.scope = 0x7fffffff;
	cr_expect_lt(route_source(&to, IPPROTO_TCP, 80, &from), 0, "there is no such interface");
	after = dup(STDERR_FILENO);
	cr_expect_eq(after, before);
}

Test(route, needs_no_port)
{
	struct addr to, from;

	addr_parse("::1", &to);
	if (route_source(&to, IPPROTO_TCP, 80, &from) == 0)
		cr_expect(addr_equal(&to, &from));
	addr_parse("127.9.9.9", &to);
	cr_assert_eq(route_source(&to, IPPROTO_TCP, 80, &from), 0);
	cr_expect_eq(addr_reach(&from), ADDR_LOOPBACK);
	cr_expect(addr_is_v4(&from));
}

Test(sock, kinds)
{
	cr_expect_eq(sock_kind_of(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), KIND_TCP4);
	cr_expect_eq(sock_kind_of(AF_INET6, SOCK_STREAM, IPPROTO_MPTCP), KIND_TCP6);
	cr_expect_eq(sock_kind_of(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_UDP), KIND_UDP4);
	cr_expect_eq(sock_kind_of(AF_INET6, SOCK_DGRAM, 0), KIND_UDP6);
	cr_expect_eq(sock_kind_of(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), KIND_OTHER);
	cr_expect_eq(sock_kind_of(AF_INET, SOCK_STREAM, IPPROTO_SCTP), KIND_OTHER);
	cr_expect_eq(sock_kind_of(AF_INET, SOCK_RAW, IPPROTO_TCP), KIND_OTHER);
	cr_expect_eq(sock_kind_of(AF_UNIX, SOCK_STREAM, 0), KIND_OTHER);
}

Test(sock, kinds_and_addresses)
{
	struct addr a;
	uint16_t port;

	fixture_connect(&c);
	cr_expect_eq(sock_ask_kind(c.client), KIND_TCP4);
	cr_assert_eq(sock_local(c.client, &a, &port), 0);
	cr_expect_eq(port, c.lport);
	cr_expect_arr_eq(a.bytes, c.lane.laddr, sizeof a.bytes);
	cr_expect_eq(sock_ask_kind(-1), KIND_OTHER);
	cr_expect_eq(sock_ask_kind(fixture_scratch()), KIND_OTHER);
}
