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
			atomic_store_explicit(&o->before[stage][i], (uint16_t)counts[stage],
				memory_order_relaxed);
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

/* The bit of @word that has @rank set bits below it; there are more than that. */
static unsigned bit_of_rank(uint64_t word, unsigned rank)
{
	static const uint64_t ones = UINT64_C(0x0101010101010101);
	/* Bits counted in each byte, then in it and all below (Knuth, TAOCP 7.1.3). */
	uint64_t counts = word - (word >> 1 & ones * 0x55);

	counts = (counts & ones * 0x33) + (counts >> 2 & ones * 0x33);
	counts = ((counts + (counts >> 4)) & ones * 0x0f) * ones;
	/* Of each byte whose count is no more than the rank the highest bit stays. */
	uint64_t passed = ((rank * ones | ones << 7) - counts) & ones << 7;
	unsigned shift = (unsigned)((passed >> 7) * ones >> 56) * 8;

	rank -= (unsigned)(counts << 8 >> shift & 0xff);
	uint64_t rest = word >> shift;
	while (rank-- > 0)
		rest &= rest - 1;
	return shift + (unsigned)__builtin_ctzll(rest);
}

uint16_t portorder_random(const struct portorder *o, enum stage stage, uint64_t random)
{
	const _Atomic uint16_t *before = o->before[stage];
	uint32_t count = atomic_load_explicit(&o->counts[stage], memory_order_relaxed);
	/* Multiplied and shifted (Lemire, 2019), which favours none by more than 2^-48. */
	uint32_t rank = (uint32_t)((unsigned __int128)random * count >> 64);
	unsigned w = 0;

/* The last word that has no more than so many before it. */
#pragma GCC unroll 10
	for (unsigned step = 512; step > 0; step /= 2)
		if (rank >= atomic_load_explicit(&before[w + step], memory_order_relaxed))
			w += step;
	uint64_t word = atomic_load_explicit(&o->sets[stage][w], memory_order_relaxed);
	rank -= atomic_load_explicit(&before[w], memory_order_relaxed);
	/* None has so many: there is no port, or the sets are being changed. */
	if (rank >= (unsigned)__builtin_popcountll(word))
		return 0;
	return (uint16_t)(w * 64 + bit_of_rank(word, rank));
}
