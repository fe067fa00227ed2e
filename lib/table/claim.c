#include "table/claim.h"

#include "base/probe.h"
#include "base/random.h"
#include "table/process.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

#define SCATTER_DRAWS 4

/* Walks through a lane before it is called full, as long as claims are given back meanwhile. */
#define WALKS 16

void claim_walk_start(struct claim_walk *w)
{
	uint64_t secret;

	random_bytes(&secret, sizeof secret);
	atomic_store_explicit(&w->secret, secret, memory_order_relaxed);
}

static _Atomic uint32_t *steps_of(struct claim_walk *w, uint64_t lane_hash)
{
	return &w->steps[lane_hash % (sizeof w->steps / sizeof w->steps[0])];
}

/* RFC 6056, 3.3.4: where the process's walk through a lane begins, before any step. */
static uint16_t offset_of(const struct claim_walk *w, uint64_t lane_hash)
{
	return (uint16_t)hash_mix(
		lane_hash ^ atomic_load_explicit(&w->secret, memory_order_relaxed));
}

/*
 * For UDP it is of use to know whether a port has any claim, in whatever lane. A process that is
 * killed between a claim and its count leaves a wrong count, which is a wrong hint. (A count that
 * has come to 255 stays there.)
 */
static void count_udp(const struct table *t, uint16_t port, int by)
{
	_Atomic uint8_t *count = &t->header->udp_claims[port];
	uint8_t seen = atomic_load_explicit(count, memory_order_relaxed);

	while (seen != UINT8_MAX && (by > 0 || seen != 0) &&
		!atomic_compare_exchange_weak_explicit(count, &seen, (uint8_t)(seen + by),
			memory_order_relaxed, memory_order_relaxed))
		;
}

unsigned claim_udp_count(const struct table *t, uint16_t port)
{
	return atomic_load_explicit(&t->header->udp_claims[port], memory_order_relaxed);
}

static void count_made(const struct table *t, const struct tuplebind_lane *lane, uint16_t port)
{
	if (lane->protocol == IPPROTO_UDP)
		count_udp(t, port, 1);
}

void claim_walk_scatter(const struct table *t, struct claim_walk *w, uint64_t lane_hash,
	const struct portorder *ports, enum stage stage)
{
	uint64_t random[SCATTER_DRAWS];
	uint16_t port = 0;

	random_bytes(random, sizeof random);
	for (unsigned i = 0; i < SCATTER_DRAWS; i++) {
		port = portorder_random(ports, stage, random[i]);
		if (claim_udp_count(t, port) == 0)
			break;
	}
	uint16_t place = permutation_position(&t->permutation, port);
	atomic_store_explicit(steps_of(w, lane_hash), (uint16_t)(place - offset_of(w, lane_hash)),
		memory_order_relaxed);
}

enum outcome { CLAIMED, NOTHING_FREE, SLAB_CHANGED };

/* A slab that was found, and where to say which of its claims is being made. */
struct target {
	struct table *table;
	struct tuplebind_slab *slab;
	uint64_t tag;
	_Atomic uint64_t *flight; /* may be NULL */
	bool *crowded;		  /* set when somebody else was seen at work in the same word */
};

/*
 * Says which claim is about to be made before it is: seen by everybody who sees the bit. (seq_cst
 * before the bit is set; pairs with flight_has(), which is asked after the bit was seen.)
 */
static void announce(const struct target *to, claim c)
{
	/* claims.pml: C2 slabs.pml: C2 */
	if (to->flight != NULL)
		atomic_store_explicit(to->flight, c, memory_order_seq_cst);
}

/*
 * Sets one bit that nobody has set, of those in @wanted, and checks the slab after that.
 */
static enum outcome claim_in_word(const struct target *to, unsigned w, uint64_t wanted, claim *out)
{
	_Atomic uint64_t *word = &to->slab->claims[w];
	/* claims.pml: C1 slabs.pml: C1 */
	uint64_t taken = atomic_load_explicit(word, memory_order_relaxed);

