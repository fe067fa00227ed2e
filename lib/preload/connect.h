/*
 * The front's end of a connect(): from the program's call to the engine and back to errno.
 */
#pragma once

#include "engine/call.h"
#include "preload/library.h"

/* A send that connects on the way (MSG_FASTOPEN), as the program called it. */
struct send {
	const struct msghdr *message; /* of sendmsg(); NULL: sendto() */
	const void *bytes;
	size_t length;
	int flags;
	ssize_t sent; /* what it returned */
};

struct connect_call {
	struct call call;
	struct send *send; /* NULL: connect() */
};

/*
 * False: what the kernel answers with EFAULT or EINVAL, NULL and other pointers to nothing or a
 * length that no address has. Looking at it we would crash.
 */
bool connect_readable(const struct sockaddr *to, socklen_t length);

/* Makes @c, begun with descriptor, destination and send. As connect(). */
int connect_run(struct connect_call *c);
