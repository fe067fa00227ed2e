/*
 * steps [IN OUT]: makes the calls it is told, one a line, and answers each with one line.
 *
 * The answer is the call's result, or the name of the error. errno is set to a mark before
 * each call; when a call that succeeds has changed it, the answer ends in " errno". The table of
 * orders at the end of this file says what can be asked for. "stack ORDER" makes the call on a
 * stack of its own and answers with the bytes of it that were used as well. Orders come on
 * descriptor IN (0) and answers go to OUT (1), which survive "exec". An order that is "child ..."
 * goes to the child of the last "fork".
 */
#include "endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

#define UNTOUCHED      4242
#define LINE_MAX_BYTES 4096
#define WORDS_MAX      16
#define A_WHILE_US     100000
#define PAINT	       0xa5

static int orders = STDIN_FILENO, answers = STDOUT_FILENO;
static pid_t child_pid;
static int child_orders = -1;
static char answer[LINE_MAX_BYTES]; /* when an order has more to say than a number */

static int number(const char *word)
{
	return atoi(word);
}

/* Words: ADDRESS[%INTERFACE INDEX] PORT. */
static struct endpoint endpoint_of(char **words)
{
	char *scope = strchr(words[0], '%');

	if (scope != NULL)
		*scope = '\0';
	struct endpoint e = endpoint_read(words[0], words[1]);
	if (scope != NULL)
		((struct sockaddr_in6 *)&e.address)->sin6_scope_id = (uint32_t)atoi(scope + 1);
	return e;
}

static int do_socket(char **words)
{
	static const struct {
		const char *name;
		int family, type, protocol;
	} kinds[] = {
		{"v4", AF_INET, SOCK_STREAM, 0},
		{"v6", AF_INET6, SOCK_STREAM, 0},
		{"mptcp", AF_INET, SOCK_STREAM, IPPROTO_MPTCP},
		{"udp", AF_INET, SOCK_DGRAM, 0},
		{"udp6", AF_INET6, SOCK_DGRAM, 0},
		{"unix", AF_UNIX, SOCK_STREAM, 0},
		{"cloexec", AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0},
		{"nonblock", AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0},
	};

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strcmp(words[0], kinds[i].name) == 0)
			return socket(kinds[i].family, kinds[i].type, kinds[i].protocol);
	abort();
}

static int do_connect(char **words)
{
	struct endpoint to = endpoint_of(words + 1);

	return connect(number(words[0]), (struct sockaddr *)&to.address, to.length);
}

/* A send that connects. */
static int do_fastopen(char **words)
{
	struct endpoint to = endpoint_of(words + 1);

	return (int)sendto(
		number(words[0]), "x", 1, MSG_FASTOPEN, (struct sockaddr *)&to.address, to.length);
}

/* connect() past libc. */
static int do_raw_connect(char **words)
{
	struct endpoint to = endpoint_of(words + 1);

	return (int)syscall(SYS_connect, number(words[0]), &to.address, to.length);
}

static int do_unspec(char **words)
{
	struct sockaddr to = {.sa_family = AF_UNSPEC};

	return connect(number(words[0]), &to, sizeof to);
}

static int do_raw_unspec(char **words)
{
	struct sockaddr to = {.sa_family = AF_UNSPEC};

	return (int)syscall(SYS_connect, number(words[0]), &to, sizeof to);
}

static int do_unix(char **words)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};

	snprintf(to.sun_path, sizeof to.sun_path, "%s", words[1]);
	return connect(number(words[0]), (struct sockaddr *)&to, sizeof to);
}

static int do_bind(char **words)
{
	struct endpoint to = endpoint_of(words + 1);

	return bind(number(words[0]), (struct sockaddr *)&to.address, to.length);
}

static int do_listen(char **words)
{
	return listen(number(words[0]), number(words[1]));
}

static int do_accept(char **words)
{
	return accept(number(words[0]), NULL, NULL);
}

static int do_name(char **words)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof name;
	char host[INET6_ADDRSTRLEN] = "";

	if (getsockname(number(words[0]), (struct sockaddr *)&name, &length) < 0)
		return -1;
	bool v4 = name.ss_family == AF_INET;
	inet_ntop(name.ss_family,
		v4 ? (void *)&((struct sockaddr_in *)&name)->sin_addr
		   : (void *)&((struct sockaddr_in6 *)&name)->sin6_addr,
		host, sizeof host);
	snprintf(answer, sizeof answer, "%s %u", host,
		ntohs(((struct sockaddr_in *)&name)->sin_port));
	return 0;
}

