/*
 * Programs that forbid themselves system calls, by seccomp: those that the library makes on the way
 * and they do not, above all. An error in the library's own business is none of the program's.
 */
#include "differential.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From here on the system call @number gives @error; 0: the process is killed. */
static void forbid(int number, int error)
{
	unsigned action =
		error == 0 ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | (unsigned)error;
	struct sock_filter steps[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = 4, .filter = steps};

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
	must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "PR_SET_SECCOMP");
}

/* A whole life with the call forbidden, also to the program itself. */
static void ordinary(const struct story *s)
{
	forbid(s->value, s->other);
	tell_ordinary();
}

/* The call becomes forbidden when the socket is there: connect() ... */
static void connecting(const struct story *s)
{
	struct address a = address_of(place->loopback, OPEN_PORT);
	int fd = tcp(), datagram = udp();

	forbid(s->value, s->other);
	CALL("connect", connect(fd, SOCKADDR(&a), a.length));
	CALL("connect", connect(datagram, SOCKADDR(&a), a.length));
}

/* ... or when it is connected: close(). */
static void closing(const struct story *s)
{
	int fd = tcp(), datagram = udp();

	do_connect(fd, place->loopback, OPEN_PORT, 0);
	do_connect(datagram, place->loopback, OPEN_PORT, 0);
	forbid(s->value, s->other);
	CALL("close", close(fd));
	CALL("close", close(datagram));
}

#define CALLS(told, error, number)                                                                 \
	{"forbidden " #number told " in a whole life", ordinary, SYS_##number, error},             \
		{"forbidden " #number told ", connect", connecting, SYS_##number, error},          \
	{                                                                                          \
		"forbidden " #number told ", close", closing, SYS_##number, error                  \
	}

#define KILLED(number)                                                                             \
	{"killed at " #number ", connect", connecting, SYS_##number, 0},                           \
	{                                                                                          \
		"killed at " #number ", close", closing, SYS_##number, 0                           \
	}

const struct story stories_filter[] = {
	CALLS("", EPERM, socket),
	CALLS("", EPERM, bind),
	CALLS("", EPERM, connect),
	CALLS("", EPERM, getsockname),
	CALLS("", EPERM, getsockopt),
	CALLS("", EPERM, setsockopt),
	CALLS("", EPERM, sendto),
	CALLS("", EPERM, recvfrom),
	CALLS("", EPERM, sendmsg),
	CALLS("", EPERM, recvmsg),
	CALLS("", EPERM, close),
	CALLS("", EPERM, close_range),
	CALLS("", EPERM, dup2),
	CALLS("", EPERM, fcntl),
	CALLS("", EPERM, openat),
	CALLS("", EPERM, read),
	CALLS("", EPERM, mmap),
	CALLS("", EPERM, munmap),
	CALLS("", EPERM, getpid),
	CALLS("", EPERM, kill),
	CALLS("", EPERM, ioctl),
	CALLS("", EPERM, getrandom),
	CALLS("", EPERM, clock_gettime),
	CALLS("", EPERM, rt_sigprocmask),
	CALLS(" (ENOSYS)", ENOSYS, setsockopt),
	CALLS(" (ENOSYS)", ENOSYS, getsockopt),
	CALLS(" (ENOSYS)", ENOSYS, mmap),
	CALLS(" (EINVAL)", EINVAL, bind),
	CALLS(" (EADDRINUSE)", EADDRINUSE, bind),
	CALLS(" (EINVAL)", EINVAL, setsockopt),
	CALLS(" (ENOPROTOOPT)", ENOPROTOOPT, getsockopt),
	KILLED(socket),
	KILLED(bind),
	KILLED(getsockname),
	KILLED(getsockopt),
	KILLED(setsockopt),
	KILLED(sendto),
	KILLED(recvfrom),
	KILLED(openat),
	KILLED(mmap),
	KILLED(munmap),
	KILLED(getpid),
	KILLED(gettid),
	KILLED(kill),
	KILLED(getrandom),
	KILLED(clock_gettime),
	KILLED(rt_sigprocmask),
	KILLED(fcntl),
	KILLED(ioctl),
	{NULL, NULL},
};
