/*
 * differential FAMILY [--unasked] [--exec] [--every N]: prints one line for each case, or for each
 * Nth; see differential.h.
 *
 * Each row (a kind with all calls, a first call of a sequence, a story) runs in a forked child, or
 * with --exec in a new program, so that nothing it does to its process reaches another. A child
 * that dies is told of. With --unasked a descriptor is looked at only after it was used again: a
 * look alone can change what it is. The last line is how many cases there are.
 *
 * differential serve: what they connect to: listens on OPEN_PORT, TCP and UDP, of all addresses,
 * says "ready", and ends with stdin.
 */
#include "differential.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS 30 /* for a row */
#define SOME	8  /* of a kind that is slow to close each call of so many */

static const struct place places[] = {
	{AF_INET, "127.0.0.1", "127.0.0.2", "10.9.0.1", "10.9.0.99", "10.10.0.1", "10.11.0.1",
		"10.12.0.1", "10.13.0.1", "10.14.0.1", "0.0.0.0", "224.0.0.1"},
	{AF_INET6, "::1", "fd08::1", "fd09::1", "fd09::99", "fd10::1", "fd11::1", "fd12::1",
		"fd13::1", "fd14::1", "::", "ff02::1%wire"},
};

const struct place *place;

/* What a row has told, in memory that it shares with its parent and that no closed descriptor takes
 * away. */
#define ROOM (8 << 20)

static struct told {
	size_t length;
	unsigned cases;
	char text[];
} * told;

static bool unasked;

/* Only each so-maniest case of a row is run, beginning with another one in each row. */
static unsigned every = 1;
static unsigned number;

static bool is_wanted(unsigned less)
{
	return number++ % (every * less) == 0;
}

void tell(const char *format, ...)
{
	va_list arguments;
	size_t room = ROOM - sizeof *told - told->length;
	bool joined = *format == '+';

	va_start(arguments, format);
	int length = snprintf(told->text + told->length, room, "%s", joined ? "" : " ");
	length += vsnprintf(told->text + told->length + length, room - (size_t)length,
		format + joined, arguments);
	va_end(arguments);
	if ((size_t)length >= room)
		abort();
	told->length += (size_t)length;
}

void tell_result(const char *what, long result)
{
	int error = errno;

	if (result < 0 && error != UNTOUCHED)
		tell("%s=%s", what, strerrorname_np(error));
	else
		tell("%s=%ld%s%s", what, result, error != UNTOUCHED ? "/wrote:" : "",
			error != UNTOUCHED ? strerrorname_np(error) : "");
}

static void begin(const char *first, const char *second)
{
	tell("+%s%s%s:", first, *second ? " | " : "", second);
}

static void end(void)
{
	tell("+\n");
	told->cases++;
}

/* Whatever a case has left open goes. */
static void close_all(void)
{
	for (int fd = 3; fd < LOW_DESCRIPTORS; fd++)
		if (syscall(SYS_fcntl, fd, F_GETFD) >= 0)
			set_impatient(fd);
	close_range(3, ~0U, 0);
}

static void tell_afterwards(int fd)
{
	struct address to = address_of(place->loopback, OPEN_PORT);
	struct address any = address_of(place->any, 0);

	tell("-");
	if (!unasked)
		tell_descriptor(fd);
	tell("-");
	CALL("connect", connect(fd, SOCKADDR(&to), to.length));
	tell_descriptor(fd);
	tell("-");
	CALL("bind", bind(fd, SOCKADDR(&any), any.length));
	tell_open();
	CALL("close", close(fd));
}

static void run_case(const struct kind *k, const struct call *c)
{
	begin(k->name, c->name);
	errno = UNTOUCHED;
	int fd = k->make();
	tell_result("made", fd);
	set_impatient(fd);
	c->make(fd, c);
	tell_afterwards(fd);
	end();
	close_all();
}

static const struct call *const calls[] = {
	calls_connect, calls_bind, calls_send, calls_descriptor, calls_option};
static const struct kind *const kinds[] = {kinds_any, kinds_tcp, kinds_udp};
static const struct story *const stories[] = {stories_limits, stories_process, stories_filter};

/* What a socket lives through, one after the other. */
static const char *const steps[] = {"connect to loopback", "connect to nobody's port",
	"connect to void", "connect to unrouted", "connect to second", "connect to mapped",
	"connect to AF_UNSPEC", "connect, length 8", "bind to loopback", "bind to any",
	"bind to a port", "bind to foreign", "getsockname", "send", "fastopen to loopback",
	"fastopen to nobody's port", "message to loopback", "dup and close", "dup2 over tcp",
	"close_range of it, CLOEXEC", "listen", "shutdown", "SO_REUSEADDR on", "SO_REUSEPORT on",
	"SO_BINDTODEVICE wire", "IP_BIND_ADDRESS_NO_PORT on", "IP_LOCAL_PORT_RANGE", "IPV6_V6ONLY",
	"TCP_FASTOPEN_CONNECT"};

#define STEPS (sizeof steps / sizeof *steps)