	while ((wanted &= ~taken) != 0) {
		uint64_t mine = wanted & -wanted, before = taken;

		*out = claim_make(
			to->table, to->slab, to->tag, w * 64 + (unsigned)__builtin_ctzll(mine));
		announce(to, *out);
		/*
		 * claims.pml: C3 slabs.pml: C3
		 * Acquire: if a recycler zeroed this word, its new tag is seen below.
		 * Release pairs with the acquire of take_over().
		 */
		taken = atomic_fetch_or_explicit(word, mine, memory_order_acq_rel);
		*to->crowded |= taken != before;
		if (taken & mine)
			continue;
		/* slabs.pml: C4 */
		if (atomic_load_explicit(&to->slab->tag, memory_order_acquire) == to->tag)
			return CLAIMED;
		/* slabs.pml: C5 */
		claim_undo(to->table, to->slab, *out);
		return SLAB_CHANGED;
	}
	return NOTHING_FREE;
}

/* The part of a slab in which a port is wanted. */
struct span {
	const _Atomic uint64_t *mask;
	unsigned from, to; /* bits, to exclusive */
	int avoid;	   /* one bit left out, -1: none */
};

static uint64_t span_word(const struct span *s, unsigned w)
{
	uint64_t word = atomic_load_explicit(&s->mask[w], memory_order_relaxed);
	unsigned first = w * 64;

	if (s->from > first)
		word &= s->from >= first + 64 ? 0 : UINT64_MAX << (s->from - first);
	if (s->to < first + 64)
		word &= s->to <= first ? 0 : UINT64_MAX >> (first + 64 - s->to);
	if (s->avoid >= 0 && (unsigned)s->avoid / 64 == w)
		word &= ~(UINT64_C(1) << (s->avoid % 64));
	return word;
}

/* Looks at whole words first: a walk through a full lane comes by here 128 times. */
static enum outcome claim_in_slab(const struct target *to, const struct span *s, claim *out)
{
	for (unsigned w = s->from / 64; w < TUPLEBIND_SLAB_WORDS && w * 64 < s->to; w++) {
		uint64_t unclaimed =
			atomic_load_explicit(&s->mask[w], memory_order_relaxed) &
			~atomic_load_explicit(&to->slab->claims[w], memory_order_relaxed);

		if (unclaimed == 0)
			continue;
		enum outcome outcome = claim_in_word(to, w, span_word(s, w), out);
		if (outcome != NOTHING_FREE)
			return outcome;
	}
	return NOTHING_FREE;
}

/* The first bit of the span, or -1. */
static int span_first(const struct span *s)
{
	for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++) {
		uint64_t word = span_word(s, w);

		if (word != 0)
			return (int)(w * 64) + __builtin_ctzll(word);
	}
	return -1;
}

/*
 * Has the slab that was not found made, with a first claim in it, or finds that others have made it
 * meanwhile: then *out is CLAIM_NONE. 0, -EADDRNOTAVAIL or -ENOSPC.
 */
static int make_slab(struct target *to, const struct tuplebind_lane *lane, struct slab_key key,
	unsigned number, const struct span *s, claim *out)
{
	int bit = span_first(s);

	if (bit < 0)
		return -EADDRNOTAVAIL;
	struct slab_first first = {.bit = (unsigned)bit, .flight = to->flight};
	to->slab = slab_obtain(to->table, lane, key, number, &first, &to->tag);
	*out = first.claim;
	return to->slab != NULL ? 0 : -ENOSPC;
}

/* A recycler holds a slab for some 100 ns; it looks full meanwhile. */
static bool being_recycled(const struct tuplebind_slab *slab)
{
	return atomic_load_explicit(&slab->owner, memory_order_acquire) != 0;
}

/*
 * Claims in slab @number of the lane, made if need be. 0, -EADDRNOTAVAIL, -ENOSPC, or
 * -EAGAIN when somebody was at work on the slab.
 */
