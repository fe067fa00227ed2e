/*
 * tuplebind-top, which `tuplebind top` becomes: a program of its own, so that the command does not
 * load ncurses.
 *
 * However it ends, but for SIGKILL, the terminal is as it was before.
 */
#include "tools/status/top/top.h"

#include "tools/common/clock.h"
#include "tools/common/colours.h"
#include "tools/common/command.h"
#include "tools/common/options.h"
#include "tools/status/display.h"

#include <errno.h>
#include <ncurses.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>
#include <unistd.h>

#define DELAY_MAX 3600

struct request {
	uint64_t delay; /* seconds */
	const char *ports;
	bool all_users;
};

static const struct option_row option_rows[] = {
	{"delay", "SECONDS", "between two looks at the tables (default 1)", option_number,
		offsetof(struct request, delay), .min = 1, .max = DELAY_MAX, .unit = "seconds"},
	OPTION_TEXT(struct request, ports, "ports", "LIST",
		"the ports a lane can have, as TUPLEBIND_PORTS has them.\n"
		"Default: what the attached processes were started with, else\n"
		"what the kernel offers"),
	OPTION_SWITCH(
		struct request, all_users, "all-users", "those of other users as well, for root"),
	OPTION_END,
};

static const struct options options = {
	.subcommand = "top",
	.usage = "usage: tuplebind top [--delay SECONDS] [--ports LIST] [--all-users]\n"
		 "\n"
		 "Shows this user's tuple tables, live: lanes, local addresses, destinations and\n"
		 "processes, how full they are and what changes. h shows the keys, q quits.\n"
		 "\n",
	.notes = "\nNO_COLOR is respected. Not on a terminal: tuplebind status.\n",
	.column = 19,
	.groups = {{option_rows, 0}},
};

static volatile sig_atomic_t ended;

static void end(int signal_number)
{
	ended = 1;
}

static double now(void)
{
	return (double)clock_ms(CLOCK_MONOTONIC) / 1e3;
}

/* Takes a new snapshot in the place of the last, and that in the place of the one before. */
static void look(struct top *top, double *looked)
{
	struct snapshots fresh;
	double time = now();

	top->fault.text[0] = '\0';
	if (snapshots_take(&fresh, &top->base, top->all_users, &top->fault) < 0) {
		snapshots_free(&fresh);
		return;
	}
	snapshots_free(&top->before);
	top->before = top->now;
	for (size_t i = 0; i < top->before.count; i++)
		snapshot_sort_by_lane(&top->before.tables[i]);
	top->now = fresh;
	top->seconds = *looked > 0 ? time - *looked : 0;
	*looked = time;
	top_choose_table(top);
}

/* Waits for a key, a signal or the time; false: the terminal is gone. */
static bool wait_for_key(double seconds, const sigset_t *awake)
{
	struct pollfd terminal = {.fd = STDIN_FILENO, .events = POLLIN};
	struct timespec timeout = {.tv_sec = (time_t)seconds};

	timeout.tv_nsec = (long)((seconds - (double)timeout.tv_sec) * 1e9);
	if (ppoll(&terminal, 1, &timeout, awake) > 0)
		return (terminal.revents & (POLLHUP | POLLERR | POLLNVAL)) == 0;
	return true;
}

static void run(struct top *top, double delay, const sigset_t *awake)
{
	double looked = 0, due = 0;

	while (!top->quit && !ended) {
		if (now() >= due) {
			if (!top->paused || looked <= 0)
				look(top, &looked);
			due = now() + delay;
		}
		rows_make(top);
		screen_draw(top);
		double left = due - now();
		if (!wait_for_key(left > 0 ? left : 0, awake))
			break;
		for (int key; !top->quit && (key = getch()) != ERR;)
			keys_press(top, key);
	}
}

/* The signals that end it arrive in ppoll() alone, so that none comes between look and wait. */
static void catch_signals(sigset_t *awake)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sigaction action = {.sa_handler = end};
	sigset_t blocked;

	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
		sigaddset(&blocked, signals[i]);
		sigaction(signals[i], &action, NULL);
	}
	sigprocmask(SIG_BLOCK, &blocked, awake);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		sigdelset(awake, signals[i]);
}

static int start_screen(void)
{
	const char *term = getenv("TERM");

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return command_fail("top: this is not a terminal; tuplebind status shows the same "
				    "once");
	if (term == NULL || newterm(term, stdout, stdin) == NULL || cursor_address == NULL) {
		if (stdscr != NULL)
			endwin();
		return command_fail("top: the terminal \"%s\" (TERM) cannot show it; tuplebind "
				    "status shows the same once",
			term ? term : "");
	}
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(50);
	curs_set(0);
	if (colours_wanted() && has_colors()) {
		start_color();
		use_default_colors();
		init_pair(DISPLAY_CALM + 1, -1, -1);
		init_pair(DISPLAY_WARNING + 1, COLOR_YELLOW, -1);
		init_pair(DISPLAY_ALARM + 1, COLOR_RED, -1);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static struct top top;
	struct request r = {.delay = 1};
	struct fault fault;
	sigset_t awake;
	int code;

	if (!options_read(&options, &r, argc, argv, &code))
		return code;
	top.all_users = r.all_users;
	if (capacity_base_read(&top.base, r.ports, &fault) < 0)
		return command_usage("top", "--ports: %s", fault.text);
	catch_signals(&awake);
	code = start_screen();
	if (code != 0)
		return code;
	run(&top, (double)r.delay, &awake);
	endwin();
	free(top.rows);
	snapshots_free(&top.now);
	snapshots_free(&top.before);
	return EXIT_SUCCESS;
}
