/*
 * connect(): a TCP socket that nobody has bound gets a local address and a port
 * that is unique for its tuple, then connects.
 *
 * The order of things: what is not ours to touch is left alone; then for each local
 * address and each stage of ports a claim is taken, the socket is given the tuple by late
 * or explicit bind, and the next connect() in the chain is called. Nothing is done to the socket
 * before a claim is had, so a connect() that finds no tuple free costs a look at the table. A tuple
 * that the kernel refuses stays claimed (somebody has it; reap finds out when that ends) and the
 * next one is tried. The claim is in the book before the kernel sees the tuple, so that a thread
 * cancelled in connect() leaks nothing.
 */
#include "interpose/library.h"

#include "base/log.h"
#include "kernel/diag.h"
#include "kernel/sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* One connect(), from beginning to end. */
struct attempt {
	int fd;
	const struct sockaddr *to;
	socklen_t length;
	int family; /* of the socket */
	struct addr faddr;
	uint16_t fport;
	const struct rule *rule;
	bool address_given; /* the program bound an address, without a port */
	struct addr laddr;
	struct record *record;
	bool touched;  /* the socket was given options or an address by us */
	bool prepared; /* ... the options of late bind */
	struct tuplebind_lane lane;
	uint64_t lane_hash;
	struct tuplebind_flight *flight;
	claim claim;
	uint16_t lport;
};

/*
 * Reaping on the way of a connect(): this many claims are enough for now, it takes no longer than
 * this, and without a reason no more than one part in REAP_SHARE of the time.
 */
#define REAP_ENOUGH  256
#define REAP_LONGEST UINT64_C(200000000) /* ns */
#define REAP_PAUSE   UINT64_C(100000000) /* ns */
#define REAP_SHARE   20

#define TIMEWAIT_SECONDS 60 /* TCP_TIMEWAIT_LEN of the kernel */

/* What came of trying one tuple. */
enum tried {
	TRIED_DONE,	    /* connect() was called and its result stands */
	TRIED_NEXT_PORT,    /* somebody has the tuple */
	TRIED_NEXT_ADDRESS, /* the address cannot be bound */
	TRIED_GIVE_UP,	    /* nothing will help: let the kernel do it */
	TRIED_NO_LATE,	    /* this kernel has no late bind */
};

static void say(enum log_level level, const char *what, const struct attempt *a, int error)
{
	struct text line;

	if (!log_wants(level))
		return;
	text_clear(&line);
	text_put(&line, what);
	text_put(&line, " fd=");
	text_put_number(&line, (uint64_t)a->fd);
	if (a->lport != 0) {
		text_put(&line, " local=");
		text_put_endpoint(&line, &a->laddr, a->lport);
	}
	text_put(&line, " foreign=");
	text_put_endpoint(&line, &a->faddr, a->fport);
	if (error != 0) {
		text_put(&line, " errno=");
		text_put_number(&line, (uint64_t)error);
	}
	log_text(level, &line);
}

/* Errors after which the socket goes on connecting, or is connected. */
static bool keeps_tuple(int error)
{
	return error == 0 || error == EINPROGRESS || error == EINTR || error == EALREADY ||
	       error == EISCONN || error == EAGAIN;
}

static void landed(void *flight)
{
	flight_end(flight);
}

/*
 * Calls the next connect(); returns 0 or its errno. The thread may be cancelled in there: what
 * runs then is landed(), and the book knows of the claim already.
 */
static int connect_with_claim(struct attempt *a)
{
	int error;

	book_set_claim(a->record, a->claim);
	pthread_cleanup_push(landed, a->flight);
	error = next()->connect(a->fd, a->to, a->length) < 0 ? errno : 0;
	pthread_cleanup_pop(0);
	return error;
}

/* A forked child is entered among the processes when it first connects. */
static void enter_process(void)
{
	if (library.self.entry == NULL)
		process_enter(&library.table, &library.self);
	if (atomic_load_explicit(&library.token, memory_order_relaxed) == 0)
		atomic_store_explicit(
			&library.token, process_token(getpid()), memory_order_relaxed);
}

/* Tells reap that a claim is about to be made in the lane. */
static void take_off(struct attempt *a)
{
	enter_process();
	a->lane_hash = slab_lane_hash(&library.table, &a->lane);
	a->flight = flight_begin(&library.table,
		atomic_load_explicit(&library.token, memory_order_relaxed), a->lane_hash);
}

