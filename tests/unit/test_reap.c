/*
 * Reap: gives back what the kernel no longer has and nobody has in flight, and nothing
 * else. The tuples the kernel has are real connections over loopback; the ports of
 * claims it does not have are of a destination nobody listens at.
 */
#include "fixture.h"
#include "kernel/diag.h"
#include "table/inspect.h"
#include "table/process.h"
#include "table/reap.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

static struct table t;
static struct reap reap;
static struct tuplebind_lane lane;

static void setup(void)
{
	int fd = diag_open();

	if (fd < 0)
		cr_skip_test("no sock_diag here");
	diag_close(fd);
	fixture_table(&t, 0);
	lane = fixture_lane(1);
}

TestSuite(reap, .init = setup);

static claim take(uint16_t port)
{
	claim c = CLAIM_NONE;

	cr_assert_eq(claim_take_port(&t, &lane, port, NULL, &c), 0);
	return c;
}

static struct tuplebind_slab *slab_of(uint16_t port, uint64_t *tag)
{
	unsigned number = permutation_position(&t.permutation, port) / TUPLEBIND_SLAB_PORTS;

	return slab_find(&t, fixture_key(&t, &lane, number), tag);
}

/* Reaps the whole lane of the test. */
static unsigned reap_all(void)
{
	unsigned number = 0, freed;

	cr_assert_eq(reap_start(&reap, &t), 0);
	freed = reap_lane(&reap, &lane, &number, UINT32_MAX, UINT64_MAX);
	reap_end(&reap);
	return freed;
}

Test(reap, what_the_kernel_does_not_have_goes)
{
	for (uint16_t port = 1000; port < 1020; port++)
		take(port);
	cr_expect_eq(reap_all(), 20);
	cr_expect_eq(fixture_claims(&t), 0);
	cr_expect_eq(table_counter(&t, TUPLEBIND_REAPED), 20);
}

Test(reap, what_the_kernel_has_stays)
{
	struct fixture_connection c;

	fixture_connect(&c);
	lane = c.lane;
	take(c.lport);
	take(c.lport == 1 ? 2 : 1);
	cr_expect_eq(reap_all(), 1);
	cr_expect_eq(fixture_claims(&t), 1);
	cr_expect_eq(claim_take_port(&t, &lane, c.lport, NULL, &(claim){0}), -EADDRNOTAVAIL);
}

/* The client has closed, the server has not: FIN_WAIT2 and nobody's. */
Test(reap, an_orphan_goes_unless_its_tuple_is_wanted_now)
{
	struct fixture_connection c;

	fixture_connect(&c);
	lane = c.lane;
	take(c.lport);
	close(c.client);
	cr_assert_eq(diag_tuple(&lane, c.lport), DIAG_ORPHAN);
	cr_assert_eq(reap_start(&reap, &t), 0);
	reap.keep_orphans = true;
	cr_expect_eq(reap_lane(&reap, &lane, &(unsigned){0}, UINT32_MAX, UINT64_MAX), 0);
	reap.keep_orphans = false;
	cr_expect_eq(reap_lane(&reap, &lane, &(unsigned){0}, UINT32_MAX, UINT64_MAX), 1);
	reap_end(&reap);
}

Test(reap, a_listener_of_the_port_is_not_the_tuple)
{
	struct fixture_connection c;

	fixture_connect(&c);
	lane = c.lane;
	/* The listener's own port, as if one had connected from it. */
	take(c.lane.fport);
	cr_expect_eq(reap_all(), 1);
}

Test(reap, what_is_in_flight_stays)
{
	struct tuplebind_flight *f = flight_begin(&t, process_token(getpid()));
	claim c;

	take(1001);
	cr_assert_eq(claim_take_port(&t, &lane, 1000, flight_what(f), &c), 0);
	cr_expect_eq(reap_all(), 1);
	cr_expect_eq(fixture_claims(&t), 1);
	flight_end(f);
	cr_expect_eq(reap_all(), 1);
}

Test(reap, what_was_seen_is_not_asked_about)
{
	uint64_t seen[TUPLEBIND_SLAB_WORDS] = {0}, tag;
	unsigned bit = permutation_position(&t.permutation, 1000) % TUPLEBIND_SLAB_PORTS;

	take(1000);
	seen[bit / 64] = UINT64_C(1) << bit % 64;
	cr_assert_eq(reap_start(&reap, &t), 0);
	cr_expect_eq(reap_slab(&reap, slab_of(1000, &tag), seen), 0);
	seen[bit / 64] = 0;
	cr_expect_eq(reap_slab(&reap, slab_of(1000, &tag), seen), 1);
	reap_end(&reap);
}

