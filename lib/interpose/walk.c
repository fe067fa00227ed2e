/*
 * Going through the local addresses, and what happens when none has a tuple left.
 */
#include "interpose/attempt.h"

#include <errno.h>
#include <netinet/in.h>

/*
 * Reaping on the way of a connect(): this many claims are enough for now, it takes no longer than
 * this, and without a reason no more than one part in REAP_SHARE of the time.
 */
#define REAP_ENOUGH  256
#define REAP_LONGEST UINT64_C(500000000) /* ns */
#define REAP_ROUNDS  8
#define REAP_SHORT   UINT64_C(10000000)	 /* ns; a look this short may follow another */
#define REAP_PAUSE   UINT64_C(100000000) /* ns */
#define REAP_SHARE   20

/* Walks through all addresses before they are called full, as long as claims are given back
 * meanwhile. */
#define WALKS 8

static void no_late_bind(void)
{
	struct event e;

	if (event_begin(&e, LOG_INFO, "no-late-bind")) {
		event_text(&e, "reason", "this kernel has none (Linux 6.3)");
		event_text(&e, "then", "explicit bind");
		event_end(&e);
	}
	atomic_store_explicit(&library.plan.late, 0, memory_order_relaxed);
	plan_set_ports(&library.plan);
}

/* What all addresses of a walk came to. */
struct walked {
	bool done, give_up, lost, full, table_full;
};

/*
 * The next address to try: the one that the program has bound, once, or the next of the walk.
 */
static bool next_address(struct attempt *a, struct source_walk *walk, bool first)
{
	if (a->address_given)
		return first;
	bool more = source_walk_next(walk, &a->laddr);
	a->automatic = walk->automatic;
	a->freebind = walk->freebind;
	return more;
}

static void start_walk(const struct attempt *a, struct source_walk *walk)
{
	walk->automatic = true; /* nothing of a pool, if the program has bound an address */
	if (!a->address_given)
		source_walk_start(walk, &library.sources, a->rule, library.plan.balance, &a->faddr,
			a->protocol, a->fport);
}

/* Addresses from which the destination could not be reached, of one walk. */
struct misses {
	unsigned count;
	struct addr first;
	int error; /* of the first */
};

static void note_miss(struct misses *m, const struct attempt *a, struct source_walk *walk)
{
	int error = errno;

	if (m->count++ == 0) {
		m->first = a->laddr;
		m->error = error;
	}
	source_walk_unreachable(walk);
	errno = error;
}

/*
 * The log tells of a miss when another address has proved that the destination can be reached, or
 * when the program is told.
 */
static void note_done(const struct misses *m, const struct attempt *a, struct source_walk *walk)
{
	int error = errno;

	if (m->count != 0)
		source_walk_tell_unreachable(walk, &m->first, m->error);
	if (!a->unreachable)
		source_walk_worked(walk);
	errno = error;
}

static struct walked walk_addresses(struct attempt *a)
{
	struct source_walk walk;
	struct walked walked = {.done = false};
	struct misses misses = {.count = 0};

	start_walk(a, &walk);
	for (bool first = true; next_address(a, &walk, first); first = false) {
		a->unreachable = false;
		enum tried tried = tuple_try_address(a);
		if (tried == TRIED_NO_LATE) {
			no_late_bind();
			tried = tuple_try_address(a);
		}
		if (a->unreachable)
			note_miss(&misses, a, &walk);
		switch (tried) {
		case TRIED_DONE:
			walked.done = true;
			if (!a->address_given)
				note_done(&misses, a, &walk);
			return walked;
		case TRIED_FULL:
			walked.full = true;
			break;
		case TRIED_TABLE_FULL:
			walked.table_full = true;
			break;
		case TRIED_NEXT_ADDRESS:
			if (!a->address_given)
				source_walk_failed(&walk);
			break;
		case TRIED_UNREACHABLE:
			walked.done = misses.count == SOURCE_MISSES_MOST;
			if (walked.done) {
				errno = misses.error;
				return walked;
			}
			break;
		case TRIED_LOST:
			walked.lost = true;
			return walked;
		default:
			walked.give_up = true;
			return walked;
		}
	}
	return walked;
}