static void keep_for_stranger(struct attempt *a)
{
	book_set_claim(a->record, CLAIM_NONE);
	process_strayed(&library.table);
	table_count(&library.table, TUPLEBIND_RETRIES);
	say(LOG_DEBUG, "taken by somebody else", a, 0);
}

static void set_flag(struct record *r, enum record_flag flag)
{
	atomic_fetch_or_explicit(&r->flags, (uint32_t)flag, memory_order_relaxed);
}

static void clear_flag(struct record *r, enum record_flag flag)
{
	atomic_fetch_and_explicit(&r->flags, ~(uint32_t)flag, memory_order_relaxed);
}

static bool has_flag(const struct record *r, enum record_flag flag)
{
	return atomic_load_explicit(&r->flags, memory_order_relaxed) & (uint32_t)flag;
}

/*
 * The kernel ignores a port outside ip_local_port_range and takes another one. It is the
 * authority: the claim moves to the port the socket has, and the range is read anew.
 */
static void check_port(struct attempt *a)
{
	static struct log_once moved;
	struct addr local;
	uint16_t port;

	if (sock_local(a->fd, &local, &port) < 0 || port == a->lport || port == 0)
		return;
	claim_give_back(&library.table, a->claim);
	a->lport = port;
	if (claim_take_port(&library.table, &a->lane, port, &a->claim) < 0)
		a->claim = CLAIM_NONE;
	book_set_claim(a->record, a->claim);
	if (log_due(&moved, LOG_INFO))
		say(LOG_INFO, "the kernel's port range has changed, read anew", a, 0);
	plan_set_ports(&library.plan);
}

/* After connect() returned @error and the kernel had no objection to the tuple. */
static enum tried finish(struct attempt *a, int error, enum tuplebind_counter way)
{
	if (!keeps_tuple(error)) {
		/* Refused, timed out, no route: the socket holds its tuple no more. */
		book_give_back(&library.table, a->record);
		set_flag(a->record, RECORD_STALE);
	} else {
		clear_flag(a->record, RECORD_STALE);
		if (way == TUPLEBIND_LATE)
			check_port(a);
	}
	table_count(&library.table, TUPLEBIND_BOUND);
	table_count(&library.table, way);
	say(LOG_DEBUG, "connected", a, error);
	errno = error;
	return TRIED_DONE;
}

static enum tried bind_failed(struct attempt *a, int error)
{
	switch (error) {
	case -EADDRINUSE: /* a listener, or a socket without SO_REUSEADDR */
	case -EACCES:	  /* a privileged port */
		keep_for_stranger(a);
		return TRIED_NEXT_PORT;
	case -EADDRNOTAVAIL:
		claim_give_back(&library.table, a->claim);
		return TRIED_NEXT_ADDRESS;
	default:
		claim_give_back(&library.table, a->claim);
		return TRIED_GIVE_UP;
	}
}

/*
 * Explicit bind, on a tuple that the kernel was seen not to have, or to have in TIME_WAIT: a socket
 * once bound so cannot be moved to another port.
 */
static enum tried bind_and_connect(struct attempt *a, bool timewait)
{
	int error = sock_reuse_address(a->fd);

	a->touched = true;
	if (error == 0)
		error = sock_bind(a->fd, a->family, &a->laddr, a->lport);
	if (error < 0)
		return bind_failed(a, error);
	set_flag(a->record, RECORD_EXPLICIT);
	error = connect_with_claim(a);
	if (timewait && keeps_tuple(error))
		table_count(&library.table, TUPLEBIND_TIMEWAIT_REUSED);
	/* A peer without TCP timestamps: the others of the lane need not be tried for a while. */
	if (timewait && error == EADDRNOTAVAIL)
		aside_put(&library.timewait_refused, a->lane_hash, TIMEWAIT_SECONDS);
	return finish(a, error, TUPLEBIND_EXPLICIT);
}

static bool timewait_reusable(const struct attempt *a)
{
	return !aside_has(&library.timewait_refused, a->lane_hash);
}

static enum tried try_explicit(struct attempt *a)
{
	int state = diag_tuple(&a->lane, a->lport);

