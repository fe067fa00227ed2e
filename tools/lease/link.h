/*
 * What the two processes of a lease tell each other, over a socket pair that keeps messages apart.
 *
 * The front is the process that was started: it passes signals on and ends as the program ended.
 * The keeper is its child and the program's parent: it holds the lease. Their parting is on
 * purpose: the front can be stopped from the terminal along with the program while the keeper goes
 * on renewing, either can be killed without the program being left alone with ports that are not
 * its own any more, and a program that makes itself a daemon lets the front end as its own caller
 * expects.
 */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

enum link_kind {
	/* to the keeper */
	LINK_SIGNAL, /* deliver this one to the program */
	/* to the front */
	LINK_STARTED,	/* the program, with this pid */
	LINK_STOPPED,	/* the program was stopped */
	LINK_CONTINUED, /* and goes on */
	LINK_ENDED,	/* the program, with this status as waitpid() has it */
};

struct link_message {
	enum link_kind kind;
	int value;
};

/* Neither blocks nor raises SIGPIPE: a side that is gone needs no telling. */
static inline void link_send(int fd, enum link_kind kind, int value)
{
	struct link_message message = {.kind = kind, .value = value};

	send(fd, &message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* 1: a message; 0: none now; -1: the other side is gone. */
static inline int link_receive(int fd, struct link_message *message)
{
	ssize_t got = recv(fd, message, sizeof *message, MSG_DONTWAIT);

	return got == sizeof *message ? 1 : got == 0 ? -1 : 0;
}
