/*
 * sendto() and sendmsg() with MSG_FASTOPEN: on a TCP socket they connect it and send with the first
 * packet (RFC 7413), so they are taken over as connect() is. All other sends go straight on.
 */
#include "interpose/attempt.h"

EXPORT ssize_t sendto(int fd, const void *bytes, size_t length, int flags,
	const struct sockaddr *to, socklen_t to_length)
{
	struct send send = {.bytes = bytes, .length = length, .flags = flags};
	struct attempt a = {.fd = fd, .to = to, .length = to_length, .send = &send};

	if (!(flags & MSG_FASTOPEN))
		return next()->sendto(fd, bytes, length, flags, to, to_length);
	return attempt_run(&a) < 0 ? -1 : send.sent;
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct send send = {.message = message, .flags = flags};
	struct attempt a = {.fd = fd, .send = &send};

	if (!(flags & MSG_FASTOPEN) || message == NULL)
		return next()->sendmsg(fd, message, flags);
	a.to = message->msg_name;
	a.length = message->msg_namelen;
	return attempt_run(&a) < 0 ? -1 : send.sent;
}