	if (state == DIAG_HELD || state == DIAG_ORPHAN ||
		(state == DIAG_TIMEWAIT && !timewait_reusable(a))) {
		keep_for_stranger(a);
		return TRIED_NEXT_PORT;
	}
	return bind_and_connect(a, state == DIAG_TIMEWAIT);
}

/* Late bind: options once per socket, the address once per address, the port each time. */
static int prepare_late(struct attempt *a, bool new_address)
{
	int error = 0;

	a->touched = true;
	if (!a->prepared) {
		error = sock_reuse_address(a->fd);
		if (error == 0)
			error = sock_bind_takes_no_port(a->fd);
		a->prepared = error == 0;
	}
	if (error == 0)
		error = sock_narrow_ports(a->fd, a->lport);
	if (error == 0 && new_address && !a->address_given)
		error = sock_bind(a->fd, a->family, &a->laddr, 0);
	return error;
}

static enum tried try_late(struct attempt *a, bool new_address)
{
	int error = prepare_late(a, new_address);

	if (error == -ENOPROTOOPT) {
		claim_give_back(&library.table, a->claim);
		return TRIED_NO_LATE;
	}
	if (error < 0)
		return bind_failed(a, error);
	error = connect_with_claim(a);
	if (error != EADDRNOTAVAIL)
		return finish(a, error, TUPLEBIND_LATE);
	/*
	 * In TIME_WAIT it can be had by explicit bind, which reuses it at once (KERNEL: as long as
	 * TCP timestamps are on). A NO_PORT bind has left no port, so this is allowed.
	 */
	if (timewait_reusable(a) && diag_tuple(&a->lane, a->lport) == DIAG_TIMEWAIT)
		return bind_and_connect(a, true);
	keep_for_stranger(a);
	return TRIED_NEXT_PORT;
}

static void set_lane(struct attempt *a)
{
	a->lane = (struct tuplebind_lane){.fport = a->fport, .protocol = IPPROTO_TCP};
	memcpy(a->lane.laddr, a->laddr.bytes, sizeof a->lane.laddr);
	memcpy(a->lane.faddr, a->faddr.bytes, sizeof a->lane.faddr);
	a->lane.scope = a->faddr.scope;
}

/* A socket connected to its own address and port would talk to itself. */
static uint16_t port_to_avoid(const struct attempt *a)
{
	return addr_equal(&a->laddr, &a->faddr) ? a->fport : 0;
}

/* What one address came to: TRIED_*, or one of these. */
enum { ADDRESS_FULL = 100, ADDRESS_TABLE_FULL };

static int try_tuples(struct attempt *a)
{
	bool new_address = true, table_full = false;

	for (enum stage stage = STAGE_LATE; stage < STAGES; stage++) {
		for (;;) {
			flight_carry(a->flight, a->lane_hash, CLAIM_NONE);
			int got = claim_take(&library.table, &a->lane, &a->rule->ports->order,
				stage, &library.walk, port_to_avoid(a), &a->claim, &a->lport);

			if (got < 0) {
				table_full |= got == -ENOSPC;
				break;
			}
			flight_carry(a->flight, a->lane_hash, a->claim);
			/* The first touch of this socket comes with a record for it. */
			if (a->record == NULL)
				a->record = book_record(a->fd, a->family);
			if (a->record == NULL) {
				claim_give_back(&library.table, a->claim);
				return TRIED_GIVE_UP;
			}
			enum tried tried =
				stage == STAGE_LATE ? try_late(a, new_address) : try_explicit(a);
			if (tried != TRIED_NEXT_PORT)
				return tried;
			new_address = false;
		}
	}
	a->lport = 0;
	return table_full ? ADDRESS_TABLE_FULL : ADDRESS_FULL;
}

static int try_address(struct attempt *a)
{
	set_lane(a);
	take_off(a);
	int tried = try_tuples(a);
	int error = errno;
	flight_end(a->flight);
	errno = error;
	return tried;
}