static const struct call *find_call(const char *name)
{
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		for (const struct call *c = calls[i]; c->name != NULL; c++)
			if (strcmp(c->name, name) == 0)
				return c;
	fprintf(stderr, "differential: no call \"%s\"\n", name);
	abort();
}

static void run_sequence(const char *what, int (*make)(void), const char *first, const char *second)
{
	const struct call *c = find_call(first), *d = find_call(second);
	char name[256];

	snprintf(name, sizeof name, "%s, then %s", first, second);
	begin(what, name);
	int fd = make();
	tell_result("made", fd);
	set_impatient(fd);
	c->make(fd, c);
	d->make(fd, d);
	tell_afterwards(fd);
	end();
	close_all();
}

/* One row: what is run in a process of its own. */
struct row {
	const char *name;
	const struct kind *kind;
	const char *step;
	const struct story *story;
};

static void run_kind(const struct kind *k)
{
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		for (const struct call *c = calls[i]; c->name != NULL; c++)
			if (is_wanted(k->slow ? SOME : 1))
				run_case(k, c);
}

static void run_row(const struct row *r)
{
	if (r->kind != NULL)
		run_kind(r->kind);
	if (r->step != NULL)
		for (size_t i = 0; i < STEPS; i++) {
			if (is_wanted(1))
				run_sequence("new tcp", tcp, r->step, steps[i]);
			if (is_wanted(1))
				run_sequence("new udp", udp, r->step, steps[i]);
		}
	if (r->story != NULL) {
		begin(r->name, "");
		r->story->tell(r->story);
		end();
	}
}

static size_t make_rows(struct row *rows)
{
	size_t n = 0;

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		for (const struct kind *k = kinds[i]; k->name != NULL; k++)
			rows[n++] = (struct row){.name = k->name, .kind = k};
	for (size_t i = 0; i < STEPS; i++)
		rows[n++] = (struct row){.name = steps[i], .step = steps[i]};
	for (size_t i = 0; i < sizeof stories / sizeof *stories; i++)
		for (const struct story *s = stories[i]; s->name != NULL; s++)
			rows[n++] = (struct row){.name = s->name, .story = s};
	return n;
}

/* In the child. A new program finds its memory as descriptor 3. */
static void run_child(const struct row *r, size_t index, char **argv, bool exec, int memory)
{
	char row[24];

	alarm(SECONDS);
	if (!exec) {
		close(memory);
		number = (unsigned)index;
		run_row(r);
		_exit(0);
	}
	snprintf(row, sizeof row, "%zu", index);
	dup2(memory, 3);
	setenv("PAIRS_ROW", row, 1);
	execv("/proc/self/exe", argv);
	_exit(127);
}

static void wait_for(pid_t child, const char *name)
{
	int status = 0;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0)
		tell("+%s: ended with %s %d\n", name, WIFSIGNALED(status) ? "signal" : "status",
			WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	fwrite(told->text, 1, told->length, stdout);
	fflush(stdout);
}

static int serve(void)
{
	struct address any = address_of("::", OPEN_PORT);
	int stream = socket(AF_INET6, SOCK_STREAM, 0), datagram = socket(AF_INET6, SOCK_DGRAM, 0),
	    one = 1;
	char byte;

	setsockopt(stream, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(stream, SOCKADDR(&any), any.length) < 0 || listen(stream, 1 << 30) < 0 ||
		bind(datagram, SOCKADDR(&any), any.length) < 0)
		return 1;
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}

static struct told *map(int memory)
{
	void *mapped = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);

	if (mapped == MAP_FAILED)
		abort();
	return mapped;
}

static void run_all(const struct row *rows, size_t count, char **argv, bool exec)
{
	int memory = memfd_create("told", 0);

	if (memory < 0 || ftruncate(memory, ROOM) < 0)
		abort();
	told = map(memory);
	for (size_t i = 0; i < count; i++) {
		told->length = 0;
		pid_t child = fork();
		if (child == 0)
			run_child(&rows[i], i, argv, exec, memory);
		wait_for(child, rows[i].name);
	}
	printf("%u cases\n", told->cases);
}

int main(int argc, char **argv)
{
	static struct row rows[512];
	size_t count = make_rows(rows);
	const char *row = getenv("PAIRS_ROW");
	bool exec = false;

	if (argc == 2 && strcmp(argv[1], "serve") == 0)
		return serve();
	if (argc < 2)
		return 2;
	place = &places[strcmp(argv[1], "v6") == 0];
	for (int i = 2; i < argc; i++) {
		unasked |= strcmp(argv[i], "--unasked") == 0;
		exec |= strcmp(argv[i], "--exec") == 0;
		if (strcmp(argv[i], "--every") == 0 && i + 1 < argc)
			every = (unsigned)atoi(argv[++i]);
	}
	if (row == NULL) {
		run_all(rows, count, argv, exec);
		return 0;
	}
	told = map(3);
	close(3);
	number = (unsigned)atoi(row);
	run_row(&rows[number]);
	return 0;
}
