/*
 * The index of destinations, against a look at one after another.
 */
#include "choose/destindex.h"
#include "fixture.h"

#include <criterion/criterion.h>

static struct dest_index x;

static void teardown(void)
{
	dest_index_free(&x);
}

TestSuite(destindex, .fini = teardown);

static bool bits_equal(const struct addr *a, const struct addr *b, unsigned bits)
{
	for (unsigned i = 0; i < bits; i++)
		if ((a->bytes[i / 8] ^ b->bytes[i / 8]) >> (7 - i % 8) & 1)
			return false;
	return true;
}

static unsigned find_one_by_one(const struct addr *faddr, uint16_t fport)
{
	for (unsigned n = 0; n < x.count; n++) {
		const struct dest *d = &x.dests[n];

		if ((d->port == 0 || d->port == fport) &&
			addr_is_v4(&d->prefix) == addr_is_v4(faddr) &&
			bits_equal(&d->prefix, faddr, d->bits))
			return n;
	}
	return x.count;
}

/* Addresses with few different bits, so that many prefixes match. */
static struct addr random_addr(uint64_t *seed)
{
	struct addr a = {.scope = 0};

	if (fixture_random(seed) % 2)
		a.bytes[10] = a.bytes[11] = 0xff;
	for (int i = a.bytes[10] ? 12 : 0; i < 16; i++)
		if (fixture_random(seed) % 4 == 0)
			a.bytes[i] = (uint8_t)(1u << fixture_random(seed) % 8);
	return a;
}

static uint16_t random_port(uint64_t *seed)
{
	return (uint16_t)(fixture_random(seed) % 3);
}

static void fill(unsigned count, uint64_t *seed)
{
	dest_index_free(&x);
	for (unsigned n = 0; n < count; n++) {
		struct dest d = {.prefix = random_addr(seed), .port = random_port(seed)};
		unsigned least = addr_is_v4(&d.prefix) ? 96 : 0;

		d.bits = least + (unsigned)(fixture_random(seed) % (129 - least));
		cr_assert_eq(dest_index_add(&x, &d), 0);
	}
	cr_assert_eq(dest_index_make(&x), 0);
}

Test(destindex, finds_what_a_look_at_each_finds)
{
	uint64_t seed = 3;
	unsigned wrong = 0, matched = 0;

	for (unsigned round = 0; round < 60; round++) {
		fill(round * round / 4, &seed);
		for (int i = 0; i < 500; i++) {
			struct addr a = random_addr(&seed);
			uint16_t port = random_port(&seed);
			unsigned found = dest_index_find(&x, &a, port);

			wrong += found != find_one_by_one(&a, port);
			matched += found != x.count;
		}
	}
	cr_expect_eq(wrong, 0);
	cr_expect_gt(matched, 5000);
	cr_expect_lt(matched, 29000);
}

Test(destindex, every_destination_finds_itself_or_an_earlier_one)
{
	uint64_t seed = 4;
	unsigned wrong = 0;

	fill(3000, &seed);
	for (unsigned n = 0; n < x.count; n++)
		wrong += dest_index_find(&x, &x.dests[n].prefix, x.dests[n].port) > n;
	cr_expect_eq(wrong, 0);
}

Test(destindex, empty)
{
	struct addr a = {.scope = 0};

	cr_assert_eq(dest_index_make(&x), 0);
	cr_expect_eq(dest_index_find(&x, &a, 80), 0);
}
