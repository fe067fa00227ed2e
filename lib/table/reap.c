#include "table/reap.h"

#include "kernel/diag.h"
#include "table/inspect.h"
#include "table/process.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Who takes longer to reap than this has been stopped, or is of a pid namespace we cannot see. */
#define REAPER_SECONDS 10

/* Bits in slabs that are nobody's that one reap gives back: takes 0.2 s. */
#define CLEARED_MOST 16384

uint64_t reap_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Whether @holder, a value of header->reaper, stands for a reap that goes on. */
static bool goes_on(uint64_t holder)
{
	uint64_t now = reap_now() / 1000000000;

	return holder != 0 && now - (holder >> 32) < REAPER_SECONDS &&
	       process_token_alive((uint32_t)holder);
}

bool reap_wait(struct table *t, uint64_t deadline)
{
	static const struct timespec nap = {.tv_nsec = 1000000};
	uint64_t holder = atomic_load_explicit(&t->header->reaper, memory_order_acquire);

	/*
	 * For the end of this one reap: with many processes at it, there may always be another. Two
	 * reaps of one process in one second look the same, which costs the difference in time.
	 */
	while (goes_on(holder) &&
		atomic_load_explicit(&t->header->reaper, memory_order_acquire) == holder) {
		if (reap_now() >= deadline)
			return false;
		/* Not libc's nanosleep(), which is a cancellation point. */
		syscall(SYS_nanosleep, &nap, NULL);
	}
	return true;
}

int reap_start(struct reap *r, struct table *t)
{
	uint64_t now = reap_now() / 1000000000;
	uint64_t mine = (uint32_t)getpid() | now << 32;
	uint64_t holder = atomic_load_explicit(&t->header->reaper, memory_order_relaxed);

	if (goes_on(holder) || !atomic_compare_exchange_strong_explicit(&t->header->reaper, &holder,
				       mine, memory_order_acquire, memory_order_relaxed))
		return -EBUSY;
	*r = (struct reap){.table = t, .token = process_own_token(), .diag = diag_open()};
	if (r->diag < 0) {
		atomic_store_explicit(&t->header->reaper, 0, memory_order_release);
		return r->diag;
	}
	return 0;
}

void reap_end(struct reap *r)
{
	diag_close(r->diag);
	atomic_store_explicit(&r->table->header->reaper, 0, memory_order_release);
}

/* Whether the kernel has nobody who holds the tuple: 1, 0, or -errno. */
static int is_abandoned(struct reap *r, const struct tuplebind_lane *lane, uint16_t port)
{
	int state = diag_query(r->diag, lane, port);

	if (state < 0)
		return state;
	return state != DIAG_HELD && (state != DIAG_ORPHAN || !r->keep_orphans);
}

enum verdict { HELD, STRAY, GONE };

/* Takes the slab for the moment, so that no recycler is at work in it. */
static bool hold(struct tuplebind_slab *slab, uint64_t token)
{
	uint32_t nobody = 0;

	/* slabs.pml: I4 */
	return atomic_compare_exchange_strong_explicit(
		&slab->owner, &nobody, (uint32_t)token, memory_order_acquire, memory_order_relaxed);
}

static void let_go(struct tuplebind_slab *slab)
{
	/* slabs.pml: I4c, T6 */
	atomic_store_explicit(&slab->owner, 0, memory_order_release);
}

/*
 * Whether the bit of @c is set, by somebody who has made, is making or has to undo a claim. A
 * recycler at work sets bits as well, which are not to be touched.
 */
static enum verdict bit_of_claimer(struct reap *r, struct tuplebind_slab *slab, claim c)
{
	if (!hold(slab, r->token))
		return HELD;
	/* claims.pml: I4 slabs.pml: I4b */
	bool set = claim_slab(r->table, c) == slab && claim_is_set(slab, c);
	let_go(slab);
	return set ? STRAY : GONE;
}

/*
 * What is to be known of a claim that is being inspected; -errno of sock_diag: nothing is known. A
 * slab that is nobody's (@lane NULL) is held by the caller, and no socket has a claim in it.
 *
 * Flights before the look at the bit (I3): of who gives it back without having seen the inspection.
 * After it (I5): of who has set it, and is not known to the kernel yet.
 */