Test(reap, other_lanes_are_left_alone)
{
	take(1000);
	lane = fixture_lane(2);
	take(1000);
	cr_expect_eq(reap_all(), 1);
	cr_expect_eq(fixture_claims(&t), 1);
}

Test(reap, enough_is_enough_and_the_rest_comes_next)
{
	unsigned number = 0, freed, turns = 0;

	for (uint16_t port = 1000; port < 1256; port++)
		take(port);
	cr_assert_eq(reap_start(&reap, &t), 0);
	freed = reap_lane(&reap, &lane, &number, 1, UINT64_MAX);
	cr_expect_geq(freed, 1);
	cr_expect_lt(freed, 256);
	for (; fixture_claims(&t) > 0 && turns < 256; turns++)
		cr_expect_geq(reap_lane(&reap, &lane, &number, 1, UINT64_MAX), 1);
	cr_expect_eq(fixture_claims(&t), 0);
	cr_expect_eq(reap.freed, 256);
	cr_expect_eq(reap_lane(&reap, &lane, &number, 1, 0), 0, "a deadline that has passed");
	reap_end(&reap);
}

Test(reap, one_at_a_time)
{
	struct reap second;

	cr_assert_eq(reap_start(&reap, &t), 0);
	cr_expect_eq(reap_start(&second, &t), -EBUSY);
	cr_expect_not(reap_wait(&t, 0));
	cr_expect_not(reap_wait(&t, reap_now() + 3000000));
	reap_end(&reap);
	cr_expect(reap_wait(&t, 0));
	cr_assert_eq(reap_start(&second, &t), 0);
	reap_end(&second);
}

static void *end_soon(void *unused)
{
	usleep(20000);
	reap_end(&reap);
	return NULL;
}

Test(reap, its_end_is_waited_for)
{
	pthread_t thread;
	uint64_t deadline = reap_now() + UINT64_C(8000000000);

	cr_assert_eq(reap_start(&reap, &t), 0);
	cr_assert_eq(pthread_create(&thread, NULL, end_soon, NULL), 0);
	cr_expect(reap_wait(&t, deadline));
	cr_expect_lt(reap_now(), deadline);
	cr_expect_eq(atomic_load(&t.header->reaper), 0);
	pthread_join(thread, NULL);
}

Test(reap, a_dead_reaper_is_not_waited_for)
{
	uint64_t now = reap_now() / 1000000000;

	atomic_store(&t.header->reaper, fixture_dead_pid() | now << 32);
	cr_expect(reap_wait(&t, 0));
	cr_assert_eq(reap_start(&reap, &t), 0);
	reap_end(&reap);
}

/* Living, but it began long ago, or in a future that a scribbler made up. */
Test(reap, a_reaper_that_does_not_end_is_not_waited_for)
{
	uint64_t now = reap_now() / 1000000000;

	atomic_store(&t.header->reaper, (uint32_t)getpid() | (now - 11) << 32);
	cr_expect(reap_wait(&t, 0));
	atomic_store(&t.header->reaper, (uint32_t)getpid() | (now + 1000) << 32);
	cr_expect(reap_wait(&t, 0));
	cr_assert_eq(reap_start(&reap, &t), 0);
	reap_end(&reap);
}

/* Every stage at which a recycler may have died: the slab can be had again after a reap. */
Test(reap, what_a_dead_recycler_left_is_taken_up)
{
	const uint32_t dead = fixture_dead_pid();

	t.slab_count = 1;
	for (unsigned state = TUPLEBIND_SLAB_FREE; state <= TUPLEBIND_SLAB_LIVE; state++) {
		for (unsigned words = 0; words <= TUPLEBIND_SLAB_WORDS; words++) {
			struct tuplebind_slab *slab = t.slabs;
			uint64_t tag = fixture_key(&t, &lane, 0).fingerprint | state;
			claim c;

			atomic_store(&slab->tag, state == TUPLEBIND_SLAB_FREE ? 0 : tag);
			atomic_store(&slab->owner, dead);
			for (unsigned w = 0; w < TUPLEBIND_LANE_WORDS; w++)
				atomic_store(&slab->lane[w], ((uint64_t *)&lane)[w]);
			atomic_store(&slab->number, 0);
			for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++)
				atomic_store(&slab->claims[w], w < words ? UINT64_MAX : 0);
			cr_assert_eq(reap_start(&reap, &t), 0);
			cr_expect_geq(reap_slab(&reap, slab, NULL), 0);
			reap_end(&reap);
			cr_expect_eq(fixture_claims(&t), 0, "state %u, %u words", state, words);
			cr_assert_eq(claim_take_port(&t, &lane, permutation_port(&t.permutation, 0),
					     NULL, &c),
				0, "state %u, %u words", state, words);
		}
	}
}

