/*
 * See untouched.h. Also the calls that are taken over for this alone: setsockopt(), setns(),
 * unshare().
 */
#include "preload/untouched.h"

#include "kernel/sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>

static struct {
	_Atomic int lost;	/* 1: some pristine socket was not untouched, or the process changed
				   namespaces */
	_Atomic uint64_t asked; /* the second in which one was */
} trust;

static bool has_no_port(int fd)
{
	struct addr laddr;
	uint16_t port;

	return sock_local(fd, &laddr, &port) == 0 && port == 0 && addr_is_any(&laddr);
}

static bool ask(int fd, uint8_t protocol)
{
	return has_no_port(fd) && !sock_ports_narrowed(fd) &&
	       netns_has_socket(&library.engine.netns, fd) && sock_device(fd) == 0 &&
	       !sock_is_marked(fd) &&
	       (protocol != IPPROTO_UDP || (!sock_reuses_port(fd) && !sock_reuses_address(fd) &&
						   sock_asks_no_port(fd) != 1));
}

bool untouched_is(const struct call *c, uint8_t protocol)
{
	uint64_t now = aside_now();

	if (atomic_load_explicit(&trust.lost, memory_order_relaxed) || !book_is_pristine(c->fd))
		return false;
	if (atomic_load_explicit(&trust.asked, memory_order_relaxed) == now)
		return protocol != IPPROTO_UDP || has_no_port(c->fd);
	if (ask(c->fd, protocol)) {
		atomic_store_explicit(&trust.asked, now, memory_order_relaxed);
		return true;
	}
	/* A UDP socket that has been sent from says nothing of others. */
	if (protocol != IPPROTO_UDP || has_no_port(c->fd))
		atomic_store_explicit(&trust.lost, 1, memory_order_relaxed);
	return false;
}

/* Options on which it depends whether and how a socket is served. */
static bool matters(int level, int option)
{
	switch (level) {
	case SOL_SOCKET:
		return option == SO_BINDTODEVICE || option == SO_BINDTOIFINDEX ||
		       option == SO_MARK || option == SO_REUSEPORT;
	case IPPROTO_IP:
		return option == IP_LOCAL_PORT_RANGE;
	default:
		return false;
	}
}

/* UDP sockets get back what they had of these (undo_all()). */
static bool matters_to(int fd, int level, int option)
{
	enum sock_kind kind = KIND_OTHER;

	if ((level == SOL_SOCKET && option == SO_REUSEADDR) ||
		(level == IPPROTO_IP && option == IP_BIND_ADDRESS_NO_PORT))
		book_find(fd, &kind);
	return kind == KIND_UDP4 || kind == KIND_UDP6;
}

/*
 * The program has set the range of ports of a socket on which we had set it: from now on it is the
 * program's, and the next connect() the kernel's, as it would be had we not been there before.
 */
static void note_range(int fd)
{
	enum sock_kind unused;
	struct record *r = book_usable() ? book_find(fd, &unused) : NULL;

	if (r == NULL || !state_has_flag(&r->state, STATE_TOUCHED))
		return;
	int saved = errno;
	sock_bind_takes_no_port(fd, false);
	errno = saved;
	state_clear_flags(&r->state, STATE_TOUCHED);
}

EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	if (matters(level, option) || matters_to(fd, level, option))
		book_note_changed(fd);
	int result = next()->setsockopt(fd, level, option, value, length);
	if (result == 0 && level == IPPROTO_IP && option == IP_LOCAL_PORT_RANGE && library_active())
		note_range(fd);
	return result;
}

static void note_namespace(void)
{
	/* A vfork child's namespace is not its parent's. */
	if (library_active() && book_usable())
		atomic_store_explicit(&trust.lost, 1, memory_order_relaxed);
}

EXPORT int setns(int fd, int type)
{
	note_namespace();
	return next()->setns(fd, type);
}

EXPORT int unshare(int flags)
{
	if (flags & CLONE_NEWNET)
		note_namespace();
	return next()->unshare(flags);
}