/* The kernel's own try, on a socket as it would be without us (but for SO_REUSEADDR). */
static int leave_to_kernel(struct attempt *a)
{
	if (a->touched) {
		struct addr any = {.scope = 0};

		if (addr_is_v4(&a->faddr) && a->family == AF_INET)
			any = addr_from_number((unsigned __int128)0xffff << 32);
		sock_narrow_ports(a->fd, 0);
		if (!a->address_given)
			sock_bind(a->fd, a->family, &any, 0);
	}
	table_count(&library.table, TUPLEBIND_PASSED);
	return next()->connect(a->fd, a->to, a->length);
}

static int no_tuple_left(struct attempt *a)
{
	static struct log_once said;

	table_count(&library.table, TUPLEBIND_FULL);
	if (log_due(&said, LOG_WARN))
		say(LOG_WARN,
			library.plan.when_full == FULL_KERNEL
				? "no tuple left, the kernel may try (said once a minute)"
				: "no tuple left, failing with EADDRNOTAVAIL (said once a minute)",
			a, 0);
	if (library.plan.when_full == FULL_KERNEL)
		return leave_to_kernel(a);
	errno = EADDRNOTAVAIL;
	return -1;
}

static int table_is_full(struct attempt *a)
{
	static struct log_once said;

	table_count(&library.table, TUPLEBIND_TABLE_FULL);
	if (log_due(&said, LOG_WARN))
		say(LOG_WARN,
			"table full, the kernel chooses; set a larger TUPLEBIND_TABLE_SIZE (said "
			"once a minute)",
			a, 0);
	return leave_to_kernel(a);
}

static void no_late_bind(void)
{
	log_line(LOG_INFO, "this kernel has no late bind (Linux 6.3), using explicit bind");
	atomic_store_explicit(&library.plan.late, 0, memory_order_relaxed);
	plan_set_ports(&library.plan);
}

/* What all addresses of a walk came to. */
struct walked {
	bool done, give_up, full, table_full;
};

/*
 * The next address to try: the one that the program has bound, once, or the next of the walk.
 */
static bool next_address(struct attempt *a, struct source_walk *walk, bool first)
{
	return a->address_given ? first : source_walk_next(walk, &a->laddr);
}

static void start_walk(const struct attempt *a, struct source_walk *walk)
{
	if (!a->address_given)
		source_walk_start(walk, &library.sources, a->rule, library.plan.balance, &a->faddr);
}

static struct walked walk_addresses(struct attempt *a)
{
	struct source_walk walk;
	struct walked walked = {.done = false};

	start_walk(a, &walk);
	for (bool first = true; next_address(a, &walk, first); first = false) {
		int tried = try_address(a);

		if (tried == TRIED_NO_LATE) {
			no_late_bind();
			tried = try_address(a);
		}
		switch (tried) {
		case TRIED_DONE:
			walked.done = true;
			return walked;
		case ADDRESS_FULL:
			walked.full = true;
			break;
		case ADDRESS_TABLE_FULL:
			walked.table_full = true;
			break;
		case TRIED_NEXT_ADDRESS:
			if (!a->address_given)
				source_walk_failed(&walk, &a->laddr);
			say(LOG_INFO, "address cannot be bound, set aside", a, EADDRNOTAVAIL);
			break;
		default:
			walked.give_up = true;
			return walked;
		}
	}
	return walked;
}

/* Reaps the lanes of all addresses; true when claims were given back. */
static bool reap_addresses(struct attempt *a, uint64_t deadline)
{
	static _Atomic unsigned place; /* where the last one went on to, roughly */
	struct source_walk walk;
	struct reap reap;
	unsigned freed = 0;
	int error = reap_start(&reap, &library.table);

	if (error < 0)
		return error == -EBUSY && reap_wait(&library.table, deadline);
	/* The kernel would refuse them now, and the lane would be no less full for it. */
	reap.keep_orphans = true;
	start_walk(a, &walk);
	for (bool first = true; freed == 0 && next_address(a, &walk, first); first = false) {
		unsigned number = atomic_load_explicit(&place, memory_order_relaxed);

		set_lane(a);
		freed = reap_lane(&reap, &a->lane, &number, REAP_ENOUGH, deadline);
		atomic_store_explicit(&place, number, memory_order_relaxed);
	}
	reap_end(&reap);
	return freed != 0;
}

/*
 * When no tuple is left: are some only taken because their holders died? Looked into at once when
 * something happened that may leave such claims, unless looking took half of the time
 * lately, and else now and then, so that most failing connects cost no more than the
 * look at the table.
 */
