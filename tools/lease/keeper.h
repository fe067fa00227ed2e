/*
 * The keeper: takes a part of the ports, starts the program with it, holds the lease for as long as
 * the program and what it has started live, and gives it back.
 *
 * One thread, one loop. Waiting for etcd it still serves everything else (see http.h). What happens
 * when:
 *
 *   a third of the TTL since the last success   renew; after a failure again every few seconds
 *   three quarters of the TTL                   lost: told in the log. Strict: SIGTERM to the
 * program. Else: try to get the same part again, go on eleven twelfths, strict SIGKILL to whatever
 * is left of it etcd says that the lease is gone            lost at once, as above; SIGKILL some
 * seconds later the front is gone, strict                   SIGKILL: to the outside it was the
 * program no process is left                          give the part back, unless sockets linger on
 * its ports
 *
 * Times count by CLOCK_BOOTTIME from before the request that was answered, so that the program is
 * dead, under strict, before etcd can have given its ports to anybody.
 */
#pragma once

#include "tools/lease/terms.h"

#include <signal.h>

/* How the program is to be started. */
struct launch {
	const char *command;   /* the tuplebind command, which puts the library in front of it */
	char **argv;	       /* PROGRAM ARGUMENT... */
	sigset_t signals;      /* its signal mask */
	void (*on_child)(int); /* its SIGCHLD */
};

/*
 * Runs to the end of the lease. @link: to the front, process @front. Returns the exit code for a
 * front that was not told of the program's end.
 */
int keeper_run(struct terms *s, const struct launch *launch, int link, pid_t front);