static int judge(struct reap *r, struct tuplebind_slab *slab, const struct tuplebind_lane *lane,
	uint16_t port, claim c)
{
	/* claims.pml: I3 */
	if (flight_has(r->table, c))
		return HELD;
	enum verdict verdict = lane != NULL	       ? bit_of_claimer(r, slab, c)
			       : claim_is_set(slab, c) ? STRAY
						       : GONE;
	if (verdict != STRAY)
		return (int)verdict;
	/* claims.pml: I5 */
	if (flight_has(r->table, c))
		return HELD;
	if (lane == NULL)
		return STRAY;
	/* claims.pml: I6 */
	int abandoned = is_abandoned(r, lane, port);
	return abandoned < 0 ? abandoned : abandoned ? STRAY : HELD;
}

/* Inspects a claim and takes it away if it is a stray one. A verdict, or -errno. */
static int inspect(struct reap *r, struct tuplebind_slab *slab, const struct tuplebind_lane *lane,
	uint16_t port, claim c)
{
	if (!inspect_begin(r->table, r->token, c))
		return HELD;
	int verdict = judge(r, slab, lane, port, c);
	if (verdict == STRAY) {
		/* claims.pml: I7a */
		atomic_fetch_add_explicit(&r->table->header->takings, 1, memory_order_seq_cst);
		/* claims.pml: I7 slabs.pml: I7 */
		if (lane != NULL)
			claim_take_away(r->table, slab, c);
		else
			claim_clear(r->table, slab, c);
	}
	inspect_end(r->table, c);
	return verdict;
}

/* The same; most claims are held, and need no inspection to find that out. */
static int look_at(struct reap *r, struct tuplebind_slab *slab, const struct tuplebind_lane *lane,
	uint16_t port, claim c)
{
	/* claims.pml: R2 */
	int abandoned = is_abandoned(r, lane, port);

	if (abandoned <= 0)
		return abandoned < 0 ? abandoned : HELD;
	return inspect(r, slab, lane, port, c); /* slabs.pml: T5 */
}

/* True when the slab is where its lane and number say: else its lane is being written, or was
 * scribbled over. */
static bool is_at_home(const struct table *t, const struct tuplebind_slab *slab, uint64_t tag,
	struct tuplebind_lane *lane, unsigned *number)
{
	return slab_read(slab, lane, number) &&
	       slab_is(tag, slab_key(t, slab_lane_hash(t, lane), *number));
}

/* Takes the slab, from a recycler that died over it if need be. */
static bool take_slab(struct reap *r, struct tuplebind_slab *slab)
{
	uint32_t owner = atomic_load_explicit(&slab->owner, memory_order_acquire);

	if (owner != 0 && process_may_live(r->table, owner))
		return false;
	/* slabs.pml: T1 */
	return atomic_compare_exchange_strong_explicit(&slab->owner, &owner, (uint32_t)r->token,
		memory_order_acquire, memory_order_relaxed);
}

/*
 * Makes a slab that the caller has taken nobody's, unless it is LIVE and its lane's. Returns its
 * tag. Who takes it over as a recycler has all its bits before he writes the lane: if it is not at
 * home no claim is in it. TENTATIVE, none can be in it yet.
 */
static uint64_t make_nobodys(struct reap *r, struct tuplebind_slab *slab)
{
	struct tuplebind_lane lane;
	unsigned number;
	/* slabs.pml: T2 */
	uint64_t tag = atomic_load_explicit(&slab->tag, memory_order_acquire);

	/* While the caller has it, others can but settle it. */
	for (int i = 0; i < 3; i++) {
		unsigned state = slab_state(tag);

		/* slabs.pml: T3 */
		if (state == TUPLEBIND_SLAB_FREE || state == TUPLEBIND_SLAB_DEAD ||
			(state == TUPLEBIND_SLAB_LIVE &&
				is_at_home(r->table, slab, tag, &lane, &number)))
			break;
		uint64_t dead = (tag & ~(uint64_t)TUPLEBIND_SLAB_STATE_MASK) | TUPLEBIND_SLAB_DEAD;

		/* slabs.pml: T4. seq_cst as set_state() of slab.c. */
		if (atomic_compare_exchange_strong_explicit(
			    &slab->tag, &tag, dead, memory_order_seq_cst, memory_order_acquire))
			return dead;
	}
	return tag;
}

/*
 * Gives back all bits in a slab that is nobody's and that the caller has taken. A table that was
 * written over may have millions: the next reap goes on.
 */
