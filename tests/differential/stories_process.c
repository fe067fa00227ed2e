/*
 * Processes and threads: signals, cancellation, forks of every kind, other rights, roots,
 * namespaces.
 */
#include "differential.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OTHER_USER 12345

static volatile sig_atomic_t caught;

/* A call that is begun anew each time would never end: the third signal interrupts it all the same.
 */
static void catch_it(int number)
{
	struct sigaction action = {.sa_handler = catch_it};

	if (++caught == 2)
		sigaction(SIGALRM, &action, NULL);
}

/* SIGALRM soon and, should that be too soon, again and again. */
static void interrupt(bool restart)
{
	struct sigaction action = {.sa_handler = catch_it, .sa_flags = restart ? SA_RESTART : 0};
	struct itimerval soon = {.it_value.tv_usec = 20000, .it_interval.tv_usec = 20000};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
}

static void uninterrupt(void)
{
	struct itimerval never = {.it_value.tv_sec = 0};

	setitimer(ITIMER_REAL, &never, NULL);
	tell("restarted=%d", caught >= 3);
}

static void interrupted(const struct story *s)
{
	struct address to = address_of(place->void_, OPEN_PORT);
	int fd = tcp();

	interrupt(s->value);
	if (s->other)
		CALL("sendto",
			sendto(fd, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, SOCKADDR(&to), to.length));
	else
		CALL("connect", connect(fd, SOCKADDR(&to), to.length));
	uninterrupt();
	tell_descriptor(fd);
	set_impatient(fd);
	CALL("connect", connect(fd, SOCKADDR(&to), to.length));
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	CALL("connect", connect(fd, &none, sizeof none));
	tell_descriptor(fd);
	do_connect(fd, place->loopback, OPEN_PORT, 0);
	tell_descriptor(fd);
	CALL("close", close(fd));
}

static void *connect_to_void(void *argument)
{
	struct address to = address_of(place->void_, OPEN_PORT);

	connect(*(int *)argument, SOCKADDR(&to), to.length);
	return NULL;
}

static void cancelled(const struct story *s)
{
	struct timespec a_bit = {.tv_nsec = 20000000};
	pthread_t thread;
	void *result;
	int fd = tcp();

	must(-pthread_create(&thread, NULL, connect_to_void, &fd), "pthread_create");
	if (s->value)
		nanosleep(&a_bit, NULL);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	tell("cancelled=%d", result == PTHREAD_CANCELED);
	/* Cancelled before it began, or in the middle: told only where that is certain. */
	if (s->value)
		tell_descriptor(fd);
	CALL("close", close(fd));
	tell_open();
	tell_ordinary();
}

static void *calls_when_cancelled(void *argument)
{
	struct address to = address_of(place->loopback, OPEN_PORT);
	int *which = argument, fd = tcp();

	pthread_cancel(pthread_self());
	switch (*which) {
	case 0:
		connect(fd, SOCKADDR(&to), to.length);
		break;
	case 1:
		close(fd);
		break;
	case 2:
		sendto(fd, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, SOCKADDR(&to), to.length);
		break;
	case 3:
		bind(fd, SOCKADDR(&to), to.length);
		break;
	case 4:
		dup2(fd, 30);
		break;
	case 5:
		close_range((unsigned)fd, (unsigned)fd, 0);
		break;
	case 6:
		fcntl(fd, F_DUPFD, 30);
		break;
	default:
		fcntl(fd, F_GETFD);
	}
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	return NULL;
}

/* Which calls are cancellation points, and what they have done then. */
static void cancellation_point(const struct story *s)
{
	pthread_t thread;
	void *result;
	int which = s->value;

	must(-pthread_create(&thread, NULL, calls_when_cancelled, &which), "pthread_create");
	pthread_join(thread, &result);
	tell("cancelled=%d", result == PTHREAD_CANCELED);
	tell_open();
}

/* The calls in a signal's handler, on descriptors of the program. */
static int handled;

static void handle(int number)
{
	struct address to = address_of(place->loopback, OPEN_PORT);

	CALL("connect", connect(handled, SOCKADDR(&to), to.length));
	CALL("dup2", dup2(handled, 40));
	CALL("close", close(handled));
}

static void in_handler(const struct story *s)
{
	struct sigaction action = {.sa_handler = handle};

	handled = tcp();
	sigaction(SIGUSR1, &action, NULL);
	errno = UNTOUCHED;
	raise(SIGUSR1);
	tell_descriptor(40);
	tell_open();
}

/* What a child does with its parent's sockets. */
static void child_s_part(int connected, int fresh, int bound)
{
	struct address to = address_of(place->loopback, OPEN_PORT);

	CALL("connect", connect(fresh, SOCKADDR(&to), to.length));
	CALL("connect", connect(bound, SOCKADDR(&to), to.length));
	CALL("dup2", dup2(connected, 45));
	CALL("close", close(connected));
	CALL("close", close(fresh));
	CALL("close_range", close_range(44, 46, 0));
	tell_open();
}

static pid_t fork_by(int how)
{
	switch (how) {
	case 0:
		return fork();
	case 1:
		return _Fork();
	default:
		return (pid_t)syscall(SYS_fork);
	}
}

