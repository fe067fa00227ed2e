#include "table/slab.h"

#include <string.h>
#include <unistd.h>

/* Settling and making fail when others are quicker; they cannot be so for ever. */
#define ATTEMPTS 16

struct tuplebind_lane slab_lane(uint8_t protocol, const struct addr *laddr,
	const struct addr *faddr, uint16_t fport, uint32_t device)
{
	struct tuplebind_lane lane = {.fport = fport, .protocol = protocol};

	memcpy(lane.laddr, laddr->bytes, sizeof lane.laddr);
	memcpy(lane.faddr, faddr->bytes, sizeof lane.faddr);
	/* The kernel finds a socket that is bound to a device only when asked with that. */
	lane.scope = device != 0 ? device : faddr->scope;
	return lane;
}

uint64_t slab_lane_hash(const struct table *t, const struct tuplebind_lane *lane)
{
	uint64_t words[TUPLEBIND_LANE_WORDS];

	memcpy(words, lane, sizeof words);
	return hash_words(&t->key, words, TUPLEBIND_LANE_WORDS);
}

/* seq_cst: steps 3 and 5 are a store and a look on two slabs, by two processes, in either order. */
static bool set_state(struct tuplebind_slab *slab, uint64_t tag, enum tuplebind_slab_state state)
{
	uint64_t next = (tag & ~(uint64_t)TUPLEBIND_SLAB_STATE_MASK) | state;

	/* slabs.pml: S5b */
	return atomic_compare_exchange_strong_explicit(
		&slab->tag, &tag, next, memory_order_seq_cst, memory_order_relaxed);
}

static bool empty(const struct tuplebind_slab *slab)
{
	/* slabs.pml: S0 */
	for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++)
		if (atomic_load_explicit(&slab->claims[w], memory_order_relaxed) != 0)
			return false;
	return atomic_load_explicit(&slab->owner, memory_order_relaxed) == 0;
}

/* What a walk through the window of a key found. */
struct survey {
	struct tuplebind_slab *live, *tentative, *unused;
	uint64_t live_tag, tentative_tag, unused_tag;
	bool others_killed; /* TENTATIVE slabs that lost were met (and tried to be made DEAD) */
};

/*
 * Step 5's look. With @look_for_unused it also notes the first slab that could be
 * recycled, which costs a second cache line for each slab on the way.
 */
static struct survey look(const struct table *t, struct slab_key key, bool look_for_unused)
{
	struct survey s = {0};

	for (unsigned step = 0, end = slab_window(t); step < end; step++) {
		struct tuplebind_slab *slab = slab_at(t, key, step);
		/* slabs.pml: S5a */
		uint64_t tag = atomic_load_explicit(&slab->tag, memory_order_seq_cst);
		bool usable = look_for_unused && s.unused == NULL;

		if (tag == TUPLEBIND_SLAB_FREE) {
			if (usable) {
				s.unused = slab;
				s.unused_tag = tag;
			}
			break;
		}
		switch (slab_state(tag)) {
		case TUPLEBIND_SLAB_TENTATIVE:
			if (!slab_is(tag, key))
				break;
			if (s.tentative == NULL && s.live == NULL) {
				s.tentative = slab;
				s.tentative_tag = tag;
			} else {
				set_state(slab, tag, TUPLEBIND_SLAB_DEAD);
				s.others_killed = true;
			}
			break;
		case TUPLEBIND_SLAB_LIVE:
			if (slab_is(tag, key)) {
				if (s.live == NULL) {
					s.live = slab;
					s.live_tag = tag;
				}
				break;
			}
			/* fall through */
		default:
			if (usable && empty(slab)) {
				s.unused = slab;
				s.unused_tag = tag;
			}
		}
	}
	if (s.live != NULL && s.tentative != NULL) {
		set_state(s.tentative, s.tentative_tag, TUPLEBIND_SLAB_DEAD);
		s.tentative = NULL;
		s.others_killed = true;
	}
	return s;
}

/*
 * Step 5: after it at most one slab of @key is LIVE and that one is returned. NULL:
 * there is none, or others kept moving.
 */
static struct tuplebind_slab *settle(const struct table *t, struct slab_key key, uint64_t *tag)
{
	struct tuplebind_slab *known = NULL;
	uint64_t known_tag = 0;

	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		struct survey s = look(t, key, false);

		if (s.live != NULL) {
			*tag = s.live_tag;
			return s.live;
		}
		if (s.tentative == NULL)
			return NULL;
		if (s.tentative == known && s.tentative_tag == known_tag && !s.others_killed) {
			if (set_state(known, known_tag, TUPLEBIND_SLAB_LIVE)) {
				*tag = (known_tag & ~(uint64_t)TUPLEBIND_SLAB_STATE_MASK) |
				       TUPLEBIND_SLAB_LIVE;
				return known;
			}
			known = NULL;
			continue;
		}
		known = s.tentative;
		known_tag = s.tentative_tag;
	}
	return NULL;
}

/* Gives back the first @count words, all but bit @kept (-1: none). */
static void leave_words(struct tuplebind_slab *slab, unsigned count, int kept)
{
	/* slabs.pml: S4. Release: whoever claims here next sees the tag that was set before. */
	for (unsigned w = 0; w < count; w++) {
		uint64_t word =
			kept >= 0 && (unsigned)kept / 64 == w ? UINT64_C(1) << kept % 64 : 0;

		atomic_store_explicit(&slab->claims[w], word, memory_order_release);
	}
}

