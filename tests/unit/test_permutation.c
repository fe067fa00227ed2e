/*
 * The table's order of ports is one to one, whatever stands in the table.
 */
#include "base/random.h"
#include "table/permutation.h"

#include <criterion/criterion.h>
#include <string.h>

/* Every port comes once, and both directions agree. */
static bool bijection(const struct permutation *p)
{
	static uint8_t seen[65536];
	unsigned wrong = 0;

	memset(seen, 0, sizeof seen);
	for (unsigned position = 0; position < 65536; position++) {
		uint16_t port = permutation_port(p, (uint16_t)position);

		wrong += seen[port]++ != 0;
		wrong += permutation_position(p, port) != position;
	}
	return wrong == 0;
}

Test(permutation, random_rounds)
{
	struct permutation p;

	for (int i = 0; i < 20; i++) {
		random_bytes(&p, sizeof p);
		cr_expect(bijection(&p));
	}
}

Test(permutation, rounds_somebody_wrote_over)
{
	static const int fills[] = {0, 0xff, 1, 0x80, 0x55};
	struct permutation p;

	for (size_t i = 0; i < sizeof fills / sizeof fills[0]; i++) {
		memset(&p, fills[i], sizeof p);
		cr_expect(bijection(&p), "all bytes %#x", (unsigned)fills[i]);
	}
	for (unsigned i = 0; i < sizeof p; i++)
		((uint8_t *)&p)[i] = (uint8_t)i;
	cr_expect(bijection(&p), "the identity in each round");
}

Test(permutation, neighbours_are_torn_apart)
{
	struct permutation p;
	unsigned close = 0;

	random_bytes(&p, sizeof p);
	for (unsigned position = 0; position + 1 < 65536; position++) {
		int step = permutation_port(&p, (uint16_t)(position + 1)) -
			   permutation_port(&p, (uint16_t)position);

		close += step >= -16 && step <= 16;
	}
	/* 32 of 65,535 by chance: about 32 expected, and none of a table's luck reaches 200. */
	cr_assert_lt(close, 200, "%u", close);
}
