/*
 * dup(), dup2(), dup3(), fcntl(), close(), close_range(), closefrom(), setsockopt().
 */
#include "differential.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

static void duplicate(int fd, const struct call *c)
{
	CALL("dup", dup(fd));
}

static void duplicate_and_close(int fd, const struct call *c)
{
	int other = dup(fd);

	CALL("close", close(fd));
	tell_descriptor(other);
	CALL("close", close(other));
}

static void to_number(int fd, const struct call *c)
{
	CALL("dup2", dup2(fd, c->value));
}

static void to_itself(int fd, const struct call *c)
{
	CALL("dup2", dup2(fd, fd));
}

static void over_another(int fd, const struct call *c)
{
	int other = c->value == SOCK_STREAM ? tcp() : udp();

	do_connect(other, place->loopback, OPEN_PORT, 0);
	CALL("dup2", dup2(fd, other));
	tell_descriptor(other);
}

static void under_another(int fd, const struct call *c)
{
	int other = tcp();

	do_connect(other, place->loopback, OPEN_PORT, 0);
	CALL("dup2", dup2(other, fd));
	tell_descriptor(other);
}

static void to_number_with(int fd, const struct call *c)
{
	CALL("dup3", dup3(fd, c->value, c->flags));
}

static void to_itself_with(int fd, const struct call *c)
{
	CALL("dup3", dup3(fd, fd, c->flags));
}

static void control(int fd, const struct call *c)
{
	CALL("fcntl", fcntl(fd, c->value, c->flags));
}

static void control_of_pointer(int fd, const struct call *c)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	CALL("fcntl", fcntl(fd, c->value, &lock));
	tell("type=%d", lock.l_type);
}

static void control_of_unmapped(int fd, const struct call *c)
{
	CALL("fcntl", fcntl(fd, c->value, nowhere()));
}

static void control_of_owner(int fd, const struct call *c)
{
	struct f_owner_ex owner = {.type = F_OWNER_PID, .pid = getpid()};

	CALL("fcntl", fcntl(fd, F_SETOWN_EX, &owner));
	owner.pid = 0;
	CALL("fcntl", fcntl(fd, F_GETOWN_EX, &owner));
	tell("own=%d", owner.pid == getpid());
}

static void control_without_argument(int fd, const struct call *c)
{
	CALL("fcntl", fcntl(fd, c->value));
}

static void close_it(int fd, const struct call *c)
{
	CALL("close", close(fd));
	CALL("close", close(fd));
}

static void close_range_of(int fd, const struct call *c)
{
	CALL("close_range", close_range((unsigned)fd, (unsigned)fd, c->flags));
}

static void close_range_from(int fd, const struct call *c)
{
	CALL("close_range", close_range((unsigned)fd, ~0U, c->flags));
}

static void close_range_to(int fd, const struct call *c)
{
	CALL("close_range", close_range(3, (unsigned)fd, c->flags));
}

static void close_range_backwards(int fd, const struct call *c)
{
	CALL("close_range", close_range((unsigned)fd, (unsigned)fd - 1, c->flags));
}

static void close_from(int fd, const struct call *c)
{
	errno = UNTOUCHED;
	closefrom(fd);
	tell_result("closefrom", 0);
}

static void close_from_number(int fd, const struct call *c)
{
	errno = UNTOUCHED;
	closefrom(c->value);
	tell_result("closefrom", 0);
}

static void set(int fd, const struct call *c)
{
	CALL("setsockopt", setsockopt(fd, c->flags, c->port, &c->value,
				   c->length == 0 ? sizeof c->value : (socklen_t)c->length));
}

static void set_pointer(int fd, const struct call *c)
{
	CALL("setsockopt",
		setsockopt(fd, c->flags, c->port, c->value ? nowhere() : NULL, sizeof(int)));
}

static void set_device(int fd, const struct call *c)
{
	if (strcmp(c->text, DEVICE) == 0)
		set_nonblocking(fd);
	CALL("setsockopt",
		setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, c->text, (socklen_t)strlen(c->text)));
}

static void listen_on(int fd, const struct call *c)
{
	CALL("listen", listen(fd, 5));
}

static void shut(int fd, const struct call *c)
{
	CALL("shutdown", shutdown(fd, c->value));
}

static void watch(int fd, const struct call *c)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP};
	int watcher = epoll_create1(0);

	CALL("epoll_ctl", epoll_ctl(watcher, EPOLL_CTL_ADD, fd, &event));
	event.events = 0;
	CALL("epoll_wait", epoll_wait(watcher, &event, 1, 0));
	tell("events=%x", event.events);
}