static void tell_after_child(pid_t child, int connected, int fresh, int bound)
{
	int status = 0;

	waitpid(child, &status, 0);
	tell("status=%x", status);
	tell_open();
	tell_descriptor(connected);
	tell_descriptor(fresh);
	tell_descriptor(bound);
	CALL("close", close(connected));
	CALL("close", close(fresh));
	tell_ordinary();
}

static void child(const struct story *s)
{
	int connected = tcp(), fresh = tcp(), bound = tcp();

	do_connect(connected, place->loopback, OPEN_PORT, 0);
	do_bind(bound, place->any, 0);
	pid_t pid = fork_by(s->value);
	if (pid == 0) {
		child_s_part(connected, fresh, bound);
		_exit(7);
	}
	tell_after_child(pid, connected, fresh, bound);
}

static void vfork_child(const struct story *s)
{
	int connected = tcp(), fresh = tcp(), bound = tcp();

	do_connect(connected, place->loopback, OPEN_PORT, 0);
	do_bind(bound, place->any, 0);
	pid_t pid = vfork();
	if (pid == 0) {
		child_s_part(connected, fresh, bound);
		_exit(7);
	}
	tell_after_child(pid, connected, fresh, bound);
}

static void tell_once(const struct story *s)
{
	tell_ordinary();
}

/* Other surroundings, then an ordinary life. */
static void rootless(const struct story *s)
{
	char path[] = "/tmp/differential.XXXXXX";

	if (mkdtemp(path) == NULL || chroot(path) < 0)
		tell_result("chroot", -1);
	rmdir(path);
	tell_result("rmdir", chdir("/"));
	tell_ordinary();
}

static void another_user(const struct story *s)
{
	CALL("setgid", setgid(OTHER_USER));
	CALL("setuid", setuid(OTHER_USER));
	tell_ordinary();
	int fd = tcp();
	do_bind(fd, place->any, 0);
	tell_descriptor(fd);
}

static void unshared(const struct story *s)
{
	int before = tcp(), connected = tcp();

	do_connect(connected, place->loopback, OPEN_PORT, 0);
	CALL("unshare", unshare(s->value));
	struct address to = address_of(place->loopback, OPEN_PORT);
	CALL("connect", connect(before, SOCKADDR(&to), to.length));
	tell_descriptor(before);
	CALL("close", close(connected));
	tell_ordinary();
	tell_open();
}

static void of_namespaces(const struct story *s)
{
	int own = open("/proc/self/ns/net", O_RDONLY), mounts = open("/proc/self/ns/mnt", O_RDONLY);
	int null = open("/dev/null", O_RDONLY);

	CALL("setns", setns(-1, CLONE_NEWNET));
	CALL("setns", setns(1234, 0));
	CALL("setns", setns(null, CLONE_NEWNET));
	CALL("setns", setns(own, CLONE_NEWUTS));
	CALL("setns", setns(mounts, CLONE_NEWNET));
	CALL("setns", setns(own, -1));
	tell_ordinary();
	CALL("setns", setns(own, CLONE_NEWNET));
	tell_ordinary();
	CALL("unshare", unshare(CLONE_NEWNET));
	tell_ordinary();
	CALL("setns", setns(own, 0));
	tell_ordinary();
}

static void unshare_arguments(const struct story *s)
{
	CALL("unshare", unshare(0));
	CALL("unshare", unshare(-1));
	CALL("unshare", unshare(1));
	CALL("unshare", unshare(CLONE_FILES));
	CALL("unshare", unshare(CLONE_FS));
	tell_ordinary();
}

const struct story stories_process[] = {
	{"an ordinary life", tell_once},
	{"interrupted connect", interrupted},
	{"interrupted connect, SA_RESTART", interrupted, 1},
	{"interrupted fastopen", interrupted, 0, 1},
	{"cancelled at once", cancelled},
	{"cancelled while it connects", cancelled, 1},
	{"cancellation point connect", cancellation_point, 0},
	{"cancellation point close", cancellation_point, 1},
	{"cancellation point sendto", cancellation_point, 2},
	{"cancellation point bind", cancellation_point, 3},
	{"cancellation point dup2", cancellation_point, 4},
	{"cancellation point close_range", cancellation_point, 5},
	{"cancellation point F_DUPFD", cancellation_point, 6},
	{"cancellation point F_GETFD", cancellation_point, 7},
	{"in a signal's handler", in_handler},
	{"fork", child, 0},
	{"_Fork", child, 1},
	{"fork by system call", child, 2},
	{"vfork", vfork_child},
	{"chroot", rootless},
	{"another user", another_user},
	{"unshare the network", unshared, CLONE_NEWNET},
	{"unshare a user", unshared, CLONE_NEWUSER},
	{"unshare a user and the network", unshared, CLONE_NEWUSER | CLONE_NEWNET},
	{"unshare descriptors", unshared, CLONE_FILES},
	{"unshare processes", unshared, CLONE_NEWPID},
	{"unshare, no such flags", unshare_arguments},
	{"setns", of_namespaces},
	{NULL, NULL},
};