static void reap_one(struct tuplebind_slab *slab)
{
	cr_assert_eq(reap_start(&reap, &t), 0);
	cr_expect_geq(reap_slab(&reap, slab, NULL), 0);
	reap_end(&reap);
}

/* It was another lane's when they found it, and they died before they could undo their claims. */
Test(reap, bits_of_dead_claimers_in_a_slab_that_is_nobodys_go)
{
	static const enum tuplebind_slab_state states[] = {
		TUPLEBIND_SLAB_DEAD, TUPLEBIND_SLAB_TENTATIVE};
	struct tuplebind_slab *slab = t.slabs;

	for (unsigned i = 0; i < 2; i++) {
		atomic_store(&slab->tag, UINT64_C(5) << 10 | states[i]);
		atomic_store(&slab->claims[3], 1 << 7 | 1);
		reap_one(slab);
		cr_expect_eq(fixture_claims(&t), 0, "state %u", states[i]);
		cr_expect_eq(slab_state(atomic_load(&slab->tag)), TUPLEBIND_SLAB_DEAD);
		cr_expect_eq(atomic_load(&slab->owner), 0);
	}
}

/* Who lives undoes it himself: whatever he takes the slab for. */
Test(reap, bits_of_living_claimers_in_a_slab_that_is_nobodys_stay)
{
	struct tuplebind_flight *f = flight_begin(&t, process_token(getpid()));
	struct tuplebind_slab *slab = t.slabs;
	uint64_t found = UINT64_C(7) << 10 | TUPLEBIND_SLAB_LIVE;

	atomic_store(&slab->tag, UINT64_C(5) << 10 | TUPLEBIND_SLAB_DEAD);
	atomic_store(&slab->claims[0], 3);
	atomic_store(flight_what(f), claim_make(&t, slab, found, 1));
	reap_one(slab);
	cr_expect_eq(atomic_load(&slab->claims[0]), 2);
	flight_end(f);
	reap_one(slab);
	cr_expect_eq(fixture_claims(&t), 0);
}

/* A recycler sets bits as well, which are not to be given back one by one. */
Test(reap, a_claim_in_a_slab_that_is_being_recycled_is_left_alone)
{
	uint64_t tag;
	struct tuplebind_slab *slab;

	take(1000);
	slab = slab_of(1000, &tag);
	atomic_store(&slab->owner, (uint32_t)getpid());
	cr_expect_eq(reap_all(), 0);
	atomic_store(&slab->owner, 0);
	cr_expect_eq(reap_all(), 1);
}

Test(reap, a_claim_that_is_inspected_is_given_back_by_the_inspector)
{
	uint64_t token = process_token(getpid());
	claim c = take(1000);

	cr_assert(inspect_begin(&t, token, c));
	cr_expect_not(inspect_begin(&t, token, c), "one at a time");
	cr_expect_null(flight_with(&t, token, c));
	cr_expect_not(reap_claim(&t, c));
	cr_expect(claim_give_back(&t, c), "left to reap");
	cr_expect_eq(fixture_claims(&t), 1);
	inspect_end(&t, c);
	cr_expect(reap_claim(&t, c));
	cr_expect_eq(fixture_claims(&t), 0);
}

Test(reap, the_place_of_a_dead_inspector_is_taken_over)
{
	claim c = take(1000);

	cr_assert(inspect_begin(&t, fixture_dead_pid() | UINT64_C(1) << 32, c));
	cr_expect_eq(reap_all(), 1);
	cr_expect_not(claim_inspected(&t, c));
}

Test(reap, a_slab_under_work_by_the_living_is_left_alone)
{
	struct tuplebind_slab *slab = t.slabs;

	atomic_store(&slab->tag, TUPLEBIND_SLAB_DEAD);
	atomic_store(&slab->owner, (uint32_t)getpid());
	atomic_store(&slab->claims[0], UINT64_MAX);
	cr_assert_eq(reap_start(&reap, &t), 0);
	cr_expect_eq(reap_slab(&reap, slab, NULL), 0);
	reap_end(&reap);
	cr_expect_eq(fixture_claims(&t), 64);
	cr_expect_eq(atomic_load(&slab->owner), (uint32_t)getpid());
}

Test(reap, a_slab_of_a_lane_it_does_not_belong_to_is_left_alone)
{
	uint64_t tag;

	take(1000);
	atomic_fetch_xor(&slab_of(1000, &tag)->lane[0], 1);
	cr_expect_eq(reap_all(), 0);
	cr_expect_eq(fixture_claims(&t), 1);
}
