#include "tools/lease/keeper.h"

#include "base/event.h"
#include "kernel/diag.h"
#include "tools/common/command.h"
#include "tools/lease/family.h"
#include "tools/lease/link.h"
#include "tools/lease/part.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINGER_SECONDS 60   /* as long as the kernel keeps a tuple in TIME_WAIT */
#define WAIT_STEP_MS   1000 /* between two looks for a free part */
#define KILL_STEP_MS   100  /* between two rounds of SIGKILL */

enum { FD_CHILDREN, FD_TIMER, FD_LINK, FDS }; /* the link last: it is not there to the end */

struct keeper {
	const struct terms *terms;
	struct etcd etcd;
	struct part part;
	struct curl_waitfd fds[FDS];
	pid_t front;
	bool front_gone;
	pid_t program; /* 0: not started */
	bool program_ended, over;
	int status;	/* of the program */
	int called_off; /* the signal that came before the program was started */
	bool lost, refusal_told;
	bool stopping; /* under strict: no way back */
	uint64_t renew_at, kill_at;
};

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
	return value < min ? min : value > max ? max : value;
}

/* A share of the TTL, in milliseconds. */
static uint64_t ttl_ms(const struct keeper *k, unsigned times, unsigned of)
{
	return UINT64_C(1000) * k->part.ttl * times / of;
}

/* The reason as printf has it, and what comes of it (NULL: nothing to tell). */
__attribute__((format(printf, 5, 6))) static void tell(const struct keeper *k, enum log_level level,
	const char *name, const char *then, const char *format, ...)
{
	char reason[300];
	va_list arguments;
	struct event e;

	va_start(arguments, format);
	vsnprintf(reason, sizeof reason, format, arguments);
	va_end(arguments);
	/* Other people's quotes would end ours. */
	for (char *p = reason; *p != '\0'; p++)
		if (*p == '"')
			*p = '\'';
	if (!event_begin(&e, level, name))
		return;
	event_text(&e, "name", k->part.name);
	event_number(&e, "part", k->part.number);
	event_number(&e, "of", k->part.count);
	if (reason[0] != '\0')
		event_text(&e, "reason", reason);
	if (then != NULL)
		event_text(&e, "then", then);
	event_end(&e);
}

static void kill_family(struct keeper *k)
{
	if (k->program != 0 && !k->program_ended)
		kill(k->program, SIGKILL);
	family_signal(SIGKILL);
	k->kill_at = boot_ms() + KILL_STEP_MS;
}

/* Asks all to end; what is left at @kill_at is killed. */
static void stop_family(struct keeper *k, uint64_t kill_at)
{
	k->stopping = true;
	k->kill_at = kill_at;
	if (k->program != 0 && !k->program_ended)
		kill(k->program, SIGTERM);
	else
		family_signal(SIGTERM);
	family_signal(SIGCONT);
}

static void lose(struct keeper *k, const char *why, uint64_t kill_at)
{
	bool strict = k->terms->config.strict;

	k->lost = true;
	tell(k, LOG_ERROR, "lease-lost",
		strict ? "the program is stopped (TUPLEBIND_STRICT)"
		       : "the program goes on, other hosts may be given its ports",
		"%s", why);
	if (strict)
		stop_family(k, kill_at);
}

/* The end of one child, or of a child's child that has become ours. */
static void reap_children(struct keeper *k)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
		if (pid != k->program)
			continue;
		if (WIFSTOPPED(status)) {
			link_send(k->fds[FD_LINK].fd, LINK_STOPPED, WSTOPSIG(status));
		} else if (WIFCONTINUED(status)) {
			link_send(k->fds[FD_LINK].fd, LINK_CONTINUED, 0);
			if (!k->front_gone)
				kill(k->front, SIGCONT);
		} else {
			k->program_ended = true;
			k->status = status;
		}
	}
	k->over = k->program != 0 && pid < 0 && errno == ECHILD;
}