static bool reap_for(struct attempt *a)
{
	static _Atomic uint64_t strays_seen, next_look, next_look_for_strays;
	uint64_t strays = process_strays(&library.table), now = reap_now();
	bool strayed = strays != atomic_load_explicit(&strays_seen, memory_order_relaxed);

	if (now < atomic_load_explicit(
			  strayed ? &next_look_for_strays : &next_look, memory_order_relaxed))
		return false;
	bool freed = reap_addresses(a, now + REAP_LONGEST);
	uint64_t end = reap_now(), took = end - now;
	uint64_t pause = took * REAP_SHARE > REAP_PAUSE ? took * REAP_SHARE : REAP_PAUSE;
	/* As long as there is something to be had, the next failing connect looks again. */
	if (!freed)
		atomic_store_explicit(&strays_seen, strays, memory_order_relaxed);
	atomic_store_explicit(&next_look_for_strays, freed ? 0 : end + took, memory_order_relaxed);
	atomic_store_explicit(&next_look, freed ? 0 : end + pause, memory_order_relaxed);
	return freed;
}

static int choose_and_connect(struct attempt *a)
{
	struct walked walked = walk_addresses(a);

	if (walked.full && !walked.done && !walked.give_up && !walked.table_full && reap_for(a))
		walked = walk_addresses(a);
	if (walked.done)
		return errno == 0 ? 0 : -1;
	if (walked.table_full)
		return table_is_full(a);
	return walked.full && !walked.give_up ? no_tuple_left(a) : leave_to_kernel(a);
}

/*
 * A second connect() of a socket that has its tuple: asks how the first one goes on, or
 * tells that it has failed.
 */
static int connect_again(struct attempt *a)
{
	int result = next()->connect(a->fd, a->to, a->length);
	int error = result < 0 ? errno : 0;

	if (!keeps_tuple(error)) {
		book_give_back(&library.table, a->record);
		set_flag(a->record, RECORD_STALE);
		errno = error;
	}
	return result;
}

/*
 * A socket that we bound explicitly and whose connect() failed keeps its port: it gets the
 * claim for it in the lane of its next destination, if nobody has it.
 */
static int connect_bound(struct attempt *a)
{
	set_lane(a);
	take_off(a);
	if (claim_take_port(&library.table, &a->lane, a->lport, &a->claim) < 0) {
		flight_end(a->flight);
		return next()->connect(a->fd, a->to, a->length);
	}
	flight_carry(a->flight, a->lane_hash, a->claim);
	int error = connect_with_claim(a);
	finish(a, error, TUPLEBIND_EXPLICIT);
	flight_end(a->flight);
	errno = error;
	return error == 0 ? 0 : -1;
}

/* connect() to AF_UNSPEC takes a socket off its tuple. */
static int disconnect(struct attempt *a)
{
	int result = next()->connect(a->fd, a->to, a->length);

	if (result == 0 && a->record != NULL) {
		book_give_back(&library.table, a->record);
		set_flag(a->record, RECORD_STALE);
	}
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
 * says that the port is one we bound explicitly.
 */
static bool unbound(struct attempt *a, bool *bound)
{
	uint16_t port;

	*bound = false;
	if (sock_local(a->fd, &a->laddr, &port) < 0)
		return false;
	if (port != 0) {
		if (a->record == NULL || !has_flag(a->record, RECORD_STALE))
			return false;
		if (has_flag(a->record, RECORD_EXPLICIT)) {
			*bound = true;
			a->lport = port;
		}
		return true;
	}
	/* An address that was ours to choose last time is so again. */
	a->address_given = !addr_is_any(&a->laddr) &&
			   !(a->record != NULL && has_flag(a->record, RECORD_STALE));
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
		return connect_bound(a);
	if (!resolve_any(a))
		return pass(a);
	if (!a->address_given && pool_count(&a->rule->pool, &a->faddr) == 0 &&
		sock_routed_apart(a->fd))
		return pass(a);
	return choose_and_connect(a);
}

EXPORT int connect(int fd, const struct sockaddr *to, socklen_t length)
{
	struct attempt a = {.fd = fd, .to = to, .length = length};
	int saved = errno, result;

	if (!library_active() || to == NULL || length < sizeof(sa_family_t) || !book_usable())
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
