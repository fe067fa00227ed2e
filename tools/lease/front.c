#include "tools/lease/front.h"

#include "base/event.h"
#include "tools/common/command.h"
#include "tools/lease/family.h"
#include "tools/lease/link.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIGNAL_EXIT 128 /* added to a signal's number, as shells do */

struct front {
	const struct terms *terms;
	int link, signals;
	pid_t keeper;  /* 0: killed; the program is our child now */
	pid_t program; /* 0: not started */
	bool ended, stop;
	int status;
};

/* Those that a process sends itself by an error have to end the process that made it. */
static void passed_on(sigset_t *set)
{
	static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};

	sigfillset(set);
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		sigdelset(set, own[i]);
}

void front_block_signals(sigset_t *before)
{
	sigset_t set;

	passed_on(&set);
	sigprocmask(SIG_BLOCK, &set, before);
}

static bool is_of_terminal(int number)
{
	static const int of_terminal[] = {
		SIGINT, SIGQUIT, SIGHUP, SIGWINCH, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT};

	for (size_t i = 0; i < sizeof of_terminal / sizeof *of_terminal; i++)
		if (number == of_terminal[i])
			return true;
	return false;
}

static bool is_for_program(const struct front *f, const struct signalfd_siginfo *i)
{
	if (f->program == 0)
		return true;
	if (i->ssi_code == SI_KERNEL && is_of_terminal((int)i->ssi_signo))
		return false;
	return i->ssi_code > 0 || i->ssi_pid == 0 || !family_has((pid_t)i->ssi_pid);
}

static void deliver(struct front *f, int number)
{
	bool stops = number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;

	if (f->program == 0 && stops)
		f->stop = true;
	else if (f->keeper != 0)
		link_send(f->link, LINK_SIGNAL, number);
	else if (f->program != 0)
		kill(f->program, number);
}

/* Reaps the keeper, and when that was killed, what it has left us. */
static void reap_children(struct front *f)
{
	int status;
	pid_t pid;

	/* What the keeper said before its end comes first, see hear(). */
	while (f->keeper == 0 && (pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		if (pid != f->program)
			continue;
		if (WIFSTOPPED(status)) {
			f->stop = true;
		} else {
			f->ended = true;
			f->status = status;
		}
	}
}

static void take_signals(struct front *f)
{
	struct signalfd_siginfo i;

	while (read(f->signals, &i, sizeof i) == sizeof i) {
		if (i.ssi_signo == SIGCHLD)
			reap_children(f);
		else if (is_for_program(f, &i))
			deliver(f, (int)i.ssi_signo);
	}
}

/* Ends all that the keeper has left us. */
static void kill_family(void)
{
	static const struct timespec step = {.tv_nsec = 20000000};

	while (family_signal(SIGKILL) > 0 || waitpid(-1, NULL, WNOHANG) >= 0) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		nanosleep(&step, NULL);
	}
}

/* The keeper has gone without telling how the program ended. */
static void lose_keeper(struct front *f)
{
	bool strict = f->terms->config.strict;
	int status = 0;

	while (waitpid(f->keeper, &status, 0) < 0 && errno == EINTR)
		;
	f->keeper = 0;
	f->ended = WIFEXITED(status) || f->program == 0 || strict;
	f->status = WIFEXITED(status) ? status : W_EXITCODE(EXIT_TUPLEBIND, 0);
	if (WIFEXITED(status))
		return;
	struct event e;
	if (event_begin(&e, LOG_ERROR, "lease-keeper-killed")) {
		event_text(&e, "name", f->terms->url.name);
		event_text(&e, "reason", "the process that held the lease was killed");
		event_text(&e, "then",
			strict ? "the program is stopped (TUPLEBIND_STRICT)"
			       : "the program goes on, the part runs out");
		event_end(&e);
	}
	if (strict)
		kill_family();
	else
		reap_children(f);
}

static void hear(struct front *f)
{
	struct link_message message;
	int got;

	while (f->keeper != 0 && !f->ended && (got = link_receive(f->link, &message)) != 0) {
		if (got < 0)
			lose_keeper(f);
		else if (message.kind == LINK_STARTED)
			f->program = message.value;
		else if (message.kind == LINK_STOPPED || message.kind == LINK_CONTINUED)
			f->stop = message.kind == LINK_STOPPED;
		else if (message.kind == LINK_ENDED) {
			f->ended = true;
			f->status = message.value;
		}
	}
}

/* Ends as the program did; its core was written by itself. */
static int end_as(int status)
{
	struct rlimit none = {.rlim_cur = 0};
	sigset_t one;

	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status);
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
	signal(WTERMSIG(status), SIG_DFL);
	raise(WTERMSIG(status));
	sigemptyset(&one);
	sigaddset(&one, WTERMSIG(status));
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	return SIGNAL_EXIT + WTERMSIG(status);
}

int front_run(const struct terms *s, int link, pid_t keeper)
{
	struct front f = {.terms = s, .link = link, .keeper = keeper};
	sigset_t set;

	passed_on(&set);
	f.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (f.signals < 0) {
		/* Which ends the keeper as well, before or after it has started the program. */
		kill(keeper, SIGKILL);
		return command_fail("run: %s", strerror(errno));
	}
	while (!f.ended) {
		struct pollfd fds[] = {{.fd = f.signals, .events = POLLIN},
			{.fd = f.keeper != 0 ? link : -1, .events = POLLIN}};

		poll(fds, 2, -1);
		hear(&f);
		if (!f.ended)
			take_signals(&f);
		if (f.stop && !f.ended) {
			f.stop = false;
			raise(SIGSTOP);
		}
	}
	return end_as(f.status);
}