/* Reaps the lanes of all addresses; true when claims were given back. *seen: the kernel could be
 * asked. */
static bool reap_addresses(struct attempt *a, uint64_t deadline, bool *seen)
{
	static _Atomic unsigned place; /* where the last one went on to, roughly */
	struct source_walk walk;
	struct reap reap;
	unsigned freed = 0;
	int error = reap_start(&reap, &library.table);

	if (error == -EBUSY)
		return reap_wait(&library.table, deadline);
	*seen = error == 0;
	if (error < 0)
		return false;
	/* The kernel would refuse them now, and the lane would be no less full for it. */
	reap.keep_orphans = true;
	start_walk(a, &walk);
	for (bool first = true; freed == 0 && next_address(a, &walk, first); first = false) {
		unsigned number = atomic_load_explicit(&place, memory_order_relaxed);

		tuple_set_lane(a);
		freed = reap_lane(&reap, &a->lane, &number, REAP_ENOUGH, deadline);
		*seen &= reap.error == 0;
		atomic_store_explicit(&place, number, memory_order_relaxed);
	}
	reap_end(&reap);
	return freed != 0;
}

/* When a lane was last looked through for claims without a holder, and may be again. */
static struct {
	_Atomic uint64_t strays_seen, next, next_for_strays;
	_Atomic int blind; /* the kernel could not be asked */
} looks;

/*
 * When no tuple is left: are some only taken because their holders died? Looked into at once when
 * something happened that may leave such claims, unless long looks in vain took half of the time
 * lately, and else now and then, so that most failing connects cost no more than the look at the
 * table.
 */
static bool may_look(uint64_t now, uint64_t strays)
{
	bool strayed = strays != atomic_load_explicit(&looks.strays_seen, memory_order_relaxed);

	return now >= atomic_load_explicit(
			      strayed ? &looks.next_for_strays : &looks.next, memory_order_relaxed);
}

/* A look that helped may be followed by another at once. */
static void note_look(uint64_t start, bool helped, uint64_t strays)
{
	uint64_t end = reap_now(), took = end - start;
	uint64_t pause = took * REAP_SHARE > REAP_PAUSE ? took * REAP_SHARE : REAP_PAUSE;

	atomic_store_explicit(&looks.next, helped ? 0 : end + pause, memory_order_relaxed);
	atomic_store_explicit(&looks.next_for_strays, helped || took < REAP_SHORT ? 0 : end + took,
		memory_order_relaxed);
	if (!helped)
		atomic_store_explicit(&looks.strays_seen, strays, memory_order_relaxed);
}

static bool is_full(const struct walked *w)
{
	return w->full && !w->done && !w->give_up && !w->lost && !w->table_full;
}

/*
 * One by one all addresses may look full while there is always a tuple free, at another one. (For
 * one address claim_take() sees to that, but it knows one stage.)
 */
static struct walked walk_until_full(struct attempt *a)
{
	struct walked walked = walk_addresses(a);
	bool moving = true;

	for (int walk = 1; walk < WALKS && moving && is_full(&walked); walk++) {
		uint64_t count = claims_given_back(&library.table);

		walked = walk_addresses(a);
		moving = count != claims_given_back(&library.table);
	}
	return walked;
}

/*
 * Reaps and tries again, until that has given a tuple or gives nothing any more. *seen: the kernel
 * was asked, now or not long ago, whether the claims have holders.
 */
static struct walked reap_and_walk(struct attempt *a, struct walked walked, bool *seen)
{
	uint64_t start = reap_now(), deadline = start + REAP_LONGEST;
	uint64_t strays = process_strays(&library.table);

