#include "table/portorder.h"

void portorder_set(struct portorder *o, const struct permutation *p, const struct portset *late,
	const struct portset *explicit_ports)
{
	static const uint64_t odd = UINT64_C(0xaaaaaaaaaaaaaaaa);
	uint32_t counts[STAGES] = {0};

	atomic_store_explicit(&o->permutation, p, memory_order_relaxed);
	for (unsigned i = 0; i < 1024; i++) {
		uint64_t rest = explicit_ports->words[i] & ~late->words[i];
		uint64_t words[STAGES] = {late->words[i], rest & odd, rest & ~odd};

		for (int stage = 0; stage < STAGES; stage++) {
			atomic_store_explicit(
				&o->sets[stage][i], words[stage], memory_order_relaxed);
			counts[stage] += (uint32_t)__builtin_popcountll(words[stage]);
		}
	}
	for (int stage = 0; stage < STAGES; stage++)
		atomic_store_explicit(&o->counts[stage], counts[stage], memory_order_relaxed);
	/* Release pairs with the acquire of portorder_work_out(). */
	if (atomic_fetch_add_explicit(&o->version, 1, memory_order_release) == UINT32_MAX)
		atomic_fetch_add_explicit(&o->version, 1, memory_order_release);
}

/* The bits of @ports in a set, the first one lowest. */
static uint64_t pick(const _Atomic uint64_t set[static 1024], const uint16_t ports[static 64])
{
	uint64_t word = 0;

	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t in_set =
			atomic_load_explicit(&set[ports[bit] / 64], memory_order_relaxed) >>
			(ports[bit] % 64);

		word = word >> 1 | in_set << 63;
	}
	return word;
}

void portorder_work_out(struct portorder *o, unsigned number)
{
	const struct permutation *permutation =
		atomic_load_explicit(&o->permutation, memory_order_relaxed);
	uint32_t version = atomic_load_explicit(&o->version, memory_order_acquire);

	for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++) {
		unsigned first = number * TUPLEBIND_SLAB_PORTS + w * 64;
		uint16_t ports[64];

		for (unsigned bit = 0; bit < 64; bit++)
			ports[bit] = permutation_port(permutation, (uint16_t)(first + bit));
		for (enum stage stage = 0; stage < STAGES; stage++)
			atomic_store_explicit(&o->masks[stage][number][w],
				portorder_has(o, stage) ? pick(o->sets[stage], ports) : 0,
				memory_order_relaxed);
	}
	/*
	 * Two threads may work out the same masks at once: both store the same words. If the sets
	 * have changed meanwhile, the version tells that these masks are not theirs.
	 */
	atomic_store_explicit(&o->ready[number], version, memory_order_release);
}

uint16_t portorder_random(const struct portorder *o, enum stage stage, uint64_t random)
{
	uint64_t count = atomic_load_explicit(&o->counts[stage], memory_order_relaxed);
	/* Multiplied and shifted (Lemire, 2019), which favours none by more than 2^-48. */
	uint64_t left = (uint64_t)((unsigned __int128)random * count >> 64);

	for (unsigned i = 0; i < 1024; i++) {
		uint64_t word = atomic_load_explicit(&o->sets[stage][i], memory_order_relaxed);
		uint64_t here = (uint64_t)__builtin_popcountll(word);

		if (left >= here) {
			left -= here;
			continue;
		}
		while (left-- > 0)
			word &= word - 1;
		return (uint16_t)(i * 64 + (unsigned)__builtin_ctzll(word));
	}
	return 0;
}