/* NOLINTBEGIN(readability-non-const-parameter): *crowded is set by way of the target */
static int claim_in_number(struct table *t, const struct tuplebind_lane *lane, struct slab_key key,
	unsigned number, const struct span *s, _Atomic uint64_t *flight, bool *crowded, claim *out)
{
	struct target to = {.table = t, .flight = flight, .crowded = crowded};

	for (int attempt = 0; attempt < 16; attempt++) {
		to.slab = slab_find(t, key, &to.tag);
		if (to.slab == NULL) {
			int made = make_slab(&to, lane, key, number, s, out);

			if (made < 0 || *out != CLAIM_NONE)
				return made;
		}
		enum outcome outcome = claim_in_slab(&to, s, out);
		if (outcome == CLAIMED)
			return 0;
		if (outcome == NOTHING_FREE)
			return being_recycled(to.slab) ? -EAGAIN : -EADDRNOTAVAIL;
	}
	return -EAGAIN;
}
/* NOLINTEND(readability-non-const-parameter) */

/*
 * Moves the walk on, so that the next one of this lane starts behind the port that this one got.
 * (Added, not set: a thread stopped here must not take the others' place back to where it was.)
 *
 * Two processes that meet at one place would go on side by side, and pull the same cache line from
 * each other for every claim: a process that finds itself @crowded goes on elsewhere. Threads of
 * one process have one place, and stay together: so a port given back is the last to come again.
 */
static void go_on(const struct claim_walk *w, _Atomic uint32_t *steps, uint32_t seen, uint16_t by,
	bool crowded)
{
	uint32_t was = atomic_fetch_add_explicit(steps, by, memory_order_relaxed);

	if (crowded && was == seen)
		atomic_fetch_add_explicit(steps,
			(uint16_t)hash_mix(
				atomic_load_explicit(&w->secret, memory_order_relaxed) + was + by),
			memory_order_relaxed);
}

/* One walk through the lane: 0, -ENOSPC, -EADDRNOTAVAIL, or -EAGAIN when somebody was at work in
 * it. */
static int walk_lane(struct table *t, const struct tuplebind_lane *lane, uint64_t lane_hash,
	struct portorder *ports, enum stage stage, struct claim_walk *w, uint16_t avoid,
	_Atomic uint64_t *flight, claim *out, uint16_t *port)
{
	_Atomic uint32_t *steps = steps_of(w, lane_hash);
	/* No slab has the number that stands for none. */
	unsigned avoid_position =
		avoid != 0 ? permutation_position(&t->permutation, avoid) : UINT32_MAX;
	int result = -EADDRNOTAVAIL;
	bool moving = false, crowded = false;

	/* RFC 6056, 3.3.4: offset = F(lane, secret), next = table[G(lane)]. */
	uint32_t seen = atomic_load_explicit(steps, memory_order_relaxed);
	uint16_t start = (uint16_t)(offset_of(w, lane_hash) + seen);

	for (int lap = 0; lap < 3; lap++) {
		uint64_t group_home = 0;

		moving = false;

		/* The slab in which the walk starts is visited twice: its end first, its head last.
		 */
		for (unsigned visit = 0; visit <= TUPLEBIND_LANE_SLABS; visit++) {
			unsigned first = start % TUPLEBIND_SLAB_PORTS;
			unsigned number =
				(start / TUPLEBIND_SLAB_PORTS + visit) % TUPLEBIND_LANE_SLABS;
			struct span s = {
				.mask = portorder_mask(ports, stage, number),
				.from = visit == 0 ? first : 0,
				.to = visit == TUPLEBIND_LANE_SLABS ? first : TUPLEBIND_SLAB_PORTS,
				.avoid = avoid_position / TUPLEBIND_SLAB_PORTS == number
						 ? (int)(avoid_position % TUPLEBIND_SLAB_PORTS)
						 : -1,
			};
			if (visit == 0 || number % SLAB_GROUP == 0)
				group_home = slab_group_home(t, lane_hash, number / SLAB_GROUP);
			int got = claim_in_number(t, lane,
				slab_key_in_group(lane_hash, number, group_home), number, &s,
				flight, &crowded, out);

			if (got == 0) {
				uint16_t position =
					(uint16_t)(number * TUPLEBIND_SLAB_PORTS + claim_bit(*out));
				go_on(w, steps, seen, (uint16_t)(position + 1 - start), crowded);
				*port = permutation_port(&t->permutation, position);
				count_made(t, lane, *port);
				return 0;
			}
			if (got == -ENOSPC)
				result = -ENOSPC;
			moving |= got == -EAGAIN;
		}
		if (!moving)
			break;
	}
	return moving && result == -EADDRNOTAVAIL ? -EAGAIN : result;
}