	*seen = !atomic_load_explicit(&looks.blind, memory_order_relaxed);
	if (!may_look(start, strays))
		return walked;
	a->strays = 0;
	/* What comes back may be in TIME_WAIT, and on even ports: no other port is left. */
	stream_allow_even(a);
	/*
	 * What one round gives back another process may take before us, or it cannot be had. What
	 * others gave back while we inspected it was left to the next look (claim_give_back()). And
	 * what this round found given back already was not so when the lane looked full: so
	 * whatever it says, the walk has the last word.
	 */
	bool again = true;
	for (int round = 0; round < REAP_ROUNDS && again && is_full(&walked); round++) {
		uint64_t before = process_strays_told(&library.table);

		again = reap_addresses(a, deadline, seen) ||
			process_strays_told(&library.table) != before;
		claim_walk_forget(&library.walk);
		walked = walk_until_full(a);
	}
	int error = errno;
	/* What this look itself left standing for strangers is no news. */
	note_look(start, walked.done, strays + a->strays);
	atomic_store_explicit(&looks.blind, !*seen, memory_order_relaxed);
	errno = error;
	return walked;
}

int walk_refuse_lost(struct attempt *a)
{
	static struct event_limit limit;
	struct event e;

	if (event_begin_limited(&e, LOG_WARN, "address-lost", &limit)) {
		attempt_describe(&e, a);
		event_text(
			&e, "reason", "the address that the program bound cannot be bound again");
		event_text(&e, "then", "EADDRNOTAVAIL");
		event_end(&e);
	}
	tuple_restore(a->record, a->fd);
	errno = EADDRNOTAVAIL;
	return -1;
}

int walk_refuse_unusable(struct attempt *a, const char *reason)
{
	static struct event_limit limit;
	bool refuse = library.plan.when_unusable == UNUSABLE_FAIL;
	struct event e;

	if (event_begin_limited(&e, LOG_WARN, "unusable", &limit)) {
		attempt_describe(&e, a);
		event_text(&e, "reason", reason);
		event_text(&e, "then", refuse ? "EADDRNOTAVAIL" : "the kernel chooses");
		event_end(&e);
	}
	if (!refuse)
		return 0;
	tuple_restore(a->record, a->fd);
	errno = EADDRNOTAVAIL;
	return -1;
}

static bool has_pool(const struct attempt *a)
{
	return !a->address_given && pool_serves(&a->rule->pool, &a->faddr);
}

/* Addresses on which the kernel searches in vain, within one call. */
#define SEARCHES_MOST 16

/*
 * Has the kernel look for a port on the addresses, in turn. 0 or errno of the call; *tried: false
 * when none could be bound.
 */
static int search_addresses(struct attempt *a, enum search how, bool *tried)
{
	struct source_walk walk;
	int error = -EADDRNOTAVAIL, searches = 0;

	*tried = false;
	start_walk(a, &walk);
	for (bool first = true; searches < SEARCHES_MOST && next_address(a, &walk, first);
		first = false) {
		a->unreachable = false;
		int got = search_address(a, how);

		if (got >= 0) {
			*tried = true;
			error = got;
			searches++;
			if (!search_found_nothing(a, got) && !a->unreachable)
				break;
		} else if (got != -EADDRNOTAVAIL) {
			/* A policy, or no memory: the next address would fare no better. */
			break;
		} else if (!a->address_given) {
			source_walk_failed(&walk);
		}
	}
	return error;
}

int walk_leave_to_kernel(struct attempt *a, enum search how, enum tuplebind_counter why)
{
	bool tried;

	tuple_restore(a->record, a->fd);
	if (!has_pool(a) && how == SEARCH_FREELY)
		return attempt_pass(a, why);
	attempt_note_passed(a, why);
	a->passed = true;
	int error = search_addresses(a, how, &tried);
	if (!tried || search_found_nothing(a, error))
		tuple_restore(a->record, a->fd);
	if (!tried) {
		a->lport = 0;
		if (has_pool(a) &&
			walk_refuse_unusable(a, "no address of the pool can be bound") < 0)
			return -1;
		return attempt_call(a);
	}
	errno = error;
	return error == 0 ? 0 : -1;
}

