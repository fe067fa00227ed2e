/*
 * Going through the local addresses, and what happens when none has a tuple left.
 */
#include "interpose/attempt.h"

#include "kernel/sock.h"

#include <errno.h>

/*
 * Reaping on the way of a connect(): this many claims are enough for now, it takes no longer than
 * this, and without a reason no more than one part in REAP_SHARE of the time.
 */
#define REAP_ENOUGH  256
#define REAP_LONGEST UINT64_C(200000000) /* ns */
#define REAP_SHORT   UINT64_C(10000000)	 /* ns; a look this short may follow another */
#define REAP_PAUSE   UINT64_C(100000000) /* ns */
#define REAP_SHARE   20

/* Makes the socket what it was before us, but for SO_REUSEADDR. */
static void restore(struct attempt *a)
{
	struct addr any = {.scope = 0};

	if (!a->touched)
		return;
	if (a->family == AF_INET)
		any = addr_from_number((unsigned __int128)0xffff << 32);
	sock_narrow_ports(a->fd, 0);
	if (!a->address_given)
		sock_bind(a->fd, a->family, &any, 0);
}

/* The kernel's own try. */
static int leave_to_kernel(struct attempt *a)
{
	restore(a);
	table_count(&library.table, TUPLEBIND_PASSED);
	return next()->connect(a->fd, a->to, a->length);
}

static int no_tuple_left(struct attempt *a)
{
	static struct log_once said;

	table_count(&library.table, TUPLEBIND_FULL);
	if (log_due(&said, LOG_WARN))
		attempt_say(LOG_WARN,
			library.plan.when_full == FULL_KERNEL
				? "no tuple left, the kernel may try (said once a minute)"
				: "no tuple left, failing with EADDRNOTAVAIL (said once a minute)",
			a, 0);
	if (library.plan.when_full == FULL_KERNEL)
		return leave_to_kernel(a);
	restore(a);
	errno = EADDRNOTAVAIL;
	return -1;
}

static int table_is_full(struct attempt *a)
{
	static struct log_once said;

	table_count(&library.table, TUPLEBIND_TABLE_FULL);
	if (log_due(&said, LOG_WARN))
		attempt_say(LOG_WARN,
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
		int tried = tuple_try_address(a);

		if (tried == TRIED_NO_LATE) {
			no_late_bind();
			tried = tuple_try_address(a);
		}
		switch (tried) {
		case TRIED_DONE:
			walked.done = true;
			return walked;
		case TRIED_FULL:
			walked.full = true;
			break;
		case TRIED_TABLE_FULL:
			walked.table_full = true;
			break;
		case TRIED_NEXT_ADDRESS:
			if (!a->address_given)
				source_walk_failed(&walk, &a->laddr);
			attempt_say(
				LOG_INFO, "address cannot be bound, set aside", a, EADDRNOTAVAIL);
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

		tuple_set_lane(a);
		freed = reap_lane(&reap, &a->lane, &number, REAP_ENOUGH, deadline);
		atomic_store_explicit(&place, number, memory_order_relaxed);
	}
	reap_end(&reap);
	return freed != 0;
}

/*
 * When no tuple is left: are some only taken because their holders died? Looked into at once when
 * something happened that may leave such claims, unless long looks took half of the time
 * lately, and else now and then, so that most failing connects cost no more than the
 * look at the table. True: it may be worth trying again.
 */
static bool reap_for(struct attempt *a, uint64_t deadline)
{
	static _Atomic uint64_t strays_seen, next_look, next_look_for_strays;
	uint64_t strays = process_strays(&library.table), now = reap_now();
	bool strayed = strays != atomic_load_explicit(&strays_seen, memory_order_relaxed);

	if (now >= deadline ||
		now < atomic_load_explicit(
			      strayed ? &next_look_for_strays : &next_look, memory_order_relaxed))
		return false;
	/* What comes back may be in TIME_WAIT, and on even ports: no other port is left. */
	tuple_allow_even(a);
	bool again = reap_addresses(a, deadline);
	uint64_t end = reap_now(), took = end - now;
	uint64_t pause = took * REAP_SHARE > REAP_PAUSE ? took * REAP_SHARE : REAP_PAUSE;
	/* As long as there is something to be had, the next failing connect looks again. */
	if (!again)
		atomic_store_explicit(&strays_seen, strays, memory_order_relaxed);
	atomic_store_explicit(&next_look_for_strays, again || took < REAP_SHORT ? 0 : end + took,
		memory_order_relaxed);
	atomic_store_explicit(&next_look, again ? 0 : end + pause, memory_order_relaxed);
	return again;
}

int walk_connect(struct attempt *a)
{
	struct walked walked = walk_addresses(a);
	uint64_t deadline = walked.full ? reap_now() + REAP_LONGEST : 0;

	/* What one round gives back another process may take before us. */
	while (walked.full && !walked.done && !walked.give_up && !walked.table_full &&
		reap_for(a, deadline))
		walked = walk_addresses(a);
	if (walked.done)
		return errno == 0 ? 0 : -1;
	if (walked.table_full)
		return table_is_full(a);
	return walked.full && !walked.give_up ? no_tuple_left(a) : leave_to_kernel(a);
}
