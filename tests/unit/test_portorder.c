/*
 * The stages' masks say the same as the sets they were made of, for every port.
 */
#include "base/random.h"
#include "fixture.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct portorder order;
static struct permutation permutation;

static bool masked(enum stage stage, uint16_t port)
{
	unsigned position = permutation_position(&permutation, port);
	const _Atomic uint64_t *mask =
		portorder_mask(&order, stage, position / TUPLEBIND_SLAB_PORTS);
	unsigned bit = position % TUPLEBIND_SLAB_PORTS;

	return atomic_load(&mask[bit / 64]) >> (bit % 64) & 1;
}

/* What portorder.h promises, port by port. */
static unsigned disagreements(const struct portset *late, const struct portset *explicit_ports)
{
	unsigned wrong = 0;

	for (unsigned port = 0; port < 65536; port++) {
		bool is_late = portset_has(late, (uint16_t)port);
		bool rest = portset_has(explicit_ports, (uint16_t)port) && !is_late;

		wrong += masked(STAGE_LATE, (uint16_t)port) != is_late;
		wrong += masked(STAGE_ODD, (uint16_t)port) != (rest && port % 2 == 1);
		wrong += masked(STAGE_EVEN, (uint16_t)port) != (rest && port % 2 == 0);
	}
	return wrong;
}

static void setup(void)
{
	random_bytes(&permutation, sizeof permutation);
}

TestSuite(portorder, .init = setup);

Test(portorder, masks_agree_with_random_sets)
{
	struct portset late, explicit_ports;

	for (int i = 0; i < 5; i++) {
		random_bytes(&late, sizeof late);
		random_bytes(&explicit_ports, sizeof explicit_ports);
		portorder_set(&order, &permutation, &late, &explicit_ports);
		cr_expect_eq(disagreements(&late, &explicit_ports), 0);
	}
}

Test(portorder, a_change_takes_effect_on_masks_in_use)
{
	struct portset a, b, none;

	portset_clear(&a);
	portset_clear(&b);
	portset_clear(&none);
	portset_add_range(&a, 1000, 2000);
	portset_add_range(&b, 1500, 3000);
	portorder_set(&order, &permutation, &a, &none);
	cr_expect_eq(disagreements(&a, &none), 0);
	portorder_set(&order, &permutation, &b, &none);
	cr_expect_eq(disagreements(&b, &none), 0);
	/* As when late bind proves missing. */
	portorder_set(&order, &permutation, &none, &b);
	cr_expect_eq(disagreements(&none, &b), 0);
}

Test(portorder, says_which_stages_have_ports)
{
	struct portset late, explicit_ports;

	portset_clear(&late);
	portset_clear(&explicit_ports);
	portorder_set(&order, &permutation, &late, &explicit_ports);
	cr_expect_not(portorder_has(&order, STAGE_LATE));
	portset_add_range(&late, 10, 10);
	portset_add_range(&explicit_ports, 10, 11);
	portorder_set(&order, &permutation, &late, &explicit_ports);
	cr_expect(portorder_has(&order, STAGE_LATE));
	cr_expect(portorder_has(&order, STAGE_ODD));
	cr_expect_not(portorder_has(&order, STAGE_EVEN), "port 10 is for late bind");
}

Test(portorder, every_port_of_a_stage_is_drawn_equally_often)
{
	enum { FIRST = 20000, LAST = 20299, COUNT = LAST - FIRST + 1, TIMES = 1000 };
	static unsigned drawn[65536];
	struct portset late, none;

	portset_clear(&late);
	portset_clear(&none);
	portset_add_range(&late, FIRST, LAST);
	portorder_set(&order, &permutation, &late, &none);
	cr_expect_eq(portorder_random(&order, STAGE_ODD, UINT64_MAX), 0, "a stage without ports");
	cr_expect_eq(portorder_random(&order, STAGE_LATE, 0), FIRST);
	cr_expect_eq(portorder_random(&order, STAGE_LATE, UINT64_MAX), LAST);
	/* The whole circle of random numbers in even steps: no chance is left in this. */
	for (uint64_t i = 0; i < COUNT * TIMES; i++)
		drawn[portorder_random(&order, STAGE_LATE, UINT64_MAX / (COUNT * TIMES) * i)]++;
	for (unsigned port = 0; port < 65536; port++)
		cr_assert_leq(
			abs((int)drawn[port] - (portset_has(&late, (uint16_t)port) ? TIMES : 0)), 2,
			"port %u: %u", port, drawn[port]);
}

/* 0 says of masks that they have never been worked out. */
Test(portorder, versions_wrap_past_0)
{
	struct portset ports;

	portset_clear(&ports);
	portset_add_range(&ports, 1000, 2000);
	atomic_store(&order.version, UINT32_MAX);
	portorder_set(&order, &permutation, &ports, &ports);
	cr_expect_eq(atomic_load(&order.version), 1);
}
