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

/* What a socket without a claim is to connect() with. */
enum has {
	HAS_NOTHING, /* no port: it can be given a tuple */
	HAS_OURS,    /* a port that we bound explicitly */
	HAS_PORT,    /* a port of the program's */
	HAS_RANGE,   /* the program has told the kernel where to look for one */
	HAS_LOST,    /* the program had bound an address, which is gone */
};

/*
 * Fills in what the program has chosen. A port that a socket of ours has lost is told by
 * getsockname() still; any other one is the program's.
 */
static enum has look(struct attempt *a)
{
	const struct record *r = a->record;
	/* Its address is ours, unless we know that it is not. */
	bool ours =
		r != NULL && (book_has_flag(r, RECORD_TOUCHED) || book_has_flag(r, RECORD_BOUND));
	bool given = r != NULL && book_has_flag(r, RECORD_ADDRESS);
	uint16_t port;

	if (sock_local(a->fd, &a->laddr, &port) < 0)
		return HAS_PORT;
	if (port != 0 &&
		(r == NULL || port != atomic_load_explicit(&r->stale_port, memory_order_relaxed)))
		return HAS_PORT;
	a->address_given = ours || port != 0 ? given : !addr_is_any(&a->laddr);
	if (given && addr_is_any(&a->laddr))
		return HAS_LOST;
	if (!(r != NULL && book_has_flag(r, RECORD_TOUCHED)) && sock_ports_narrowed(a->fd))
		return HAS_RANGE;
	if (port == 0 || !book_has_flag(r, RECORD_EXPLICIT))
		return HAS_NOTHING;
	a->lport = port;
	return HAS_OURS;
}

/*
 * Whether routing may treat the socket unlike others: then nobody but the kernel can tell which
 * address it is to have, or what may be on the tuple.
 */
static bool is_special(struct attempt *a)
{
	a->device = sock_device(a->fd);
	if (a->protocol == IPPROTO_UDP)
		return a->device != 0 || sock_is_marked(a->fd);
	return !a->address_given && !pool_serves(&a->rule->pool, &a->faddr) &&
	       (a->device != 0 || sock_is_marked(a->fd));
}

void attempt_note_passed(const struct attempt *a, enum tuplebind_counter why)
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
}

void attempt_note_stale_port(const struct attempt *a, int error)
{
	struct addr unused;
	uint16_t port;

	if (a->record == NULL || a->protocol != IPPROTO_TCP || attempt_kept(a, error) ||
		sock_local(a->fd, &unused, &port) < 0)
		return;
	atomic_store_explicit(&a->record->stale_port, port, memory_order_relaxed);
}

int attempt_pass(struct attempt *a, enum tuplebind_counter why)
{
	/* The port that it will have is the kernel's choice for this call, not the program's. */
	bool pristine = book_is_pristine(a->fd);

	attempt_note_passed(a, why);
	/* What an earlier connect() of ours has left is not for this one. */
	tuple_restore(a->record, a->fd);
	int result = attempt_call(a), error = result < 0 ? errno : 0;
	if (error != 0 && pristine) {
		if (a->record == NULL && !attempt_kept(a, error))
			a->record = book_record(a->fd, a->kind);
		attempt_note_stale_port(a, error);
	}
	errno = error;
	return result;
}

/*
 * The kernel's search, from an address that the program or the pool has chosen. The ANY address is
 * this host, and becomes the socket's own address if that has one.
 */
static int leave_port_to_kernel(struct attempt *a, enum tuplebind_counter why)
{
	return addr_is_any(&a->faddr) ? attempt_pass(a, why)
				      : walk_leave_to_kernel(a, SEARCH_FREELY, why);
}

/*
 * A socket that keeps the port of an explicit bind keeps the address, too: it may be none of those
 * that this destination is to be reached from.
 */
static int connect_bound(struct attempt *a)
{
	bool pool = pool_serves(&a->rule->pool, &a->faddr);
	bool any = addr_is_any(&a->laddr);
	bool right =
		a->address_given || (pool ? pool_has(&a->rule->pool, &a->faddr, &a->laddr) : any);

	if (!right &&
		walk_refuse_unusable(a, "the socket keeps the address of an earlier connect()") < 0)
		return -1;
	return tuple_connect_bound(a);
}

/* What would be served is refused, where nothing of the table can be used. */
static int run_refusing(struct attempt *a)
{
	enum tuplebind_counter unused;
	struct addr laddr;
	uint16_t lport;

	if (!attempt_readable(a->to, a->length) ||
		!addr_from_sockaddr(a->to, a->length, &a->faddr, &a->fport) || !is_ours(a) ||
		!attempt_destination_served(a, &unused) || sock_local(a->fd, &laddr, &lport) < 0 ||
		lport != 0 || !addr_is_any(&laddr))
		return attempt_call(a);
	errno = EADDRNOTAVAIL;
	return -1;
}

static int take_over(struct attempt *a)
{
	enum tuplebind_counter why;
	enum has has = HAS_NOTHING;

	if (!library_table_sound())
		return library_refuses() ? run_refusing(a) : attempt_call(a);
	if (!attempt_destination_served(a, &why))
		return attempt_pass(a, why);
	a->plain = plain_is(a);
	if (!a->plain)
		has = look(a);
	if (has == HAS_PORT)
		return attempt_pass(a, TUPLEBIND_PASSED_BOUND);
	if (!a->plain && !netns_has_socket(&library.netns, a->fd))
		return attempt_pass(a, TUPLEBIND_PASSED_NAMESPACE);
	if (has == HAS_LOST)
		return walk_refuse_lost(a);
	if (has == HAS_RANGE)
		return leave_port_to_kernel(a, TUPLEBIND_PASSED_BOUND);
	if (a->protocol == IPPROTO_UDP && !datagram_usable())
		return leave_port_to_kernel(a, TUPLEBIND_PASSED_SPECIAL);
	if (has == HAS_OURS)
		return connect_bound(a);
	if (!plan_resolve_any(a->rule, a->address_given, &a->faddr))
		return attempt_pass(a, TUPLEBIND_PASSED_SPECIAL);
	/* In a group of its own, whose steering another address might change. */
	if (!a->plain && a->protocol == IPPROTO_UDP && sock_reuses_port(a->fd))
		return attempt_pass(a, TUPLEBIND_PASSED_SPECIAL);
	if (!a->plain && is_special(a))
		return leave_port_to_kernel(a, TUPLEBIND_PASSED_SPECIAL);
	return walk_connect(a);
}

static bool has_claim(const struct attempt *a)
{
	return a->record != NULL &&
	       atomic_load_explicit(&a->record->claim, memory_order_acquire) != CLAIM_NONE;
}

static int run(struct attempt *a)
{
	if (!library_active())
		return library_refuses() ? run_refusing(a) : attempt_call(a);
	if (!attempt_readable(a->to, a->length) || !book_usable())
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
