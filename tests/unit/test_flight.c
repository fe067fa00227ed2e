/*
 * Connects under way: what a living process has in flight is seen by reap, from before the
 * claim is made on; what a dead one had is not.
 */
#include "fixture.h"
#include "table/flight.h"
#include "table/process.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <unistd.h>

static struct table t;
static uint64_t self;

static const uint64_t a_claim = UINT64_C(1) << 63 | 42;

static void setup(void)
{
	fixture_table(&t, 0);
	self = process_token(getpid());
}

TestSuite(flight, .init = setup);

/* A flight of the process of @token that carries @c. */
static struct tuplebind_flight *carry(uint64_t token, claim c)
{
	struct tuplebind_flight *f = flight_begin(&t, token);

	cr_assert_not_null(f);
	atomic_store(flight_what(f), c);
	return f;
}

Test(flight, carries_its_claim_and_no_other)
{
	cr_expect_not(flight_has(&t, a_claim));
	carry(self, a_claim);
	cr_expect(flight_has(&t, a_claim));
	cr_expect_not(flight_has(&t, a_claim + 1));
}

Test(flight, ends)
{
	struct tuplebind_flight *f = carry(self, a_claim);

	flight_end(f);
	cr_expect_not(flight_has(&t, a_claim));
	cr_expect_eq(atomic_load(&f->owner), 0);
	cr_expect_eq(flight_begin(&t, self), f, "a thread comes back to its place");
}

Test(flight, several_at_once)
{
	for (uint64_t i = 0; i < 64; i++)
		carry(self, a_claim + i);
	for (uint64_t i = 0; i < 64; i++)
		cr_expect(flight_has(&t, a_claim + i));
	cr_expect_null(flight_begin(&t, self), "no place near its own");
	cr_expect_null(flight_what(NULL));
	flight_end(NULL);
}

Test(flight, of_a_dead_process_counts_for_nothing_and_its_place_is_freed)
{
	struct tuplebind_flight *f = carry(fixture_dead_pid() | UINT64_C(1) << 32, a_claim);

	cr_expect_not(flight_has(&t, a_claim));
	cr_expect_eq(atomic_load(&f->owner), 0);
}

Test(flight, a_place_without_an_owner_counts_for_nothing)
{
	atomic_store(&t.header->flights[7].what, a_claim);
	cr_expect_not(flight_has(&t, a_claim));
}

Test(flight, a_claim_is_announced)
{
	struct tuplebind_lane lane = fixture_lane(1);
	struct portorder *ports = fixture_order(&t, "1000-1009", NULL);
	struct tuplebind_flight *f = flight_begin(&t, self);
	uint16_t port;
	claim c;

	cr_assert_eq(claim_take_port(&t, &lane, 1000, flight_what(f), &c), 0);
	cr_expect(flight_has(&t, c));
	for (int i = 0; i < 9; i++) {
		cr_assert_eq(claim_take_announced(&t, &lane, slab_lane_hash(&t, &lane), ports,
				     STAGE_LATE, fixture_walk(), 0, flight_what(f), &c, &port),
			0);
		cr_expect(flight_has(&t, c));
	}
}

Test(flight, there_may_be_no_place)
{
	unsigned places = 0;

	while (flight_begin(&t, self) != NULL)
		places++;
	cr_expect_gt(places, 0);
	cr_expect_null(flight_with(&t, self, a_claim));
	cr_expect_not(flight_has(&t, a_claim));
	flight_end(NULL);
}