static int exit_status(const struct keeper *k)
{
	static const int exited = 8; /* where waitpid() has the exit code */

	/* Not SIGTERM's, which service managers take for an orderly end. */
	return k->stopping ? EXIT_TUPLEBIND << exited : k->status;
}

/* A socket that was closed is ready at all times, and must not be waited for. */
static void forget_front(struct keeper *k)
{
	k->front_gone = true;
	k->etcd.http.waited_count = FD_LINK;
}

/* The program has ended and left others behind, as daemons do: its caller need not wait for them.
 */
static void let_front_go(struct keeper *k)
{
	int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* Who reads the program's stderr to its end is not to wait either. */
	if (nowhere >= 0 && k->terms->config.log_file == NULL)
		dup2(nowhere, STDERR_FILENO);
	if (nowhere >= 0)
		close(nowhere);
	link_send(k->fds[FD_LINK].fd, LINK_ENDED, exit_status(k));
	forget_front(k);
}

static bool ends_program(int number)
{
	static const int harmless[] = {SIGCONT, SIGURG, SIGWINCH, SIGCHLD};
	struct sigaction action;

	for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
		if (number == harmless[i])
			return false;
	return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_DFL;
}

static void take_orders(struct keeper *k)
{
	struct link_message message;
	int got;

	while (!k->front_gone && (got = link_receive(k->fds[FD_LINK].fd, &message)) != 0) {
		if (got < 0) {
			forget_front(k);
			if (k->program == 0)
				k->called_off = SIGKILL;
			else if (k->terms->config.strict && !k->stopping) {
				tell(k, LOG_ERROR, "lease-given-up",
					"the program is stopped (TUPLEBIND_STRICT)",
					"tuplebind was killed");
				k->stopping = true;
				kill_family(k);
			}
		} else if (k->program == 0 && ends_program(message.value)) {
			k->called_off = message.value;
		} else if (k->program != 0 && !k->program_ended) {
			kill(k->program, message.value);
		}
	}
}

static void mind_the_clock(struct keeper *k)
{
	uint64_t now = boot_ms();
	char why[400];

	if (!k->lost && k->program != 0 && now >= k->part.held_until - ttl_ms(k, 1, 4)) {
		snprintf(why, sizeof why, "not renewed for %u s: %.300s", k->part.ttl * 3 / 4,
			k->etcd.fault.text);
		lose(k, why, k->part.held_until - ttl_ms(k, 1, 12));
	}
	if (k->stopping && now >= k->kill_at)
		kill_family(k);
}

