/*
 * tuplebind-lease: runs a program with a part of the ports that no other host has.
 *
 *     tuplebind-lease COMMAND PROGRAM [ARGUMENT...]
 *
 * `tuplebind run --lease` becomes this; COMMAND is where that stands. It is a program of its own so
 * that nobody else loads libcurl. Configured by the environment alone, see terms.h.
 */
#include "tools/common/command.h"
#include "tools/lease/front.h"
#include "tools/lease/keeper.h"
#include "tools/lease/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int run(struct terms *s, struct launch *l)
{
	pid_t front = getpid();
	int link[2];

	/* Or an ignored SIGCHLD, which is inherited, takes the exit status from us. */
	l->on_child = signal(SIGCHLD, SIG_DFL);
	front_block_signals(&l->signals);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) < 0)
		return command_fail("run: %s", strerror(errno));
	pid_t keeper = fork();
	if (keeper < 0)
		return command_fail("run: cannot start a process: %s", strerror(errno));
	close(link[keeper == 0 ? 0 : 1]);
	return keeper == 0 ? keeper_run(s, l, link[1], front) : front_run(s, link[0], keeper);
}

int main(int argc, char **argv)
{
	struct terms terms;
	struct launch launch;
	struct fault fault;

	if (argc < 3)
		return command_fail("tuplebind-lease is started by tuplebind run --lease");
	launch = (struct launch){.command = argv[1], .argv = argv + 2};
	int code = terms_read(&terms, &fault) < 0 ? command_fail("run: %s", fault.text) : 0;
	if (code == 0) {
		log_open(terms.config.log_level, terms.config.log_file);
		code = run(&terms, &launch);
	}
	terms_free(&terms);
	return code;
}