void claim_walk_forget(struct claim_walk *w)
{
	atomic_fetch_add_explicit(&w->forgotten, 1, memory_order_relaxed);
}

uint64_t claims_given_back(const struct table *t)
{
	uint64_t sum = 0;

	/* Acquire pairs with the release in table_note_cleared(): what was counted is seen to be
	 * free. */
	for (int i = 0; i < TUPLEBIND_STRIPES; i++)
		sum += atomic_load_explicit(
			&t->header->stripes[i].given_back, memory_order_acquire);
	return sum;
}

/* What a finding of a full lane is for, in 32 bits that are not 0. */
static uint64_t finding(const struct claim_walk *w, uint64_t lane_hash,
	const struct portorder *ports, enum stage stage, uint16_t avoid)
{
	uint64_t with = (uint64_t)(uintptr_t)ports ^
			atomic_load_explicit(&ports->version, memory_order_relaxed) ^
			(uint64_t)atomic_load_explicit(&w->forgotten, memory_order_relaxed) << 32 ^
			(uint64_t)stage << 62 ^ (uint64_t)avoid << 46;

	return hash_mix(lane_hash ^ hash_mix(with)) >> 32 | 1;
}

int claim_take_announced(struct table *t, const struct tuplebind_lane *lane, uint64_t lane_hash,
	struct portorder *ports, enum stage stage, struct claim_walk *w, uint16_t avoid,
	_Atomic uint64_t *flight, claim *out, uint16_t *port)
{
	_Atomic uint64_t *full =
		&w->full[(lane_hash + stage) % (sizeof w->full / sizeof w->full[0])];
	uint64_t found = atomic_load_explicit(full, memory_order_relaxed), count = 0;

	if (!portorder_has(ports, stage))
		return -EADDRNOTAVAIL;
	/* 0: no lane of this place was ever full. */
	if (found != 0 && found >> 32 == finding(w, lane_hash, ports, stage, avoid) &&
		(uint32_t)found == (uint32_t)claims_given_back(t))
		return -EADDRNOTAVAIL;
	/*
	 * Only what a walk finds that began after the count is true for that count. And while
	 * others give back and claim, the one free port may always be where the walk has been
	 * already. The first walk, which most often finds one, needs no count.
	 */
	for (int walk = 0; walk < WALKS; walk++) {
		if (walk > 0)
			count = claims_given_back(t);
		int got = walk_lane(t, lane, lane_hash, ports, stage, w, avoid, flight, out, port);
		if (got != -EADDRNOTAVAIL)
			return got == -EAGAIN ? -EADDRNOTAVAIL : got;
		if (walk > 0 && count == claims_given_back(t))
			break;
	}
	atomic_store_explicit(full,
		finding(w, lane_hash, ports, stage, avoid) << 32 | (uint32_t)count,
		memory_order_relaxed);
	return -EADDRNOTAVAIL;
}

int claim_take(struct table *t, const struct tuplebind_lane *lane, struct portorder *ports,
	enum stage stage, struct claim_walk *w, uint16_t avoid, claim *out, uint16_t *port)
{
	return claim_take_announced(
		t, lane, slab_lane_hash(t, lane), ports, stage, w, avoid, NULL, out, port);
}