static int do_option(char **words)
{
	static const struct {
		const char *name;
		int level, option, value;
	} known[] = {
		{"reuseaddr", SOL_SOCKET, SO_REUSEADDR, 1},
		{"reuseport", SOL_SOCKET, SO_REUSEPORT, 1},
		{"no-port", IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1},
		{"user-timeout", IPPROTO_TCP, TCP_USER_TIMEOUT, 100},
		{"v6only", IPPROTO_IPV6, IPV6_V6ONLY, 1},
		{"mark", SOL_SOCKET, SO_MARK, 7},
		{"transparent", IPPROTO_IP, IP_TRANSPARENT, 1},
		{"freebind", IPPROTO_IP, IP_FREEBIND, 1},
		{"one-port", IPPROTO_IP, IP_LOCAL_PORT_RANGE, 32001 << 16 | 32001},
	};
	struct linger reset = {.l_onoff = 1};

	if (strcmp(words[1], "reset") == 0)
		return setsockopt(number(words[0]), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(words[1], known[i].name) == 0)
			return setsockopt(number(words[0]), known[i].level, known[i].option,
				&known[i].value, sizeof known[i].value);
	abort();
}

static int do_device(char **words)
{
	return setsockopt(number(words[0]), SOL_SOCKET, SO_BINDTODEVICE, words[1],
		(socklen_t)strlen(words[1]));
}

