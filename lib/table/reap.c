#include "table/reap.h"

#include "kernel/diag.h"
#include "table/process.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Who takes longer to reap than this has been stopped, or is of a pid namespace we cannot see. */
#define REAPER_SECONDS 10

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
	*r = (struct reap){.table = t, .diag = diag_open()};
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

/*
 * Whether the claim of @bit is to go: 1, 0, or -errno of sock_diag (nothing is reaped on
 * what the kernel did not say). Steps R2 to R4 of tests/model/claims.pml.
 */
static int is_stray(struct reap *r, const struct tuplebind_lane *lane, uint16_t port, claim c)
{
	int stray = is_abandoned(r, lane, port);

	if (stray <= 0)
		return stray;
	/* Before the flights are looked at: see reap_takings(). */
	atomic_fetch_add_explicit(&r->table->header->takings, 1, memory_order_seq_cst);
	if (flight_has(r->table, c))
		return 0;
	/* The flight may have landed since the kernel was asked. */
	return is_abandoned(r, lane, port);
}

static void clear_taken_words(struct tuplebind_slab *slab)
{
	for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++) {
		uint64_t taken = UINT64_MAX;

		atomic_compare_exchange_strong_explicit(
			&slab->claims[w], &taken, 0, memory_order_release, memory_order_relaxed);
	}
}

/* True when the slab is where its lane and number say: else its lane is being written, or was
 * scribbled over. */
static bool is_at_home(const struct table *t, const struct tuplebind_slab *slab, uint64_t tag,
	struct tuplebind_lane *lane, unsigned *number)
{
	return slab_read(slab, lane, number) &&
	       slab_is(tag, slab_key(t, slab_lane_hash(t, lane), *number));
}

/*
 * A recycler that died over a slab (table/slab.h, steps 1 to 4) left it owned, some words
 * all ones. In a LIVE slab whose lane is untouched those are claims like others without a
 * socket. If it came as far as the lane, all claims are its own, and the slab is nobody's;
 * in a slab that is not LIVE no claim can be. Steps T1 to T6 of tests/model/slabs.pml.
 */
static void take_up(const struct table *t, struct tuplebind_slab *slab)
{
	struct tuplebind_lane lane;
	unsigned number;
	uint32_t owner = atomic_load_explicit(&slab->owner, memory_order_acquire);

	if (owner == 0 || process_may_live(t, owner))
		return;
	uint64_t tag = atomic_load_explicit(&slab->tag, memory_order_acquire);
	bool live = slab_state(tag) == TUPLEBIND_SLAB_LIVE;
	if (live && !is_at_home(t, slab, tag, &lane, &number)) {
		uint64_t dead = (tag & ~(uint64_t)TUPLEBIND_SLAB_STATE_MASK) | TUPLEBIND_SLAB_DEAD;

		live = !atomic_compare_exchange_strong_explicit(
			&slab->tag, &tag, dead, memory_order_seq_cst, memory_order_relaxed);
	}
	if (!live)
		clear_taken_words(slab);
	table_note_cleared(t);
	atomic_compare_exchange_strong_explicit(
		&slab->owner, &owner, 0, memory_order_release, memory_order_relaxed);
}

/*
 * Gives back, and looks at the flights once more: if the holder has given it back himself in
 * the meantime and somebody else has claimed it, it was theirs that was taken away. False: there
 * was nothing to give back. Steps R5 to R7 of tests/model/claims.pml.
 */
static bool give_back_stray(struct reap *r, claim c)
{
	if (!claim_give_back(r->table, c))
		return false;
	if (flight_has(r->table, c)) {
		claim_restore(r->table, c);
		/* Unless the flight was only about to try it: then nobody holds it now. */
		process_strayed(r->table);
	}
	return true;
}

int reap_slab(struct reap *r, struct tuplebind_slab *slab, const uint64_t *seen)
{
	struct tuplebind_lane lane;
	unsigned number;
	int freed = 0;

	take_up(r->table, slab);
	uint64_t tag = atomic_load_explicit(&slab->tag, memory_order_acquire);
	if (!is_at_home(r->table, slab, tag, &lane, &number))
		return 0;
	for (unsigned bit = 0; bit < TUPLEBIND_SLAB_PORTS; bit++) {
		uint64_t mask = UINT64_C(1) << (bit % 64);
		uint64_t claims =
			atomic_load_explicit(&slab->claims[bit / 64], memory_order_acquire);

		if (claims == 0) {
			bit |= 63;
			continue;
		}
		if (!(claims & mask) || (seen != NULL && seen[bit / 64] & mask))
			continue;
		claim c = claim_make(r->table, slab, tag, bit);
		int stray = is_stray(r, &lane, claim_port(r->table, c), c);
		if (stray < 0)
			return stray;
		if (stray && give_back_stray(r, c)) {
			table_count(r->table, TUPLEBIND_REAPED);
			freed++;
		}
		r->kept += !stray;
	}
	r->freed += (unsigned)freed;
	return freed;
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

		if (got < 0)
			break;
		freed += (unsigned)got;
		*number = (*number + 1) % TUPLEBIND_LANE_SLABS;
	}
	return freed;
}
