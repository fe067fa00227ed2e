/*
 * Connects under way: what a living process has in flight is seen by reap, from before the
 * claim is made on; what a dead one had is not.
 */
#include "fixture.h"
#include "table/flight.h"
#include "table/process.h"

#include <criterion/criterion.h>
#include <unistd.h>

static struct table t;
static uint64_t self;

static const uint64_t a_lane = UINT64_C(0x123456789abcdef0), a_claim = UINT64_C(1) << 63 | 42;

static void setup(void)
{
	fixture_table(&t, 0);
	self = process_token(getpid());
}

TestSuite(flight, .init = setup);

Test(flight, a_claim_to_come_covers_its_lane)
{
	struct tuplebind_flight *f;

	cr_expect_not(flight_has(&t, a_lane, a_claim));
	f = flight_begin(&t, self, a_lane);
	cr_assert_not_null(f);
	cr_expect(flight_has(&t, a_lane, a_claim));
	cr_expect(flight_has(&t, a_lane, a_claim + 1));
	cr_expect_not(flight_has(&t, hash_mix(a_lane), a_claim));
}

Test(flight, a_claim_carried_covers_itself_only)
{
	struct tuplebind_flight *f = flight_begin(&t, self, a_lane);

	flight_carry(f, a_lane, a_claim);
	cr_expect(flight_has(&t, a_lane, a_claim));
	cr_expect_not(flight_has(&t, a_lane, a_claim + 1));
	flight_carry(f, a_lane, CLAIM_NONE);
	cr_expect(flight_has(&t, a_lane, a_claim + 1), "the next one is to come");
}

Test(flight, ends)
{
	struct tuplebind_flight *f = flight_begin(&t, self, a_lane);

	flight_carry(f, a_lane, a_claim);
	flight_end(f);
	cr_expect_not(flight_has(&t, a_lane, a_claim));
	cr_expect_eq(atomic_load(&f->owner), 0);
	cr_expect_eq(flight_begin(&t, self, a_lane), f, "a thread comes back to its place");
}

Test(flight, several_at_once)
{
	for (uint64_t i = 0; i < 8; i++) {
		struct tuplebind_flight *f = flight_begin(&t, self, a_lane + i * 2);

		cr_assert_not_null(f);
		flight_carry(f, a_lane + i * 2, a_claim + i);
	}
	for (uint64_t i = 0; i < 8; i++)
		cr_expect(flight_has(&t, a_lane + i * 2, a_claim + i));
	cr_expect_null(flight_begin(&t, self, a_lane), "no place near its own");
	flight_carry(NULL, a_lane, a_claim);
	flight_end(NULL);
}

Test(flight, of_a_dead_process_counts_for_nothing_and_is_cleared)
{
	uint64_t dead = fixture_dead_pid() | UINT64_C(1) << 32;
	struct tuplebind_flight *f = flight_begin(&t, dead, a_lane);

	flight_carry(f, a_lane, a_claim);
	cr_expect_not(flight_has(&t, a_lane, a_claim));
	cr_expect_eq(atomic_load(&f->owner), 0);
	cr_expect_eq(atomic_load(&f->what), 0);
}

Test(flight, a_place_without_an_owner_counts_for_nothing)
{
	atomic_store(&t.header->flights[7].what, a_claim);
	cr_expect_not(flight_has(&t, a_lane, a_claim));
}