static int no_tuple_left(struct attempt *a)
{
	static struct event_limit limit;
	bool to_kernel = library.plan.when_full == FULL_KERNEL;
	bool udp = a->protocol == IPPROTO_UDP; /* for which the kernel has another answer */
	struct event e;

	table_count(&library.table, TUPLEBIND_FULL);
	PROBE(full, a->fd, &a->faddr, a->fport);
	if (event_begin_limited(&e, LOG_WARN, "full", &limit)) {
		attempt_describe(&e, a);
		event_text(&e, "reason", "no tuple left");
		event_text(&e, "then",
			to_kernel ? "the kernel may try"
			: udp	  ? "EAGAIN"
				  : "EADDRNOTAVAIL");
		event_end(&e);
	}
	if (to_kernel)
		return walk_leave_to_kernel(a, SEARCH_FREELY, TUPLEBIND_PASSED_FULL);
	tuple_restore(a->record, a->fd);
	errno = udp ? EAGAIN : EADDRNOTAVAIL;
	return -1;
}

static int table_is_full(struct attempt *a)
{
	static struct event_limit limit;
	bool refuse = library.plan.when_unusable == UNUSABLE_FAIL;
	struct event e;

	if (event_begin_limited(&e, LOG_WARN, "table-full", &limit)) {
		attempt_describe(&e, a);
		event_text(&e, "reason", "no room in the table");
		event_text(&e, "then", refuse ? "EADDRNOTAVAIL" : "the kernel chooses the port");
		event_text(&e, "fix", "a larger TUPLEBIND_TABLE_SIZE");
		event_end(&e);
	}
	if (refuse) {
		table_count(&library.table, TUPLEBIND_FULL);
		tuple_restore(a->record, a->fd);
		errno = EADDRNOTAVAIL;
		return -1;
	}
	return walk_leave_to_kernel(a, SEARCH_PORTS, TUPLEBIND_TABLE_FULL);
}

/*
 * The table cannot say which tuples are free, so the kernel does: the claims that fill the lane
 * could not be looked into, or stand for other tuples than those that the kernel makes of this
 * destination.
 */
static int search_connect(struct attempt *a)
{
	bool tried;

	tuple_restore(a->record, a->fd);
	int error = search_addresses(a, SEARCH_PORTS, &tried);
	if (tried && search_found_nothing(a, error))
		return no_tuple_left(a);
	if (!tried)
		return walk_leave_to_kernel(a, SEARCH_FREELY, TUPLEBIND_PASSED_HELPLESS);
	errno = error;
	return error == 0 ? 0 : -1;
}

int walk_connect(struct attempt *a)
{
	bool seen = true;

	attempt_foresee(a);
	/* An explicit bind cannot be taken back when the guess was wrong. */
	if (a->protocol == IPPROTO_UDP && !plan_has_late(&library.plan))
		datagram_foresee(a);
	if (a->several && !plan_has_late(&library.plan)) {
		if (search_may_be_anywhere(a))
			return search_connect(a);
		bool tried;
		int error = search_addresses(a, SEARCH_PORTS, &tried);
		if (tried && !search_found_nothing(a, error)) {
			errno = error;
			return error == 0 ? 0 : -1;
		}
	}
	struct walked walked = walk_until_full(a);
	if (is_full(&walked))
		walked = reap_and_walk(a, walked, &seen);
	if (walked.done)
		return errno == 0 ? 0 : -1;
	if (walked.lost)
		return walk_refuse_lost(a);
	if (walked.table_full)
		return table_is_full(a);
	if (!is_full(&walked))
		return walk_leave_to_kernel(a, SEARCH_FREELY, TUPLEBIND_PASSED_HELPLESS);
	return seen && !a->redirected && !attempt_source_varies(a) ? no_tuple_left(a)
								   : search_connect(a);
}