static void clear_nobodys(struct reap *r, struct tuplebind_slab *slab, uint64_t tag)
{
	for (unsigned bit = 0; bit < TUPLEBIND_SLAB_PORTS && r->cleared < CLEARED_MOST; bit++) {
		claim c = claim_make(r->table, slab, tag, bit);

		/* slabs.pml: T5 */
		if (claim_is_set(slab, c)) {
			inspect(r, slab, NULL, 0, c);
			r->cleared++;
		}
	}
}

static bool has_bits(const struct tuplebind_slab *slab)
{
	uint64_t bits = 0;

	for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++)
		bits |= atomic_load_explicit(&slab->claims[w], memory_order_relaxed);
	return bits != 0;
}

/*
 * A recycler that died over a slab (table/slab.h, steps 1 to 4) left it owned, some words all ones:
 * in a LIVE slab whose lane is untouched those are claims like others without a socket. And a
 * claimer that died may have left a bit in a slab that is nobody's.
 */
static void take_up(struct reap *r, struct tuplebind_slab *slab)
{
	uint64_t tag = atomic_load_explicit(&slab->tag, memory_order_acquire);
	bool owned = atomic_load_explicit(&slab->owner, memory_order_relaxed) != 0;
	bool left = slab_state(tag) != TUPLEBIND_SLAB_LIVE && has_bits(slab);

	if ((!owned && !left) || !take_slab(r, slab))
		return;
	tag = make_nobodys(r, slab);
	if (slab_state(tag) != TUPLEBIND_SLAB_LIVE)
		clear_nobodys(r, slab, tag);
	table_note_cleared(r->table);
	let_go(slab);
}

int reap_slab(struct reap *r, struct tuplebind_slab *slab, const uint64_t *seen)
{
	struct tuplebind_lane lane;
	unsigned number;
	int freed = 0;

	take_up(r, slab);
	/* slabs.pml: T7 */
	uint64_t tag = atomic_load_explicit(&slab->tag, memory_order_acquire);
	if (!is_at_home(r->table, slab, tag, &lane, &number))
		return 0;
	for (unsigned bit = 0; bit < TUPLEBIND_SLAB_PORTS; bit++) {
		uint64_t mask = UINT64_C(1) << (bit % 64);
		/* claims.pml: R1 */
		uint64_t claims =
			atomic_load_explicit(&slab->claims[bit / 64], memory_order_acquire);

		if (claims == 0) {
			bit |= 63;
			continue;
		}
		if (!(claims & mask) || (seen != NULL && seen[bit / 64] & mask))
			continue;
		claim c = claim_make(r->table, slab, tag, bit);
		int verdict = look_at(r, slab, &lane, claim_port(r->table, c), c);
		if (verdict < 0)
			return verdict;
		if (verdict == STRAY) {
			table_count(r->table, TUPLEBIND_REAPED);
			freed++;
		}
		r->kept += verdict == HELD;
	}
	r->freed += (unsigned)freed;
	return freed;
}

bool reap_claim(struct table *t, claim c)
{
	struct tuplebind_slab *slab = claim_slab(t, c);
	struct tuplebind_lane lane;
	unsigned number;

	if (slab == NULL || !slab_read(slab, &lane, &number))
		return true; /* it is not there any more */
	struct reap r = {.table = t, .token = process_own_token(), .diag = diag_open()};
	int verdict = r.diag < 0 ? r.diag : look_at(&r, slab, &lane, claim_port(t, c), c);
	if (r.diag >= 0)
		diag_close(r.diag);
	if (verdict < 0 || verdict == HELD) {
		process_strayed(t);
		return false;
	}
	return true;
}

unsigned reap_lane(struct reap *r, const struct tuplebind_lane *lane, unsigned *number,
	unsigned enough, uint64_t deadline)
{
	uint64_t lane_hash = slab_lane_hash(r->table, lane);
	unsigned freed = 0;

	for (unsigned i = 0; i < TUPLEBIND_LANE_SLABS && freed < enough && reap_now() < deadline;
		i++) {
		uint64_t tag;
		struct tuplebind_slab *slab = slab_find(r->table,
			slab_key(r->table, lane_hash, *number % TUPLEBIND_LANE_SLABS), &tag);
		int got = slab != NULL ? reap_slab(r, slab, NULL) : 0;

		if (got < 0) {
			r->error = got;
			break;
		}
		freed += (unsigned)got;
		*number = (*number + 1) % TUPLEBIND_LANE_SLABS;
	}
	return freed;
}