static void set_timer(struct keeper *k)
{
	uint64_t at = k->stopping ? k->kill_at : k->renew_at;
	struct itimerspec when = {.it_value = {.tv_nsec = 1}};

	if (!k->lost && k->part.held_until - ttl_ms(k, 1, 4) < at)
		at = k->part.held_until - ttl_ms(k, 1, 4);
	when.it_value.tv_sec = (time_t)(at / 1000);
	when.it_value.tv_nsec += (long)(at % 1000) * 1000000;
	timerfd_settime(k->fds[FD_TIMER].fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Everything but etcd. False: nothing is left to wait for. */
static bool serve(void *context)
{
	struct keeper *k = context;
	struct signalfd_siginfo unused;

	while (read(k->fds[FD_CHILDREN].fd, &unused, sizeof unused) > 0)
		;
	take_orders(k);
	if (k->program == 0)
		return k->called_off == 0;
	reap_children(k);
	if (k->program_ended && !k->over && !k->front_gone)
		let_front_go(k);
	if (!k->over)
		mind_the_clock(k);
	set_timer(k);
	return !k->over;
}

/* Waits for something to serve, at most so long; -1: until the timer. */
static void wait_for_something(struct keeper *k, int timeout_ms)
{
	struct pollfd fds[FDS];

	for (int i = 0; i < FDS; i++)
		fds[i] = (struct pollfd){.fd = k->fds[i].fd, .events = POLLIN};
	poll(fds, k->front_gone ? FD_LINK : FDS, timeout_ms);
}

static void renew(struct keeper *k)
{
	uint64_t before = boot_ms();
	bool was_lost = k->lost;
	int error = was_lost ? part_regain(&k->part) : part_renew(&k->part);

	if (error == -ECANCELED)
		return;
	k->renew_at = error == 0 ? before + ttl_ms(k, 1, 3)
				 : boot_ms() + clamp(ttl_ms(k, 1, 12), 500, 5000);
	if (error == 0 && was_lost && !k->stopping) {
		k->lost = k->refusal_told = false;
		tell(k, LOG_WARN, "lease-regained", NULL, "%s", "");
	} else if (error == -ENOENT && !k->lost) {
		lose(k, k->etcd.fault.text, boot_ms() + clamp(ttl_ms(k, 1, 6), 500, 5000));
		k->renew_at = boot_ms();
	} else if ((error == -EBUSY || error == -EINVAL) && !k->refusal_told) {
		k->refusal_told = true;
		tell(k, LOG_ERROR, "lease-refused", NULL, "%s", k->etcd.fault.text);
	} else if (error < 0) {
		tell(k, LOG_INFO, "lease-not-renewed", NULL, "%s", k->etcd.fault.text);
	}
}

struct lingering {
	struct portset ports;
	unsigned count;
};

static void look_at_socket(
	void *context, const struct tuplebind_lane *lane, uint16_t lport, enum diag_state state)
{
	struct lingering *l = context;

	l->count += portset_has(&l->ports, lport);
}

/* How many sockets, of whichever program, this host still has on ports of the part. */
static unsigned count_lingering(struct keeper *k)
{
	static const int protocols[] = {IPPROTO_TCP, IPPROTO_UDP};
	struct lingering l = {.count = 0};

	if (slices_ports(&l.ports, &k->etcd.fault) < 0)
		return 1;
	for (size_t i = 0; i < 2; i++)
		/* A kernel that does not tell may have some. */
		if (diag_dump(protocols[i], 0, look_at_socket, &l) < 0)
			l.count++;
	return l.count;
}

static void give_back(struct keeper *k)
{
	unsigned lingering = count_lingering(k), left;
	char then[64];

	k->etcd.http.turn = NULL;
	k->etcd.http.waited_count = 0;
	if (lingering > 0 && part_leave(&k->part, LINGER_SECONDS, &left) == 0) {
		snprintf(then, sizeof then, "runs out in %u s", left);
		tell(k, LOG_INFO, "lease-left", then, "%u sockets linger on its ports", lingering);
	} else if (lingering == 0 && part_give_back(&k->part) == 0) {
		tell(k, LOG_INFO, "lease-given-back", NULL, "%s", "");
	} else {
		snprintf(then, sizeof then, "runs out within %u s", k->part.ttl);
		tell(k, k->lost ? LOG_INFO : LOG_WARN, "lease-not-given-back", then, "%s",
			k->etcd.fault.text);
	}
}

_Noreturn static void become_program(const struct keeper *k, const struct launch *l, pid_t keeper)
{
	size_t count = 0;

	setpgid(0, getpgid(k->front));
	if (k->terms->config.strict) {
		/* For the case that front and keeper are both killed. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != keeper)
			_exit(EXIT_TUPLEBIND);
	}
	while (l->argv[count] != NULL)
		count++;
	const char **argv = calloc(count + 4, sizeof *argv);
	if (argv == NULL)
		_exit(command_fail("run: out of memory"));
	argv[0] = "tuplebind";
	argv[1] = "run";
	argv[2] = "--";
	memcpy(argv + 3, l->argv, count * sizeof *argv);
	signal(SIGCHLD, l->on_child);
	sigprocmask(SIG_SETMASK, &l->signals, NULL);
	execv(l->command, (char **)argv);
	_exit(command_fail("run: %s: %s", l->command, strerror(errno)));
}

static int start_program(struct keeper *k, const struct launch *l)
{
	pid_t self = getpid();

	k->program = fork();
	if (k->program == 0)
		become_program(k, l, self);
	if (k->program < 0) {
		k->program = 0;
		return command_fail("run: cannot start a process: %s", strerror(errno));
	}
	link_send(k->fds[FD_LINK].fd, LINK_STARTED, k->program);
	/* What the program reads and writes is not to stay open for our sake. */
	int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (nowhere >= 0) {
		dup2(nowhere, STDIN_FILENO);
		dup2(nowhere, STDOUT_FILENO);
		close(nowhere);
	}
	/* Nor is its folder to stay in use, if that can be had. */
	int unused = chdir("/");
	(void)unused;
	return 0;
}

/* Takes a part, waiting for one as long as the terms say. 0, or -errno. */
static int take(struct keeper *k)
{
	const struct terms *s = k->terms;
	uint64_t deadline = boot_ms() + UINT64_C(1000) * s->wait;
	int error = part_agree(&k->part, s->slices.count);

	if (error == 0)
		error = slices_fit(&s->slices, k->part.count, &k->etcd.fault);
	while (error == 0 && (error = part_take(&k->part, k->front)) == -EAGAIN) {
		uint64_t now = boot_ms();

		if (now >= deadline)
			break;
		wait_for_something(k, (int)clamp(deadline - now, 1, WAIT_STEP_MS));
		error = serve(k) ? 0 : -ECANCELED;
	}
	return error;
}

static int open_fds(struct keeper *k, int link)
{
	sigset_t children;

	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	k->fds[FD_CHILDREN].fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	k->fds[FD_TIMER].fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	k->fds[FD_LINK].fd = link;
	for (int i = 0; i < FDS; i++)
		k->fds[i].events = CURL_WAIT_POLLIN;
	return k->fds[FD_CHILDREN].fd < 0 || k->fds[FD_TIMER].fd < 0 ? -errno : 0;
}

/* From the taken part to its return. */
static int hold(struct keeper *k, const struct launch *l)
{
	int error = slices_set(&k->terms->slices, k->part.count, k->part.number, &k->etcd.fault);

	k->renew_at = k->part.held_until - ttl_ms(k, 2, 3);
	tell(k, LOG_INFO, "lease-taken", NULL, "%s", "");
	if (error < 0)
		error = command_fail("run: %s", k->etcd.fault.text);
	else
		error = start_program(k, l);
	while (error == 0 && serve(k)) {
		if (!k->stopping && boot_ms() >= k->renew_at)
			renew(k);
		else
			wait_for_something(k, -1);
	}
	give_back(k);
	return error;
}

int keeper_run(struct terms *s, const struct launch *l, int link, pid_t front)
{
	struct keeper k = {.terms = s, .front = front};
	struct fault *f = &k.etcd.fault;
	long timeout_ms = (long)clamp(UINT64_C(1000) * s->ttl / 6, 500, 5000);

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* Away from the terminal's signals, which are for the program. */
	setpgid(0, 0);
	if (open_fds(&k, link) < 0)
		return command_fail("run: %s", strerror(errno));
	int error = http_open(&k.etcd.http, s->url.base, s->ca, timeout_ms, f);
	k.etcd.http.turn = serve;
	k.etcd.http.context = &k;
	k.etcd.http.waited = k.fds;
	k.etcd.http.waited_count = FDS;
	part_init(&k.part, &k.etcd, s->url.name, s->ttl);
	if (error == 0)
		error = take(&k);
	if (error < 0 && k.called_off == 0)
		command_fail("run: %s%s", f->text,
			error == -EAGAIN && s->wait == 0 ? "; --lease-wait SECONDS waits for one"
							 : "");
	else if (error < 0)
		link_send(link, LINK_ENDED, k.called_off);
	if (error == 0)
		error = hold(&k, l);
	http_close(&k.etcd.http);
	if (error == 0)
		link_send(link, LINK_ENDED, exit_status(&k));
	return EXIT_TUPLEBIND;
}
