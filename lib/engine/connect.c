/*
 * engine_connect(): which sockets are given a tuple, and which way each of them goes.
 */
#include "engine/again.h"
#include "engine/first.h"
#include "engine/leave.h"
#include "engine/udp.h"

#include <errno.h>
#include <netinet/in.h>

/* What a socket without a claim is to connect with. */
enum has {
	HAS_NOTHING, /* no port: it can be given a tuple */
	HAS_OURS,    /* a port that we bound explicitly */
	HAS_PORT,    /* a port of the program's */
	HAS_RANGE,   /* the program has told the kernel where to look for one */
	HAS_LOST,    /* the program had bound an address, which is gone */
	HAS_FOREIGN, /* the socket is of another network namespace */
};

static bool look_at_kind(struct facts *f, const struct call *c)
{
	f->kind = c->kind != KIND_OTHER ? c->kind : sock_ask_kind(c->fd);
	if (!engine_serves(c->engine, f->kind))
		return false;
	f->family = sock_kind_family(f->kind);
	f->protocol = sock_kind_protocol(f->kind);
	/* No other protocol's send connects. */
	return f->family == c->to->sa_family && (!c->sends || f->protocol == IPPROTO_TCP);
}

/*
 * Fills in what the program has chosen, and for a port of ours its number. A port that a socket of
 * ours has lost is told by getsockname() still; any other one is the program's.
 */
static enum has look_at_ends(struct facts *f, struct attempt *a)
{
	const struct state *s = a->state;
	int fd = a->call->fd;
	bool touched = s != NULL && state_has_flag(s, STATE_TOUCHED);
	/* Its address is ours, unless we know that it is not. */
	bool ours = touched || (s != NULL && state_has_flag(s, STATE_BOUND));
	bool given = s != NULL && state_has_flag(s, STATE_ADDRESS);
	uint16_t port;

	if (sock_local(fd, &a->from.addr, &port) < 0)
		return HAS_PORT;
	if (port != 0 &&
		(s == NULL || port != atomic_load_explicit(&s->stale_port, memory_order_relaxed)))
		return HAS_PORT;
	if (!netns_has_socket(&a->engine->netns, fd))
		return HAS_FOREIGN;
	f->address_given = ours || port != 0 ? given : !addr_is_any(&a->from.addr);
	if (given && addr_is_any(&a->from.addr))
		return HAS_LOST;
	if (!touched && sock_ports_narrowed(fd))
		return HAS_RANGE;
	if (port == 0 || !state_has_flag(s, STATE_EXPLICIT))
		return HAS_NOTHING;
	a->held.lport = port;
	return HAS_OURS;
}

/*
 * Whether routing may treat the socket unlike others: then nobody but the kernel can tell which
 * address it is to have, or what may be on the tuple.
 */
static bool is_special(struct facts *f, const struct attempt *a)
{
	f->device = sock_device(a->call->fd);
	if (f->protocol == IPPROTO_UDP)
		return f->device != 0 || sock_is_marked(a->call->fd);
	return !attempt_has_pool(a) && !f->address_given &&
	       (f->device != 0 || sock_is_marked(a->call->fd));
}

/*
 * The kernel's search, from an address that the program or the pool has chosen. The ANY address is
 * this host, and becomes the socket's own address if that has one.
 */
static int leave_search(struct attempt *a, enum tuplebind_counter why)
{
	return addr_is_any(&a->to.addr) ? leave_whole(a, why) : leave_port(a, SEARCH_FREELY, why);
}

/* The connect() of a socket without a claim. */
static int connect_unclaimed(struct facts *f, struct attempt *a)
{
	bool udp = f->protocol == IPPROTO_UDP;

	f->untouched = a->call->front->is_untouched(a->call, f->protocol);
	enum has has = f->untouched ? HAS_NOTHING : look_at_ends(f, a);
	switch (has) {
	case HAS_PORT:
		return leave_whole(a, TUPLEBIND_PASSED_BOUND);
	case HAS_FOREIGN:
		return leave_whole(a, TUPLEBIND_PASSED_NAMESPACE);
	case HAS_LOST:
		return refuse_lost(a);
	case HAS_RANGE:
		return leave_search(a, TUPLEBIND_PASSED_BOUND);
	default:
		break;
	}
	if (udp && !udp_usable(a->engine))
		return leave_search(a, TUPLEBIND_PASSED_SPECIAL);
	if (has == HAS_OURS)
		return again_bound(a);
	if (!plan_resolve_any(f->rule, f->address_given, &a->to.addr))
		return leave_whole(a, TUPLEBIND_PASSED_SPECIAL);
	/* In a group of its own, whose steering another address might change. */
	if (!f->untouched && udp && sock_reuses_port(a->call->fd))
		return leave_whole(a, TUPLEBIND_PASSED_SPECIAL);
	if (!f->untouched && is_special(f, a))
		return leave_search(a, TUPLEBIND_PASSED_SPECIAL);
	return first_connect(a);
}

static int connect_claimed_udp(struct facts *f, struct attempt *a)
{
	int error = again_udp(a);

	if (error != -EAGAIN)
		return error;
	f->address_given = state_has_flag(a->state, STATE_ADDRESS);
	return first_connect(a);
}

static int connect_served(struct facts *f, struct attempt *a)
{
	bool claimed = a->state != NULL && state_claim(a->state) != CLAIM_NONE;
	enum tuplebind_counter why;

	if (plan_look_at_ports(&a->engine->plan))
		attempt_tell_ports_changed(a);
	/* It has its tuple, whatever becomes of the table. */
	if (claimed && f->protocol == IPPROTO_TCP)
		return again_tcp(a);
	if (!engine_table_sound(a->engine)) {
		if (claimed)
			return udp_leave(a);
		if (!engine_refuses(a->engine))
			return attempt_make(a);
		struct outcome refused = engine_connect_refusing(a->call);
		a->became = refused.became;
		return refused.error;
	}
	if (!plan_serves(&a->engine->plan, &a->to.addr, a->to.port, &f->rule, &why))
		return claimed ? udp_leave(a) : leave_whole(a, why);
	return claimed ? connect_claimed_udp(f, a) : connect_unclaimed(f, a);
}

struct outcome engine_connect(const struct call *c, struct state *s)
{
	struct facts facts = {.kind = c->kind};
	struct attempt a = {.call = c, .engine = c->engine, .socket = &facts, .state = s};
	int error;

	if (c->to->sa_family == AF_UNSPEC && !c->sends)
		error = again_unspecified(&a);
	else if (!addr_from_sockaddr(c->to, c->length, &a.to.addr, &a.to.port) ||
		 !look_at_kind(&facts, c))
		error = attempt_make(&a);
	else
		error = connect_served(&facts, &a);
	return (struct outcome){a.became, error};
}

struct outcome engine_connect_refusing(const struct call *c)
{
	struct facts facts;
	struct addr faddr, laddr;
	uint16_t fport, lport;
	const struct rule *rule;
	enum tuplebind_counter unused;

	if (addr_from_sockaddr(c->to, c->length, &faddr, &fport) && look_at_kind(&facts, c) &&
		plan_serves(&c->engine->plan, &faddr, fport, &rule, &unused) &&
		sock_local(c->fd, &laddr, &lport) == 0 && lport == 0 && addr_is_any(&laddr))
		return (struct outcome){BECAME_REFUSED, EADDRNOTAVAIL};
	return (struct outcome){BECAME_MADE, c->front->make(c, NULL, NULL)};
}