/* The error a non-blocking connect() ended with. */
static int do_error(char **words)
{
	int error = 0;
	socklen_t length = sizeof error;

	if (getsockopt(number(words[0]), SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		return -1;
	snprintf(answer, sizeof answer, "%s", error ? strerrorname_np(error) : "0");
	return 0;
}

/* "watch FD": an epoll descriptor that waits for FD to be writable. */
static int do_watch(char **words)
{
	struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
	int fd = epoll_create1(0);

	return epoll_ctl(fd, EPOLL_CTL_ADD, number(words[0]), &event) < 0 ? -1 : fd;
}

/* "writable EPOLL": whether an event of a connection, made or failed, has come within a second. */
static int do_writable(char **words)
{
	struct epoll_event event = {.events = 0};

	/* A TCP socket that does not connect yet reports EPOLLOUT | EPOLLHUP. */
	for (int i = 0; i < 2; i++)
		if (epoll_wait(number(words[0]), &event, 1, 1000) == 1 &&
			(!(event.events & EPOLLHUP) || event.events & EPOLLERR))
			break;
	snprintf(answer, sizeof answer, "%s%s", event.events & EPOLLOUT ? "writable" : "nothing",
		event.events & EPOLLHUP ? " hung up" : "");
	return 0;
}

static int do_close(char **words)
{
	return close(number(words[0]));
}

static int do_dup(char **words)
{
	return dup(number(words[0]));
}

static int do_dup2(char **words)
{
	return dup2(number(words[0]), number(words[1]));
}

static int do_dup3(char **words)
{
	return dup3(number(words[0]), number(words[1]), O_CLOEXEC);
}

static int do_dupfd(char **words)
{
	return fcntl(number(words[0]), F_DUPFD, number(words[1]));
}

static int do_dupfd_cloexec(char **words)
{
	return fcntl(number(words[0]), F_DUPFD_CLOEXEC, number(words[1]));
}

static int do_close_range(char **words)
{
	return close_range((unsigned)number(words[0]), (unsigned)number(words[1]), 0);
}

static int do_closefrom(char **words)
{
	closefrom(number(words[0]));
	return 0;
}

static int do_shutdown(char **words)
{
	return shutdown(number(words[0]), SHUT_RDWR);
}

static int do_fclose(char **words)
{
	FILE *file = fdopen(number(words[0]), "r+");

	return file == NULL ? -1 : fclose(file);
}

static int do_open(char **words)
{
	return open(words[0], O_RDONLY);
}

static int do_write(char **words)
{
	return (int)write(number(words[0]), words[1], strlen(words[1]));
}

/* What the next signal's handler does, once. */
static struct {
	int close;	       /* this descriptor, if not -1 */
	struct endpoint *open; /* a connection there */
	volatile int opened;   /* its descriptor, or -1 */
} in_handler = {.close = -1, .opened = -1};

static void on_signal(int signal_number)
{
	int error = errno;

	if (in_handler.close >= 0)
		close(in_handler.close);
	if (in_handler.open != NULL) {
		int fd = socket(in_handler.open->address.ss_family, SOCK_STREAM, 0);

		if (connect(fd, (struct sockaddr *)&in_handler.open->address,
			    in_handler.open->length) == 0)
			in_handler.opened = fd;
	}
	in_handler.close = -1;
	in_handler.open = NULL;
	errno = error;
}

/* connect() while a timer sends signals whose handler does not restart calls. */
static int do_interrupt(char **words)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct itimerval soon = {.it_value.tv_usec = A_WHILE_US, .it_interval.tv_usec = A_WHILE_US};
	struct itimerval never = {.it_value.tv_usec = 0};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
	int result = do_connect(words);
	int error = errno;
	setitimer(ITIMER_REAL, &never, NULL);
	errno = error;
	return result;
}

/* As "interrupt"; the handler connects to ADDRESS PORT, the last two words. */
static int do_interrupt_connect(char **words)
{
	struct endpoint elsewhere = endpoint_of(words + 3);

	in_handler.open = &elsewhere;
	in_handler.opened = -1;
	int result = do_interrupt(words);
	snprintf(answer, sizeof answer, "%s %d", result < 0 ? strerrorname_np(errno) : "0",
		in_handler.opened);
	return 0;
}

/* As "interrupt"; the handler closes the descriptor. */
static int do_interrupt_close(char **words)
{
	in_handler.close = number(words[0]);
	return do_interrupt(words);
}

static void *connecting(void *words)
{
	do_connect(words);
	return NULL;
}

/* connect() in a thread that is cancelled while it waits. */
static int do_cancel(char **words)
{
	pthread_t thread;
	void *result;

	if (pthread_create(&thread, NULL, connecting, words) != 0)
		abort();
	usleep(A_WHILE_US);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	snprintf(
		answer, sizeof answer, "%s", result == PTHREAD_CANCELED ? "cancelled" : "returned");
	errno = UNTOUCHED;
	return 0;
}

/* "begin_connect ..." as connect, in a thread; "end_connect" waits for it and tells what it got. */
static struct {
	pthread_t thread;
	struct endpoint to;
	int fd, error;
} beside;

static void *connect_beside(void *unused)
{
	beside.error =
		connect(beside.fd, (struct sockaddr *)&beside.to.address, beside.to.length) < 0
			? errno
			: 0;
	return NULL;
}

static int do_begin_connect(char **words)
{
	beside.fd = number(words[0]);
	beside.to = endpoint_of(words + 1);
	return pthread_create(&beside.thread, NULL, connect_beside, NULL) == 0 ? 0 : -1;
}

static int do_end_connect(char **words)
{
	pthread_join(beside.thread, NULL);
	snprintf(answer, sizeof answer, "%s", beside.error ? strerrorname_np(beside.error) : "0");
	return 0;
}

/* "pass FD" sends FD to the child, whose "take" receives it; "pass_many" by sendmmsg(). */
static int passing[2] = {-1, -1};

static ssize_t send_one(struct msghdr *message)
{
	return sendmsg(passing[0], message, 0);
}

static ssize_t send_many(struct msghdr *message)
{
	struct mmsghdr messages[2] = {{.msg_hdr = *message}, {.msg_hdr = *message}};

	/* The first one brings a byte only, which "take" reads past. */
	messages[0].msg_hdr.msg_control = NULL;
	messages[0].msg_hdr.msg_controllen = 0;
	return sendmmsg(passing[0], messages, 2, 0);
}

static int pass(char **words, ssize_t (*send_it)(struct msghdr *message))
{
	char byte = 'x', control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	int fd = number(words[0]);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(head), &fd, sizeof fd);
	return (int)send_it(&message);
}

static int do_pass(char **words)
{
	return pass(words, send_one);
}

static int do_pass_many(char **words)
{
	return pass(words, send_many);
}

static int do_take(char **words)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control};
	int fd = -1;

	do {
		message.msg_controllen = sizeof control;
		if (recvmsg(passing[1], &message, 0) != 1)
			return -1;
	} while (CMSG_FIRSTHDR(&message) == NULL);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

