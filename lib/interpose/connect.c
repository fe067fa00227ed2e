/*
 * connect(): a socket that nobody has bound gets a local address and a port
 * that is unique for its tuple, then connects.
 *
 * Here it is decided which sockets that is for; everything else goes to the next
 * connect() untouched. send.c comes here as well.
 */
#include "interpose/attempt.h"
#include "interpose/plain.h"

#include "kernel/memory.h"
#include "kernel/sock.h"

#include <errno.h>
#include <netinet/in.h>

bool attempt_readable(const struct sockaddr *to, socklen_t length)
{
	return length >= sizeof(sa_family_t) && length <= sizeof(struct sockaddr_storage) &&
	       memory_readable(to, length);
}

int attempt_call(struct attempt *a)
{
	struct send *send = a->send;

	if (send == NULL)
		return next()->connect(a->fd, a->to, a->length);
	send->sent = send->message != NULL ? next()->sendmsg(a->fd, send->message, send->flags)
					   : next()->sendto(a->fd, send->bytes, send->length,
						     send->flags, a->to, a->length);
	return send->sent < 0 ? -1 : 0;
}

/*
 * A second connect() of a TCP socket that has its tuple: asks how the first one goes on, or
 * tells that it has failed.
 */
static int connect_again(struct attempt *a)
{
	claim held = atomic_load_explicit(&a->record->claim, memory_order_acquire);
	int result = attempt_call(a);
	int error = result < 0 ? errno : 0;

	if (!attempt_kept(a, error) && book_holds(a->record, held)) {
		tuple_lost(a->record, a->fd, NULL);
		errno = error;
	}
	return result;
}

/* connect() to AF_UNSPEC takes a socket off its tuple. */
static int disconnect(struct attempt *a)
{
	int result = attempt_call(a);

	if (result == 0 && a->record != NULL) {
		tuple_lost(a->record, a->fd, NULL);
		/* A UDP socket that is sent from now is bound by the kernel, from all ports. */
		if (library_serves(a->kind) && sock_kind_protocol(a->kind) == IPPROTO_UDP)
			tuple_restore(a->record, a->fd);
	}
	return result;
}

/* True for a socket of a kind that is served and that can reach @a->faddr; sets what it is. */
static bool is_ours(struct attempt *a)
{
	if (a->kind == KIND_OTHER)
		a->kind = sock_ask_kind(a->fd);
	if (!library_serves(a->kind))
		return false;
	a->family = sock_kind_family(a->kind);
	a->protocol = sock_kind_protocol(a->kind);
	/* No other protocol's send connects. */
	return a->family == a->to->sa_family && (a->send == NULL || a->protocol == IPPROTO_TCP);
}

bool attempt_destination_served(struct attempt *a, enum tuplebind_counter *why)
{
	return plan_serves(&library.plan, &a->faddr, a->fport, &a->rule, why);
}

/*
 * Whether the socket is free to be given a tuple; fills in what the program has chosen. *bound
 * says that the port is one we bound explicitly. A port that a socket of ours has lost is told by
 * getsockname() still; any other one is the program's.
 */
static bool unbound(struct attempt *a, bool *bound)
{
	bool touched = a->record != NULL && book_has_flag(a->record, RECORD_TOUCHED);
	uint16_t port;

	*bound = false;
	if (sock_local(a->fd, &a->laddr, &port) < 0)
		return false;
	if (port != 0 && (a->record == NULL || port != atomic_load_explicit(&a->record->stale_port,
							       memory_order_relaxed)))
		return false;
	if (touched) {
		a->address_given = book_has_flag(a->record, RECORD_ADDRESS);
	} else {
		a->address_given = port == 0 ? !addr_is_any(&a->laddr)
					     : book_has_flag(a->record, RECORD_ADDRESS);
		/* The program has told the kernel where to look for a port. */
		if (sock_ports_narrowed(a->fd))
			return false;
	}
	*bound = port != 0 && book_has_flag(a->record, RECORD_EXPLICIT);
	if (*bound)
		a->lport = port;
	return true;
}

