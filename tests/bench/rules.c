/*
 * rules: what finding the rule of a destination costs, by the number of rules.
 *
 * Rules of all kinds (single addresses, prefixes of ten lengths, both families, with and without a
 * port), destinations drawn at random of which about half match. Prints a JSON object for each
 * number of rules: nanoseconds of a look, the median of the rounds, and the share of looks that
 * matched.
 */
#include "choose/destindex.h"

#include "../helpers/endpoint.h"
#include "samples.h"

#define ROUNDS 21
#define LOOKS  100000

static uint64_t state = 88172645463325252;

static uint64_t draw(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static struct addr draw_addr(void)
{
	unsigned __int128 v4 = (unsigned __int128)0xffff << 32 | 10u << 24 | (draw() & 0xffffff);
	unsigned __int128 v6 = (unsigned __int128)0x20010db8 << 96 | (draw() & 0xffffff);

	return addr_from_number(draw() % 4 == 0 ? v6 : v4);
}

static void add_rule(struct dest_index *x)
{
	static const uint8_t lengths[] = {12, 16, 20, 22, 24, 26, 28, 30, 31, 32};
	struct dest d = {.prefix = draw_addr(), .port = draw() % 2 ? 443 : 0};

	d.bits = 96 + lengths[4 + draw() % 6];
	if (draw() % 50 == 0)
		d.bits = 96 + lengths[draw() % 4];
	if (dest_index_add(x, &d) < 0)
		abort();
}

static void measure(unsigned count)
{
	static struct addr to[LOOKS];
	struct dest_index x = {0};
	static struct samples rounds;
	unsigned long matched = 0;

	for (unsigned i = 0; i < count; i++)
		add_rule(&x);
	samples_clear(&rounds);
	if (dest_index_make(&x) < 0)
		abort();
	for (unsigned i = 0; i < LOOKS; i++)
		to[i] = draw() % 2 && count ? x.dests[draw() % count].prefix : draw_addr();
	for (unsigned r = 0; r < ROUNDS; r++) {
		long start = clock_ns();

		for (unsigned i = 0; i < LOOKS; i++)
			matched += dest_index_find(&x, &to[i], 443) < count;
		samples_add(&rounds, clock_ns() - start);
	}
	samples_sort(&rounds);
	printf("{\"rules\":%u,\"ns\":%.1f,\"matched\":%.2f}\n", count,
		(double)samples_quantile(&rounds, 0.5) / LOOKS, (double)matched / ROUNDS / LOOKS);
	dest_index_free(&x);
}

int main(void)
{
	static const unsigned counts[] = {0, 1, 10, 100, 1000, 10000};

	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
		measure(counts[i]);
	return 0;
}