const struct call calls_descriptor[] = {
	{"dup", duplicate},
	{"dup and close", duplicate_and_close},
	{"dup2 to itself", to_itself},
	{"dup2 to 50", to_number, .value = 50},
	{"dup2 to -1", to_number, .value = -1},
	{"dup2 to INT_MAX", to_number, .value = INT_MAX},
	{"dup2 to INT_MIN", to_number, .value = INT_MIN},
	{"dup2 to the limit", to_number, .value = 1024},
	{"dup2 to the last", to_number, .value = 1023},
	{"dup2 over tcp", over_another, .value = SOCK_STREAM},
	{"dup2 over udp", over_another, .value = SOCK_DGRAM},
	{"dup2 of tcp over it", under_another},
	{"dup3 to itself", to_itself_with},
	{"dup3 to itself, O_CLOEXEC", to_itself_with, .flags = O_CLOEXEC},
	{"dup3 to 50", to_number_with, .value = 50},
	{"dup3 to 50, O_CLOEXEC", to_number_with, .value = 50, .flags = O_CLOEXEC},
	{"dup3 to 50, O_NONBLOCK", to_number_with, .value = 50, .flags = O_NONBLOCK},
	{"dup3 to 50, all flags", to_number_with, .value = 50, .flags = -1},
	{"dup3 to -1", to_number_with, .value = -1},
	{"dup3 to the limit", to_number_with, .value = 1024},
	{"F_DUPFD 0", control, .value = F_DUPFD},
	{"F_DUPFD 70", control, .value = F_DUPFD, .flags = 70},
	{"F_DUPFD -1", control, .value = F_DUPFD, .flags = -1},
	{"F_DUPFD of the limit", control, .value = F_DUPFD, .flags = 1024},
	{"F_DUPFD of the last", control, .value = F_DUPFD, .flags = 1023},
	{"F_DUPFD_CLOEXEC 70", control, .value = F_DUPFD_CLOEXEC, .flags = 70},
	{"F_DUPFD_CLOEXEC INT_MAX", control, .value = F_DUPFD_CLOEXEC, .flags = INT_MAX},
	{"F_GETFD without argument", control_without_argument, .value = F_GETFD},
	{"F_GETFL without argument", control_without_argument, .value = F_GETFL},
	{"F_SETFD FD_CLOEXEC", control, .value = F_SETFD, .flags = FD_CLOEXEC},
	{"F_SETFD -1", control, .value = F_SETFD, .flags = -1},
	{"F_SETFL O_NONBLOCK", control, .value = F_SETFL, .flags = O_NONBLOCK},
	{"F_SETFL O_ASYNC", control, .value = F_SETFL, .flags = O_ASYNC},
	{"F_SETFL O_DIRECT", control, .value = F_SETFL, .flags = O_DIRECT},
	{"F_GETOWN", control, .value = F_GETOWN},
	{"F_SETOWN INT_MIN", control, .value = F_SETOWN, .flags = INT_MIN},
	{"F_SETOWN_EX", control_of_owner},
	{"F_SETOWN_EX unmapped", control_of_unmapped, .value = F_SETOWN_EX},
	{"F_GETSIG", control, .value = F_GETSIG},
	{"F_SETSIG", control, .value = F_SETSIG, .flags = SIGUSR1},
	{"F_SETSIG 1000", control, .value = F_SETSIG, .flags = 1000},
	{"F_GETLK", control_of_pointer, .value = F_GETLK},
	{"F_SETLK", control_of_pointer, .value = F_SETLK},
	{"F_OFD_SETLK", control_of_pointer, .value = F_OFD_SETLK},
	{"F_SETLK unmapped", control_of_unmapped, .value = F_SETLK},
	{"F_GETLEASE", control, .value = F_GETLEASE},
	{"F_GETPIPE_SZ", control, .value = F_GETPIPE_SZ},
	{"F_ADD_SEALS", control, .value = F_ADD_SEALS, .flags = F_SEAL_GROW},
	{"fcntl of no command", control, .value = 12345},
	{"fcntl of command -1", control, .value = -1},
	{"close", close_it},
	{"close_range of it", close_range_of},
	{"close_range of it, CLOEXEC", close_range_of, .flags = CLOSE_RANGE_CLOEXEC},
	{"close_range of it, UNSHARE", close_range_of, .flags = CLOSE_RANGE_UNSHARE},
	{"close_range of it, both", close_range_of,
		.flags = CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC},
	{"close_range of it, all flags", close_range_of, .flags = -1},
	{"close_range from it", close_range_from},
	{"close_range from it, CLOEXEC", close_range_from, .flags = CLOSE_RANGE_CLOEXEC},
	{"close_range to it", close_range_to},
	{"close_range backwards", close_range_backwards},
	{"closefrom it", close_from},
	{"closefrom 3", close_from_number, .value = 3},
	{"closefrom 1000", close_from_number, .value = 1000},
	{"closefrom INT_MAX", close_from_number, .value = INT_MAX},
	{"listen", listen_on},
	{"shutdown", shut, .value = SHUT_RDWR},
	{"shutdown 9", shut, .value = 9},
	{"epoll", watch},
	{NULL, NULL},
};

