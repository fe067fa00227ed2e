/*
 * connect(): a TCP socket that nobody has bound gets a local address and a port
 * that is unique for its tuple, then connects.
 *
 * Here it is decided which sockets that is for; everything else goes to the next
 * connect() untouched.
 */
#include "interpose/attempt.h"

#include "kernel/sock.h"

#include <errno.h>
#include <netinet/in.h>

#define FIRST_PAGE 4096

/*
 * A second connect() of a socket that has its tuple: asks how the first one goes on, or
 * tells that it has failed.
 */
static int connect_again(struct attempt *a)
{
	int result = next()->connect(a->fd, a->to, a->length);
	int error = result < 0 ? errno : 0;

	if (!tuple_kept(error)) {
		tuple_lost(a->record, a->fd);
		errno = error;
	}
	return result;
}

/* connect() to AF_UNSPEC takes a socket off its tuple. */
static int disconnect(struct attempt *a)
{
	int result = next()->connect(a->fd, a->to, a->length);

	if (result == 0 && a->record != NULL)
		tuple_lost(a->record, a->fd);
	return result;
}

/* True for a TCP socket that can reach @a->faddr; its family is set then. */
static bool is_ours(struct attempt *a)
{
	struct sock_kind kind;

	if (a->family == 0) {
		if (sock_kind(a->fd, &kind) < 0 || kind.type != SOCK_STREAM ||
			(kind.protocol != IPPROTO_TCP && kind.protocol != IPPROTO_MPTCP))
			return false;
		a->family = kind.family;
	}
	return a->family == a->to->sa_family;
}

static bool destination_served(const struct attempt *a)
{
	return a->fport != 0 && !addr_is_multicast(&a->faddr) && !addr_is_broadcast(&a->faddr);
}

/*
 * Whether the socket is free to be given a tuple; fills in what the program has chosen. *bound
 * says that the port is one we bound explicitly. A port that a socket of ours has lost is told by
 * getsockname() still; any other one is the program's.
 */
static bool unbound(struct attempt *a, bool *bound)
{
	uint16_t port;

	*bound = false;
	if (sock_local(a->fd, &a->laddr, &port) < 0)
		return false;
	if (port == 0) {
		a->address_given = !addr_is_any(&a->laddr);
		return true;
	}
	if (a->record == NULL ||
		port != atomic_load_explicit(&a->record->stale_port, memory_order_relaxed))
		return false;
	a->address_given = book_has_flag(a->record, RECORD_ADDRESS);
	*bound = book_has_flag(a->record, RECORD_EXPLICIT);
	if (*bound)
		a->lport = port;
	return true;
}

/*
 * The kernel takes the ANY address for this host: for the socket's own address when it has
 * one, else for the loopback address, which is what we give it.
 */
static bool resolve_any(struct attempt *a)
{
	if (!addr_is_any(&a->faddr))
		return true;
	if (a->address_given || pool_count(&a->rule->pool, &a->faddr) != 0)
		return false;
	addr_loopback(&a->faddr);
	return true;
}

static int pass(const struct attempt *a)
{
	table_count(&library.table, TUPLEBIND_PASSED);
	return next()->connect(a->fd, a->to, a->length);
}

static int take_over(struct attempt *a)
{
	bool bound;

	if (!library_table_sound())
		return next()->connect(a->fd, a->to, a->length);
	a->rule = plan_rule(&library.plan, &a->faddr, a->fport);
	if (a->rule->skip || !destination_served(a) || !unbound(a, &bound) ||
		!netns_has_socket(&library.netns, a->fd))
		return pass(a);
	if (bound)
		return tuple_connect_bound(a);
	if (!resolve_any(a))
		return pass(a);
	if (!a->address_given && pool_count(&a->rule->pool, &a->faddr) == 0 &&
		sock_routed_apart(a->fd))
		return pass(a);
	return walk_connect(a);
}

EXPORT int connect(int fd, const struct sockaddr *to, socklen_t length)
{
	struct attempt a = {.fd = fd, .to = to, .length = length};
	int saved = errno, result;

	/* NULL, or a member of a structure at NULL: the kernel answers EFAULT, we would crash. */
	bool readable = (uintptr_t)to >= FIRST_PAGE && length >= sizeof(sa_family_t);
	if (!readable || !library_active() || !book_usable())
		return next()->connect(fd, to, length);
	a.record = book_find(fd, &a.family);
	if (to->sa_family == AF_UNSPEC)
		return disconnect(&a);
	if (!addr_from_sockaddr(to, length, &a.faddr, &a.fport) || !is_ours(&a))
		return next()->connect(fd, to, length);
	if (a.record != NULL &&
		atomic_load_explicit(&a.record->claim, memory_order_acquire) != CLAIM_NONE)
		result = connect_again(&a);
	else
		result = take_over(&a);
	if (result == 0)
		errno = saved;
	return result;
}
