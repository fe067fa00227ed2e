/*
 * What a front hands to the engine: one call of the program's that connects, and how to make it.
 */
#pragma once

#include "kernel/sock.h"

#include <stdbool.h>
#include <sys/socket.h>

struct call;
struct engine;
struct state;

/* What only the front can do. All of it is async-signal-safe. */
struct front {
	/*
	 * Makes the call: connect(), or a send that connects on the way. 0, or its errno. It may be
	 * a cancellation point: @cancelled (NULL: nobody) is called with @context if the thread
	 * ends in it.
	 */
	int (*make)(const struct call *c, void (*cancelled)(void *), void *context);
	/* The socket's state, made if it has none. NULL: there is no room for it. */
	struct state *(*state)(const struct call *c);
	/*
	 * Whether the program is known to have done nothing to the socket since it was made: it has
	 * no address, no port, no option that matters, and is of the engine's network namespace.
	 */
	bool (*is_untouched)(const struct call *c, uint8_t protocol);
	/*
	 * Notes that the socket will have what the engine has not given it. True: nothing was known
	 * to have been done to it until now.
	 */
	bool (*note_passed)(const struct call *c);
	/* The engine is about to make its first claim: sets engine->token (engine.h). */
	void (*enter)(const struct call *c);
	/* Whether a child of the engine's own process may have what descriptors it has just had. */
	bool (*may_fork)(void);
};

struct call {
	const struct front *front;
	struct engine *engine;
	int fd;
	enum sock_kind kind;	   /* KIND_OTHER: not known, the socket is asked */
	bool sends;		   /* a send with MSG_FASTOPEN */
	const struct sockaddr *to; /* can be read */
	socklen_t length;
};

/* What became of the call. */
enum became {
	BECAME_MADE, /* it was made as it was: no socket of ours to serve, or one that has its tuple
		      */
	BECAME_PASSED,	/* it was one to serve, and was left to the kernel */
	BECAME_GIVEN,	/* it was made with a tuple of ours */
	BECAME_REFUSED, /* it was not made */
};

struct outcome {
	enum became became;
	int error; /* errno for the program, 0: none */
};

/*
 * Connects, from beginning to end. @s: the socket's state, NULL: it has none yet. In the worst case
 * the claims of all its lanes are looked into first, for half a second.
 */
struct outcome engine_connect(const struct call *c, struct state *s);

/*
 * The call where there is no table to go by: what would be served is refused, everything else is
 * made.
 */
struct outcome engine_connect_refusing(const struct call *c);