int claim_take_port(struct table *t, const struct tuplebind_lane *lane, uint16_t port,
	_Atomic uint64_t *flight, claim *out)
{
	static const _Atomic uint64_t all[TUPLEBIND_SLAB_WORDS] = {UINT64_MAX, UINT64_MAX,
		UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
	unsigned position = permutation_position(&t->permutation, port);
	unsigned bit = position % TUPLEBIND_SLAB_PORTS;
	struct span one = {.mask = all, .from = bit, .to = bit + 1, .avoid = -1};
	unsigned number = position / TUPLEBIND_SLAB_PORTS;
	bool crowded = false;
	int got = claim_in_number(t, lane, slab_key(t, slab_lane_hash(t, lane), number), number,
		&one, flight, &crowded, out);

	if (got == 0)
		count_made(t, lane, port);
	return got == -EAGAIN ? -EADDRNOTAVAIL : got;
}

int claim_adopt(struct table *t, const struct tuplebind_lane *lane, uint16_t port,
	_Atomic uint64_t *flight, claim *out)
{
	unsigned position = permutation_position(&t->permutation, port);
	unsigned number = position / TUPLEBIND_SLAB_PORTS;
	uint64_t tag;
	int got = claim_take_port(t, lane, port, flight, out);

	if (got != -EADDRNOTAVAIL)
		return got;
	const struct tuplebind_slab *slab =
		slab_find(t, slab_key(t, slab_lane_hash(t, lane), number), &tag);
	if (slab == NULL)
		return -EADDRNOTAVAIL;
	claim c = claim_make(t, slab, tag, position % TUPLEBIND_SLAB_PORTS);
	/* seq_cst: before the look for an inspection; pairs with flight_has(). */
	if (flight != NULL)
		atomic_store_explicit(flight, c, memory_order_seq_cst);
	if (claim_inspected(t, c) || !claim_is_set(slab, c))
		return -EADDRNOTAVAIL;
	/* Whoever had it for a connection that has ended unseen is to look before he gives it back.
	 */
	atomic_fetch_add_explicit(&t->header->takings, 1, memory_order_seq_cst);
	*out = c;
	return 0;
}

/* The port of a claim for UDP, 0 for TCP. */
static uint16_t udp_port(const struct table *t, const struct tuplebind_slab *slab, claim c)
{
	const size_t at = offsetof(struct tuplebind_lane, protocol);
	uint64_t word =
		atomic_load_explicit(&slab->lane[at / sizeof(uint64_t)], memory_order_relaxed);
	uint8_t bytes[sizeof word];

	memcpy(bytes, &word, sizeof word);
	return bytes[at % sizeof word] == IPPROTO_UDP ? claim_port(t, c) : 0;
}

bool claim_take_away(struct table *t, struct tuplebind_slab *slab, claim c)
{
	/* While it is claimed the slab stays what it is. */
	uint16_t counted = udp_port(t, slab, c);
	bool was_there = claim_clear(t, slab, c);

	if (was_there && counted != 0)
		count_udp(t, counted, -1);
	return was_there;
}

bool claim_give_back(struct table *t, claim c)
{
	struct tuplebind_slab *slab = claim_slab(t, c);

	if (slab == NULL)
		return false;
	/*
	 * claims.pml: L4a slabs.pml: G2
	 * It may be the caller's flight that makes the inspector leave it: reap is told.
	 */
	if (claim_inspected(t, c)) {
		process_strayed(t);
		return true;
	}
	/* claims.pml: L4 */
	bool was_there = claim_take_away(t, slab, c);
	PROBE(give_back, c);
	return was_there;
}

bool claim_lane(const struct table *t, claim c, struct tuplebind_lane *lane)
{
	const struct tuplebind_slab *slab = claim_slab(t, c);
	unsigned number;

	return slab != NULL && slab_read(slab, lane, &number);
}

uint16_t claim_port(const struct table *t, claim c)
{
	uint64_t index = claim_index(c);

	if (index >= t->slab_count)
		return 0;
	uint64_t number = atomic_load_explicit(&t->slabs[index].number, memory_order_relaxed) %
			  TUPLEBIND_LANE_SLABS;
	return permutation_port(
		&t->permutation, (uint16_t)(number * TUPLEBIND_SLAB_PORTS + claim_bit(c)));
}