/*
 * Whether routing may treat the socket unlike others, or other sockets may share its tuple: then
 * nobody but the kernel can tell which address and which port it is to have.
 */
static bool is_special(struct attempt *a)
{
	a->device = sock_device(a->fd);
	if (a->protocol == IPPROTO_UDP)
		return a->device != 0 || sock_reuses_port(a->fd) || sock_is_marked(a->fd);
	return !a->address_given && !pool_serves(&a->rule->pool, &a->faddr) &&
	       (a->device != 0 || sock_is_marked(a->fd));
}

int attempt_pass(struct attempt *a, enum tuplebind_counter why)
{
	static const char *const reasons[TUPLEBIND_COUNTERS] = {
		[TUPLEBIND_TABLE_FULL] = "table full",
		[TUPLEBIND_PASSED_SKIPPED] = "skipped by the settings",
		[TUPLEBIND_PASSED_BOUND] = "the program has chosen its port",
		[TUPLEBIND_PASSED_SPECIAL] = "only the kernel can serve it",
		[TUPLEBIND_PASSED_NAMESPACE] = "of another network namespace",
		[TUPLEBIND_PASSED_HELPLESS] = "no address could be bound",
		[TUPLEBIND_PASSED_FULL] = "no tuple left",
	};
	struct event e;

	book_note_changed(a->fd);
	table_count(&library.table, TUPLEBIND_PASSED);
	table_count(&library.table, why);
	if (event_begin(&e, LOG_DEBUG, "passed")) {
		attempt_describe(&e, a);
		event_text(&e, "reason", reasons[why]);
		event_end(&e);
	}
	return attempt_call(a);
}

static int take_over(struct attempt *a)
{
	enum tuplebind_counter why;
	bool bound = false;

	if (!library_table_sound())
		return attempt_call(a);
	if (!attempt_destination_served(a, &why))
		return attempt_pass(a, why);
	a->plain = plain_is(a);
	if (!a->plain && !unbound(a, &bound))
		return attempt_pass(a, TUPLEBIND_PASSED_BOUND);
	if (!a->plain && !netns_has_socket(&library.netns, a->fd))
		return attempt_pass(a, TUPLEBIND_PASSED_NAMESPACE);
	if (a->protocol == IPPROTO_UDP && !datagram_usable())
		return attempt_pass(a, TUPLEBIND_PASSED_SPECIAL);
	if (bound)
		return tuple_connect_bound(a);
	if (!plan_resolve_any(a->rule, a->address_given, &a->faddr) || (!a->plain && is_special(a)))
		return attempt_pass(a, TUPLEBIND_PASSED_SPECIAL);
	return walk_connect(a);
}

static bool has_claim(const struct attempt *a)
{
	return a->record != NULL &&
	       atomic_load_explicit(&a->record->claim, memory_order_acquire) != CLAIM_NONE;
}

static int run(struct attempt *a)
{
	if (!library_active() || !attempt_readable(a->to, a->length) || !book_usable())
		return attempt_call(a);
	a->record = book_find(a->fd, &a->kind);
	if (a->to->sa_family == AF_UNSPEC)
		return a->send == NULL ? disconnect(a) : attempt_call(a);
	if (!addr_from_sockaddr(a->to, a->length, &a->faddr, &a->fport) || !is_ours(a))
		return attempt_call(a);
	if (plan_look_at_ports(&library.plan))
		stream_tell_ports_changed(a);
	if (!has_claim(a))
		return take_over(a);
	return a->protocol == IPPROTO_UDP ? datagram_connect_again(a) : connect_again(a);
}

int attempt_run(struct attempt *a)
{
	int saved = errno, result = run(a);

	if (result == 0)
		errno = saved;
	return result;
}

EXPORT int connect(int fd, const struct sockaddr *to, socklen_t length)
{
	struct attempt a = {.fd = fd, .to = to, .length = length};

	return attempt_run(&a);
}