#define SOCKET(option) .flags = SOL_SOCKET, .port = option
#define IP(option)     .flags = IPPROTO_IP, .port = option
#define IPV6(option)   .flags = IPPROTO_IPV6, .port = option

const struct call calls_option[] = {
	{"SO_REUSEADDR on", set, SOCKET(SO_REUSEADDR), .value = 1},
	{"SO_REUSEADDR off", set, SOCKET(SO_REUSEADDR)},
	{"SO_REUSEADDR 7", set, SOCKET(SO_REUSEADDR), .value = 7},
	{"SO_REUSEADDR short", set, SOCKET(SO_REUSEADDR), .value = 1, .length = 1},
	{"SO_REUSEADDR, length -1", set, SOCKET(SO_REUSEADDR), .value = 1, .length = -1},
	{"SO_REUSEADDR NULL", set_pointer, SOCKET(SO_REUSEADDR)},
	{"SO_REUSEADDR unmapped", set_pointer, SOCKET(SO_REUSEADDR), .value = 1},
	{"SO_REUSEPORT on", set, SOCKET(SO_REUSEPORT), .value = 1},
	{"SO_REUSEPORT unmapped", set_pointer, SOCKET(SO_REUSEPORT), .value = 1},
	{"SO_MARK", set, SOCKET(SO_MARK), .value = 9},
	{"SO_BINDTOIFINDEX", set, SOCKET(62), .value = 1},
	{"SO_BINDTOIFINDEX 12345", set, SOCKET(62), .value = 12345},
	{"SO_BINDTODEVICE lo", set_device, "lo"},
	{"SO_BINDTODEVICE wire", set_device, DEVICE},
	{"SO_BINDTODEVICE none", set_device, ""},
	{"SO_BINDTODEVICE missing", set_device, "nonesuch"},
	{"SO_BINDTODEVICE unmapped", set_pointer, SOCKET(SO_BINDTODEVICE), .value = 1},
	{"no such option", set, SOCKET(12345)},
	{"no such level", set, .flags = 12345, .port = 1},
	{"IP_BIND_ADDRESS_NO_PORT on", set, IP(IP_BIND_ADDRESS_NO_PORT), .value = 1},
	{"IP_BIND_ADDRESS_NO_PORT off", set, IP(IP_BIND_ADDRESS_NO_PORT)},
	{"IP_LOCAL_PORT_RANGE", set, IP(IP_LOCAL_PORT_RANGE), .value = 50999 << 16 | 50000},
	{"IP_LOCAL_PORT_RANGE off", set, IP(IP_LOCAL_PORT_RANGE)},
	{"IP_LOCAL_PORT_RANGE backwards", set, IP(IP_LOCAL_PORT_RANGE),
		.value = 40000 << 16 | 50000},
	{"IP_LOCAL_PORT_RANGE unmapped", set_pointer, IP(IP_LOCAL_PORT_RANGE), .value = 1},
	{"IP_FREEBIND", set, IP(IP_FREEBIND), .value = 1},
	{"IP_TRANSPARENT", set, IP(IP_TRANSPARENT), .value = 1},
	{"IP_TOS", set, IP(IP_TOS), .value = 8},
	{"IPV6_V6ONLY", set, IPV6(IPV6_V6ONLY), .value = 1},
	{"IPV6_FREEBIND", set, IPV6(IPV6_FREEBIND), .value = 1},
	{"IPV6_ADDRFORM", set, IPV6(IPV6_ADDRFORM), .value = AF_INET},
	{"TCP_NODELAY", set, .flags = IPPROTO_TCP, .port = TCP_NODELAY, .value = 1},
	{"TCP_FASTOPEN_CONNECT", set, .flags = IPPROTO_TCP, .port = TCP_FASTOPEN_CONNECT,
		.value = 1},
	{"TCP_REPAIR", set, .flags = IPPROTO_TCP, .port = TCP_REPAIR, .value = 1},
	{"TCP_ULP", set, .flags = IPPROTO_TCP, .port = TCP_ULP, .value = 0x736c74, .length = 4},
	{NULL, NULL},
};