/* Steps 1 and 2. True: no claim is in the slab, and none can be made. */
static bool take_over(struct tuplebind_slab *slab, uint64_t tag, uint32_t self)
{
	uint32_t nobody = 0;
	unsigned w;

	/* slabs.pml: S1 */
	if (!atomic_compare_exchange_strong_explicit(
		    &slab->owner, &nobody, self, memory_order_acquire, memory_order_relaxed))
		return false;
	for (w = 0; w < TUPLEBIND_SLAB_WORDS; w++) {
		uint64_t none = 0;

		/* slabs.pml: S2. Acquire pairs with the release of the last give-back in this word.
		 */
		if (!atomic_compare_exchange_strong_explicit(&slab->claims[w], &none, UINT64_MAX,
			    memory_order_acq_rel, memory_order_relaxed))
			break;
	}
	/* slabs.pml: S2b */
	if (w == TUPLEBIND_SLAB_WORDS &&
		atomic_load_explicit(&slab->tag, memory_order_acquire) == tag)
		return true;
	leave_words(slab, w, -1);
	/* slabs.pml: S4b */
	atomic_store_explicit(&slab->owner, 0, memory_order_release);
	return false;
}

/*
 * Steps 1 to 4: makes @slab a TENTATIVE one of @key, if nobody else has done anything with it. The
 * claim that is in it then, or CLAIM_NONE, is left in @first.
 */
static bool propose(const struct table *t, struct tuplebind_slab *slab, uint64_t tag,
	const struct tuplebind_lane *lane, unsigned number, struct slab_key key,
	struct slab_first *first)
{
	uint64_t words[TUPLEBIND_LANE_WORDS];
	uint64_t generation = (tag + TUPLEBIND_TAG_ONE_GENERATION) & TUPLEBIND_TAG_GENERATION;
	uint64_t next = key.fingerprint | generation | TUPLEBIND_SLAB_TENTATIVE;
	bool proposed;

	if (!take_over(slab, tag, (uint32_t)getpid()))
		return false;
	claim made = claim_make(t, slab, next, first->bit);
	/* slabs.pml: S3a. seq_cst: before the words, as in claim.c. */
	if (first->flight != NULL)
		atomic_store_explicit(first->flight, made, memory_order_seq_cst);
	memcpy(words, lane, sizeof words);
	/* slabs.pml: S3b */
	for (unsigned w = 0; w < TUPLEBIND_LANE_WORDS; w++)
		atomic_store_explicit(&slab->lane[w], words[w], memory_order_relaxed);
	atomic_store_explicit(&slab->number, number, memory_order_relaxed);
	/* slabs.pml: S3c */
	proposed = atomic_compare_exchange_strong_explicit(
		&slab->tag, &tag, next, memory_order_seq_cst, memory_order_relaxed);
	leave_words(slab, TUPLEBIND_SLAB_WORDS, proposed ? (int)first->bit : -1);
	/* slabs.pml: S4b */
	atomic_store_explicit(&slab->owner, 0, memory_order_release);
	first->claim = proposed ? made : CLAIM_NONE;
	return proposed;
}

/*
 * What has become of the claim that the slab proposed was made with: it is one if the slab is the
 * one that was settled on, @kept, and else is undone.
 */
static void keep_first(struct table *t, struct tuplebind_slab *proposed,
	const struct tuplebind_slab *kept, struct slab_first *first)
{
	if (first->claim == CLAIM_NONE || proposed == kept)
		return;
	/* slabs.pml: S6 */
	claim_undo(t, proposed, first->claim);
	first->claim = CLAIM_NONE;
}

struct tuplebind_slab *slab_obtain(struct table *t, const struct tuplebind_lane *lane,
	struct slab_key key, unsigned number, struct slab_first *first, uint64_t *tag)
{
	struct tuplebind_slab *slab = NULL;

	first->claim = CLAIM_NONE;

	for (int attempt = 0; slab == NULL && attempt < ATTEMPTS; attempt++) {
		struct survey s = look(t, key, true);

		if (s.live == NULL && s.tentative == NULL) {
			if (s.unused == NULL)
				return NULL;
			/*
			 * A FREE slab ends everybody's way; one that cannot be had, because
			 * its taker is at work or died over it, must end it no longer.
			 */
			bool proposed =
				propose(t, s.unused, s.unused_tag, lane, number, key, first);

			table_note_cleared(t);
			if (!proposed && s.unused_tag == TUPLEBIND_SLAB_FREE)
				set_state(s.unused, s.unused_tag, TUPLEBIND_SLAB_DEAD);
		}
		slab = settle(t, key, tag);
		keep_first(t, s.unused, slab, first);
	}
	return slab;
}

bool slab_read(const struct tuplebind_slab *slab, struct tuplebind_lane *lane, unsigned *number)
{
	uint64_t words[TUPLEBIND_LANE_WORDS];
	uint64_t tag = atomic_load_explicit(&slab->tag, memory_order_acquire);

	if (slab_state(tag) != TUPLEBIND_SLAB_LIVE)
		return false;
	for (unsigned w = 0; w < TUPLEBIND_LANE_WORDS; w++)
		words[w] = atomic_load_explicit(&slab->lane[w], memory_order_relaxed);
	*number = (unsigned)(atomic_load_explicit(&slab->number, memory_order_relaxed) %
			     TUPLEBIND_LANE_SLABS);
	memcpy(lane, words, sizeof *lane);
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&slab->tag, memory_order_relaxed) == tag;
}
