/*
 * sendto() and sendmsg() with MSG_FASTOPEN: on a TCP socket they connect it and send with the first
 * packet (RFC 7413), so they are taken over as connect() is. (sendmmsg() with it is the kernel's.)
 * All other sends go straight on; of sockets that are handed to another process on the way it is
 * noted that they were.
 */
#include "preload/connect.h"

#include "kernel/memory.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/uio.h>

#ifndef UIO_MAXIOV
#define UIO_MAXIOV 1024
#endif

EXPORT ssize_t sendto(int fd, const void *bytes, size_t length, int flags,
	const struct sockaddr *to, socklen_t to_length)
{
	struct send send = {.bytes = bytes, .length = length, .flags = flags};
	struct connect_call c = {.call = {.fd = fd, .to = to, .length = to_length}, .send = &send};

	if (!(flags & MSG_FASTOPEN))
		return next()->sendto(fd, bytes, length, flags, to, to_length);
	return connect_run(&c) < 0 ? -1 : send.sent;
}

/* More control data than the kernel takes (net.core.optmem_max). */
#define CONTROL_MOST (1u << 20)
#define PAGE	     4096u

/* As memory_readable(), of more than a page. */
static bool all_readable(const char *at, size_t size)
{
	for (; size > PAGE; at += PAGE, size -= PAGE)
		if (!memory_readable(at, PAGE))
			return false;
	return size != 0 && memory_readable(at, size);
}

/* Only AF_UNIX sockets pass descriptors on. */
static bool is_unix(int fd)
{
	int family = AF_UNSPEC, saved = errno;
	socklen_t length = sizeof family;

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length);
	errno = saved;
	return family == AF_UNIX;
}

/* Looks for descriptors in control data, which may say of its parts whatever it likes. */
static void note_passed_on(const char *control, size_t length)
{
	struct cmsghdr head;

	for (size_t at = 0; at + sizeof head <= length; at += CMSG_ALIGN(head.cmsg_len)) {
		memcpy(&head, control + at, sizeof head);
		if (head.cmsg_len < sizeof head || head.cmsg_len > length - at)
			return;
		if (head.cmsg_level != SOL_SOCKET || head.cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = CMSG_LEN(0); i + sizeof(int) <= head.cmsg_len; i += sizeof(int)) {
			int fd;

			memcpy(&fd, control + at + i, sizeof fd);
			book_note_passed(fd);
		}
	}
}

/*
 * Before the message is sent: then whoever receives it may close, or have us close, at once. The
 * message can be read, what it points to perhaps not.
 */
static void note_message(const struct msghdr *message)
{
	const char *control = message->msg_control;
	size_t length = message->msg_controllen;

	if (length > CONTROL_MOST)
		length = CONTROL_MOST;
	if (length != 0 && all_readable(control, length))
		note_passed_on(control, length);
}

static bool may_pass_on(int fd, const void *messages, size_t size)
{
	return library_active() && all_readable(messages, size) && is_unix(fd) && book_usable();
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct send send = {.message = message, .flags = flags};
	struct connect_call c = {.call = {.fd = fd}, .send = &send};

	if (!(flags & MSG_FASTOPEN) || !library_active() ||
		!memory_readable(message, sizeof *message)) {
		if (library_active() && memory_readable(message, sizeof *message) &&
			message->msg_controllen != 0 && may_pass_on(fd, message, sizeof *message))
			note_message(message);
		return next()->sendmsg(fd, message, flags);
	}
	c.call.to = message->msg_name;
	c.call.length = message->msg_namelen;
	return connect_run(&c) < 0 ? -1 : send.sent;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, mmsg_flags flags)
{
	unsigned looked_at = count < UIO_MAXIOV ? count : UIO_MAXIOV; /* the kernel sends no more */

	if (library_active() && flags & MSG_FASTOPEN)
		book_note_changed(fd);
	if (may_pass_on(fd, messages, looked_at * sizeof *messages))
		for (unsigned i = 0; i < looked_at; i++)
			note_message(&messages[i].msg_hdr);
	return next()->sendmmsg(fd, messages, count, flags);
}