static int fork_with(pid_t (*make)(void))
{
	int ends[2];

	if (passing[0] < 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, passing) < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		return -1;
	child_pid = make();
	if (child_pid != 0) {
		close(ends[1]);
		child_orders = ends[0];
		return child_pid < 0 ? -1 : 0;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(ends[0]);
	orders = answers = ends[1];
	child_orders = -1;
	/* The parent answers; the child waits for orders. */
	return -2;
}

static int do_fork(char **words)
{
	return fork_with(fork);
}

static int do_raw_fork(char **words)
{
	return fork_with(_Fork);
}

/* No libc, so no handlers. */
static pid_t fork_by_system_call(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static int do_clone(char **words)
{
	return fork_with(fork_by_system_call);
}

/* A vfork child closes descriptors FIRST to LAST, as spawning programs do, and ends. */
static int do_vfork(char **words)
{
	int first = number(words[0]), last = number(words[1]);
	pid_t pid = vfork();

	if (pid == 0) {
		for (int fd = first; fd <= last; fd++)
			close(fd);
		_exit(0);
	}
	if (pid < 0)
		return -1;
	waitpid(pid, NULL, 0);
	errno = UNTOUCHED; /* which is the child's as well */
	return 0;
}

/* A vfork child sets an option, as do_option(), and ends. */
static int do_vfork_option(char **words)
{
	pid_t pid = vfork();
	int status;

	if (pid == 0)
		_exit(do_option(words) == 0 ? 0 : 1);
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	errno = UNTOUCHED;
	return WEXITSTATUS(status);
}

/* A vfork child enters the network namespace in which it is, and ends. */
static int do_vfork_setns(char **words)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), status;
	pid_t pid = vfork();

	if (pid == 0)
		_exit(setns(fd, CLONE_NEWNET) == 0 ? 0 : 1);
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	close(fd);
	errno = UNTOUCHED;
	return WEXITSTATUS(status);
}

