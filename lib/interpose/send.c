/*
 * sendto() and sendmsg() with MSG_FASTOPEN: on a TCP socket they connect it and send with the first
 * packet (RFC 7413), so they are taken over as connect() is. All other sends go straight on; of
 * sockets that are handed to another process on the way it is noted that they were.
 */
#include "interpose/attempt.h"

#include "kernel/memory.h"

#include <string.h>

EXPORT ssize_t sendto(int fd, const void *bytes, size_t length, int flags,
	const struct sockaddr *to, socklen_t to_length)
{
	struct send send = {.bytes = bytes, .length = length, .flags = flags};
	struct attempt a = {.fd = fd, .to = to, .length = to_length, .send = &send};

	if (!(flags & MSG_FASTOPEN))
		return next()->sendto(fd, bytes, length, flags, to, to_length);
	return attempt_run(&a) < 0 ? -1 : send.sent;
}

/* The message has been sent, so all of it can be read. */
static void note_passed_on(const struct msghdr *message)
{
	struct msghdr *m = (struct msghdr *)message; /* as the macros will have it */

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
			int fd;

			memcpy(&fd, (const char *)c + at, sizeof fd);
			book_note_changed(fd);
		}
	}
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct send send = {.message = message, .flags = flags};
	struct attempt a = {.fd = fd, .send = &send};

	if (!(flags & MSG_FASTOPEN) || !library_active() ||
		!memory_readable(message, sizeof *message)) {
		ssize_t sent = next()->sendmsg(fd, message, flags);

		if (sent >= 0 && message != NULL && message->msg_controllen != 0)
			note_passed_on(message);
		return sent;
	}
	a.to = message->msg_name;
	a.length = message->msg_namelen;
	return attempt_run(&a) < 0 ? -1 : send.sent;
}