static int do_wait(char **words)
{
	int status, result = waitpid(child_pid, &status, 0);

	if (result > 0)
		snprintf(answer, sizeof answer, "%s %d", WIFSIGNALED(status) ? "signal" : "exit",
			WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return result < 0 ? -1 : 0;
}

/* "lock current", "lock future" or "lock both": mlockall(). */
static int do_lock(char **words)
{
	return mlockall(strcmp(words[0], "future") == 0	   ? MCL_FUTURE
			: strcmp(words[0], "current") == 0 ? MCL_CURRENT
							   : MCL_CURRENT | MCL_FUTURE);
}

static int do_exec(char **words)
{
	char in[12], out[12];

	snprintf(in, sizeof in, "%d", orders);
	snprintf(out, sizeof out, "%d", answers);
	return execl("/proc/self/exe", "steps", in, out, (char *)NULL);
}

static int do_exit(char **words)
{
	exit(3);
}

static int do_quick_exit(char **words)
{
	_exit(4);
}

static int do_abort(char **words)
{
	abort();
}

static const struct {
	const char *name;
	int arguments;
	int (*run)(char **words);
} table[] = {
	{"socket", 1, do_socket},	    /* KIND */
	{"connect", 3, do_connect},	    /* FD ADDRESS PORT */
	{"fastopen", 3, do_fastopen},	    /* as connect, by sendto() */
	{"raw_connect", 3, do_raw_connect}, /* as connect, past libc */
	{"unspec", 1, do_unspec},	    /* FD: connect() to AF_UNSPEC */
	{"raw_unspec", 1, do_raw_unspec},   /* past libc */
	{"unix", 2, do_unix},		    /* FD PATH: connect() to an AF_UNIX path */
	{"bind", 3, do_bind},		    /* FD ADDRESS PORT */
	{"listen", 2, do_listen},	    /* FD BACKLOG */
	{"accept", 1, do_accept},	    /* FD */
	{"name", 1, do_name},		    /* FD: local address and port */
	{"option", 2, do_option},	    /* FD NAME: setsockopt() */
	{"device", 2, do_device},	    /* FD NAME: SO_BINDTODEVICE */
	{"error", 1, do_error},		    /* FD: SO_ERROR */
	{"watch", 1, do_watch},
	{"writable", 1, do_writable},
	{"close", 1, do_close},
	{"dup", 1, do_dup},
	{"dup2", 2, do_dup2},
	{"dup3", 2, do_dup3},
	{"dupfd", 2, do_dupfd}, /* FD LOWEST */
	{"dupfd_cloexec", 2, do_dupfd_cloexec},
	{"close_range", 2, do_close_range},
	{"closefrom", 1, do_closefrom},
	{"shutdown", 1, do_shutdown},
	{"fclose", 1, do_fclose},
	{"open", 1, do_open},		/* PATH */
	{"write", 2, do_write},		/* FD WORD */
	{"interrupt", 3, do_interrupt}, /* as connect */
	{"interrupt_connect", 5, do_interrupt_connect},
	{"interrupt_close", 3, do_interrupt_close},
	{"cancel", 3, do_cancel},		/* as connect */
	{"begin_connect", 3, do_begin_connect}, /* as connect */
	{"end_connect", 0, do_end_connect},
	{"pass", 1, do_pass},
	{"pass_many", 1, do_pass_many},
	{"take", 0, do_take},
	{"fork", 0, do_fork},
	{"_Fork", 0, do_raw_fork},
	{"clone", 0, do_clone},
	{"vfork", 2, do_vfork},
	{"vfork_option", 2, do_vfork_option},
	{"vfork_setns", 0, do_vfork_setns},
	{"wait", 0, do_wait},
	{"lock", 1, do_lock},
	{"exec", 0, do_exec},
	{"exit", 0, do_exit},
	{"_exit", 0, do_quick_exit},
	{"abort", 0, do_abort},
};

/* Byte by byte: nothing may be read that an exec'd image is to read. */
static bool read_line(int fd, char line[LINE_MAX_BYTES])
{
	size_t length = 0;

	while (length + 1 < LINE_MAX_BYTES && read(fd, line + length, 1) == 1) {
		if (line[length] == '\n') {
			line[length] = '\0';
			return true;
		}
		length++;
	}
	return false;
}

/* The call of an order, and what came of it. */
static struct {
	int (*run)(char **words);
	char **words;
	int result, error;
	bool measured;
	size_t used; /* bytes of the stack */
} call;

static void make_call(void)
{
	answer[0] = '\0';
	errno = UNTOUCHED;
	call.result = call.run(call.words);
	call.error = errno;
}

static void make_call_in_handler(int unused)
{
	make_call();
}

/*
 * Paints a stack, has the call made on it, and looks how far the paint is gone. A handler's, since
 * not every libc has makecontext().
 */
static void make_call_on_stack(void)
{
	static _Alignas(64) unsigned char stack[1 << 18];
	stack_t there = {.ss_sp = stack, .ss_size = sizeof stack}, none = {.ss_flags = SS_DISABLE};
	struct sigaction action = {.sa_handler = make_call_in_handler, .sa_flags = SA_ONSTACK};
	size_t untouched = 0;

	memset(stack, PAINT, sizeof stack);
	sigaltstack(&there, NULL);
	sigaction(SIGUSR2, &action, NULL);
	raise(SIGUSR2);
	sigaltstack(&none, NULL);
	while (untouched < sizeof stack && stack[untouched] == PAINT)
		untouched++;
	call.used = sizeof stack - untouched;
}

static void obey(char *line)
{
	char *all[WORDS_MAX] = {strtok(line, " ")}, **words = all;
	int count = 0;

	while (words[count] != NULL && count + 1 < WORDS_MAX)
		words[++count] = strtok(NULL, " ");
	call.measured = count > 1 && strcmp(words[0], "stack") == 0;
	words += call.measured;
	count -= call.measured;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		if (count == 0 || strcmp(words[0], table[i].name) != 0 ||
			count != table[i].arguments + 1)
			continue;
		call.run = table[i].run;
		call.words = words + 1;
		if (call.measured)
			make_call_on_stack();
		else
			make_call();
		if (call.result == -2)
			return;
		if (call.result < 0)
			snprintf(answer, sizeof answer, "%s", strerrorname_np(call.error));
		else if (answer[0] == '\0')
			snprintf(answer, sizeof answer, "%d%s", call.result,
				call.error == UNTOUCHED ? "" : " errno");
		if (call.measured)
			dprintf(answers, "%s, %zu bytes of stack\n", answer, call.used);
		else
			dprintf(answers, "%s\n", answer);
		return;
	}
	dprintf(answers, "not an order\n");
}

int main(int argc, char **argv)
{
	char line[LINE_MAX_BYTES];

	signal(SIGPIPE, SIG_IGN);
	if (argc == 3) {
		orders = atoi(argv[1]);
		answers = atoi(argv[2]);
		dprintf(answers, "0\n"); /* the answer to "exec" */
	}
	while (read_line(orders, line)) {
		if (strncmp(line, "child ", 6) == 0) {
			dprintf(child_orders, "%s\n", line + 6);
			dprintf(answers, "%s\n", read_line(child_orders, line) ? line : "gone");
		} else {
			obey(line);
		}
	}
	return 0;
}
