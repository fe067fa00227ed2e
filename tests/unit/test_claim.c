/*
 * Claims: each port of a lane exactly once, in an order nobody can tell, given back one
 * by one, and never given back by a handle whose claim is gone.
 */
#include "fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static struct table t;
static struct claim_walk *walk;
static struct tuplebind_lane lane;

static void setup(void)
{
	fixture_table(&t, 0);
	walk = fixture_walk();
	lane = fixture_lane(1);
}

TestSuite(claim, .init = setup);

/* Takes the next port of the test's lane; its port, or a negative errno. */
static int take(struct portorder *ports, enum stage stage, uint16_t avoid, claim *c)
{
	uint16_t port = 0;
	int error = claim_take(&t, &lane, ports, stage, walk, avoid, c, &port);

	return error < 0 ? error : port;
}

/* Takes all there is of @stage into @set, which has none of it yet; returns how it ended. */
static int take_all(struct portorder *ports, enum stage stage, struct portset *set, unsigned *count)
{
	int port;
	claim c;

	for (*count = 0; (port = take(ports, stage, 0, &c)) >= 0; ++*count) {
		cr_assert_neq(port, 0);
		cr_assert_not(portset_has(set, (uint16_t)port), "port %d twice", port);
		cr_assert_eq(claim_port(&t, c), port);
		portset_add_range(set, (uint16_t)port, (uint16_t)port);
	}
	return port;
}

Test(claim, each_port_of_the_set_once)
{
	struct portset wanted = fixture_ports("1,1024,20000-22000,65535"), got;
	unsigned count;

	portset_clear(&got);
	cr_expect_eq(
		take_all(fixture_order_of(&t, &wanted), STAGE_LATE, &got, &count), -EADDRNOTAVAIL);
	cr_expect_eq(count, portset_count(&wanted));
	cr_expect_arr_eq(got.words, wanted.words, sizeof got.words);
	cr_expect_eq(fixture_claims(&t), count);
}

Test(claim, all_of_a_lane)
{
	struct portset got;
	unsigned count;

	portset_clear(&got);
	cr_expect_eq(take_all(fixture_order(&t, "1-65535", NULL), STAGE_LATE, &got, &count),
		-EADDRNOTAVAIL);
	cr_expect_eq(count, 65535);
}

Test(claim, lanes_do_not_share_ports)
{
	struct portorder *ports = fixture_order(&t, "5000-5009", NULL);

	for (unsigned i = 0; i < 20; i++) {
		struct portset got;
		unsigned count;

		lane = fixture_lane(i);
		portset_clear(&got);
		cr_assert_eq(take_all(ports, STAGE_LATE, &got, &count), -EADDRNOTAVAIL);
		cr_assert_eq(count, 10);
	}
}

Test(claim, the_one_given_back_is_the_one_that_is_free)
{
	struct portorder *ports = fixture_order(&t, "1000-1999", NULL);
	static claim claims[1000];
	static int numbers[1000];
	uint64_t seed = 1;

	for (int i = 0; i < 1000; i++)
		numbers[i] = take(ports, STAGE_LATE, 0, &claims[i]);
	for (int turn = 0; turn < 500; turn++) {
		unsigned i = fixture_random(&seed) % 1000;
		int again;
		claim c;

		cr_assert(claim_give_back(&t, claims[i]));
		again = take(ports, STAGE_LATE, 0, &claims[i]);
		cr_assert_eq(again, numbers[i]);
		cr_assert_eq(take(ports, STAGE_LATE, 0, &c), -EADDRNOTAVAIL);
	}
}

Test(claim, udp_claims_of_a_port_are_counted)
{
	struct portorder *ports = fixture_order(&t, "7000", NULL);
	static claim claims[300];

	cr_assert_eq(take(ports, STAGE_LATE, 0, &claims[0]), 7000);
	cr_expect_eq(claim_udp_count(&t, 7000), 0, "TCP's do not count");
	for (unsigned i = 0; i < 3; i++) {
		lane = fixture_lane(i);
		lane.protocol = IPPROTO_UDP;
		cr_assert_eq(take(ports, STAGE_LATE, 0, &claims[i]), 7000);
		cr_expect_eq(claim_udp_count(&t, 7000), i + 1);
	}
	claim_give_back(&t, claims[1]);
	cr_expect_not(claim_give_back(&t, claims[1]));
	cr_expect_eq(claim_udp_count(&t, 7000), 2);
	lane = fixture_lane(1);
	lane.protocol = IPPROTO_UDP;
	cr_assert_eq(take(ports, STAGE_LATE, 0, &claims[1]), 7000);
	cr_expect_eq(claim_udp_count(&t, 7000), 3);
	cr_assert_eq(claim_take_port(&t, &lane, 7001, NULL, &claims[3]), 0);
	cr_expect_eq(claim_udp_count(&t, 7001), 1);
	for (unsigned i = 0; i < 3; i++)
		cr_assert(claim_give_back(&t, claims[i]));
	cr_expect_eq(claim_udp_count(&t, 7000), 0);
}

Test(claim, too_many_udp_claims_to_count)
{
	struct portorder *ports = fixture_order(&t, "7000", NULL);
	static claim claims[300];

	for (unsigned i = 0; i < 300; i++) {
		lane = fixture_lane(i);
		lane.protocol = IPPROTO_UDP;
		cr_assert_eq(take(ports, STAGE_LATE, 0, &claims[i]), 7000);
	}
	cr_expect_eq(claim_udp_count(&t, 7000), UINT8_MAX);
	for (unsigned i = 0; i < 300; i++)
		cr_assert(claim_give_back(&t, claims[i]));
	cr_expect_eq(claim_udp_count(&t, 7000), UINT8_MAX, "never mistaken for none");
}

Test(claim, given_back_twice_is_told)
{
	struct portorder *ports = fixture_order(&t, "1000-1999", NULL);
	claim a, b;

	take(ports, STAGE_LATE, 0, &a);
	take(ports, STAGE_LATE, 0, &b);
	cr_expect(claim_give_back(&t, a));
	cr_expect_not(claim_give_back(&t, a));
	cr_expect_not(claim_give_back(&t, CLAIM_NONE));
	cr_expect_eq(fixture_claims(&t), 1);
	cr_expect(claim_give_back(&t, b));
}

Test(claim, the_port_to_avoid_is_never_given)
{
	struct portorder *ports = fixture_order(&t, "7000-7002", NULL);
	int first, second;
	claim a, b, c;

	for (int turn = 0; turn < 50; turn++) {
		first = take(ports, STAGE_LATE, 7001, &a);
		second = take(ports, STAGE_LATE, 7001, &b);
		cr_assert_neq(first, 7001);
		cr_assert_neq(second, 7001);
		cr_assert_eq(first + second, 14002);
		cr_assert_eq(take(ports, STAGE_LATE, 7001, &c), -EADDRNOTAVAIL);
		cr_assert_eq(take(ports, STAGE_LATE, 0, &c), 7001);
		cr_assert(
			claim_give_back(&t, a) && claim_give_back(&t, b) && claim_give_back(&t, c));
	}
}

Test(claim, avoiding_the_only_port_makes_no_slab)
{
	struct portorder *ports = fixture_order(&t, "7000", NULL);
	claim c;

	cr_expect_eq(take(ports, STAGE_LATE, 7000, &c), -EADDRNOTAVAIL);
	for (uint64_t i = 0; i < t.slab_count; i++)
		cr_assert_eq(atomic_load(&t.slabs[i].tag), TUPLEBIND_SLAB_FREE);
}

Test(claim, stages_keep_to_their_ports)
{
	struct portorder *ports = fixture_order(&t, "1000-1099", "1050-1200");
	struct portset got;
	unsigned count;

	portset_clear(&got);
	cr_expect_eq(take_all(ports, STAGE_ODD, &got, &count), -EADDRNOTAVAIL);
	cr_expect_eq(count, 50);
	for (unsigned port = 0; port < 65536; port++)
		cr_assert_eq(portset_has(&got, (uint16_t)port),
			port > 1099 && port <= 1200 && port % 2 == 1);
	cr_expect_eq(take_all(ports, STAGE_EVEN, &got, &count), -EADDRNOTAVAIL);
	cr_expect_eq(count, 51);
	cr_expect_eq(take_all(ports, STAGE_LATE, &got, &count), -EADDRNOTAVAIL);
	cr_expect_eq(count, 100);
	for (unsigned port = 0; port < 65536; port++)
		cr_assert_eq(portset_has(&got, (uint16_t)port), port >= 1000 && port <= 1200);
}

Test(claim, a_stage_without_ports)
{
	struct portorder *ports = fixture_order(&t, "1000", NULL);
	claim c;

	cr_expect_eq(take(ports, STAGE_ODD, 0, &c), -EADDRNOTAVAIL);
	cr_expect_eq(take(ports, STAGE_EVEN, 0, &c), -EADDRNOTAVAIL);
	cr_expect_eq(take(ports, STAGE_LATE, 0, &c), 1000);
}

Test(claim, a_full_table_is_not_a_full_lane)
{
	struct portorder *ports;
	struct portset one_slab;
	claim c;

	t.slab_count = 1;
	portset_clear(&one_slab);
	fixture_positions(&one_slab, &t, 3, 2);
	ports = fixture_order_of(&t, &one_slab);
	cr_assert_geq(take(ports, STAGE_LATE, 0, &c), 0);
	lane = fixture_lane(2);
	cr_expect_eq(take(ports, STAGE_LATE, 0, &c), -ENOSPC);
	lane = fixture_lane(1);
	cr_expect_geq(take(ports, STAGE_LATE, 0, &c), 0);
	cr_expect_eq(take(ports, STAGE_LATE, 0, &c), -EADDRNOTAVAIL);
}

Test(claim, part_of_a_lane_without_room_is_told_after_the_rest)
{
	struct portset two_slabs, got;
	unsigned count;

	t.slab_count = 1;
	portset_clear(&two_slabs);
	portset_clear(&got);
	fixture_positions(&two_slabs, &t, 3, 2);
	fixture_positions(&two_slabs, &t, 90, 2);
	cr_expect_eq(take_all(fixture_order_of(&t, &two_slabs), STAGE_LATE, &got, &count), -ENOSPC);
	cr_expect_eq(count, 2);
}

Test(claim, a_given_port)
{
	static const uint16_t ports[] = {1, 2, 80, 32768, 65534, 65535};
	claim claims[6], c;

	for (int i = 0; i < 6; i++) {
		cr_assert_eq(claim_take_port(&t, &lane, ports[i], NULL, &claims[i]), 0);
		cr_expect_eq(claim_port(&t, claims[i]), ports[i]);
		cr_expect_eq(claim_take_port(&t, &lane, ports[i], NULL, &c), -EADDRNOTAVAIL);
	}
	cr_expect_eq(fixture_claims(&t), 6);
	for (int i = 0; i < 6; i++)
		cr_expect(claim_give_back(&t, claims[i]));
	cr_expect_eq(fixture_claims(&t), 0);
}

Test(claim, a_given_port_is_not_given_by_the_walk)
{
	struct portorder *ports = fixture_order(&t, "7000-7001", NULL);
	claim c;

	cr_assert_eq(claim_take_port(&t, &lane, 7000, NULL, &c), 0);
	cr_expect_eq(take(ports, STAGE_LATE, 0, &c), 7001);
	cr_expect_eq(take(ports, STAGE_LATE, 0, &c), -EADDRNOTAVAIL);
}

Test(claim, tells_its_lane)
{
	struct tuplebind_lane told;
	claim c;

	cr_assert_eq(claim_take_port(&t, &lane, 4444, NULL, &c), 0);
	cr_assert(claim_lane(&t, c, &told));
	cr_expect_arr_eq(&told, &lane, sizeof lane);
	cr_expect_not(claim_lane(&t, CLAIM_NONE, &told));
}

/* The lane's slab is emptied and goes to @other. */
static void lose_slab_to(unsigned other, claim *c)
{
	lane = fixture_lane(other);
	cr_assert_eq(claim_take_port(&t, &lane, 4444, NULL, c), 0);
}

Test(claim, a_stale_handle_gives_nothing_back)
{
	struct tuplebind_lane told;
	claim old, neighbour[2];

	t.slab_count = 1;
	cr_assert_eq(claim_take_port(&t, &lane, 4444, NULL, &old), 0);
	cr_assert(claim_give_back(&t, old));
	lose_slab_to(2, &neighbour[0]);
	cr_expect_not(claim_give_back(&t, old));
	cr_expect_not(claim_lane(&t, old, &told));
	cr_expect_eq(fixture_claims(&t), 1, "the neighbour's claim stays");
	cr_assert(claim_give_back(&t, neighbour[0]));
	lose_slab_to(1, &neighbour[1]);
	cr_expect_not(claim_give_back(&t, old), "the lane is the same again, the claim is not");
	cr_expect_eq(fixture_claims(&t), 1);
	cr_expect(claim_give_back(&t, neighbour[1]));
}

Test(claim, handles_of_nothing)
{
	const uint64_t noise[] = {1, UINT64_MAX, UINT64_C(1) << 63, UINT64_MAX >> 1,
		UINT64_C(1) << 63 | t.slab_count << 9, UINT64_C(1) << 63 | (t.slab_count - 1) << 9};
	struct tuplebind_lane told;

	for (size_t i = 0; i < sizeof noise / sizeof noise[0]; i++) {
		cr_expect_not(claim_give_back(&t, noise[i]));
		claim_port(&t, noise[i]);
		cr_expect_not(claim_lane(&t, noise[i], &told));
	}
}

/* How many different ports @turns turns of take and give back go through. */
static unsigned different_ports(struct portorder *ports, unsigned turns)
{
	struct portset got;

	portset_clear(&got);
	for (unsigned i = 0; i < turns; i++) {
		claim c;
		int port = take(ports, STAGE_LATE, 0, &c);

		cr_assert_geq(port, 0);
		portset_add_range(&got, (uint16_t)port, (uint16_t)port);
		cr_assert(claim_give_back(&t, c));
	}
	return portset_count(&got);
}

Test(claim, a_port_given_back_comes_last)
{
	struct portorder *ports = fixture_order(&t, "10000-10999", NULL);

	for (int lap = 0; lap < 5; lap++)
		cr_expect_eq(different_ports(ports, 1000), 1000);
}

Test(claim, a_port_given_back_comes_last_in_a_lane_partly_taken)
{
	struct portorder *ports = fixture_order(&t, "10000-10999", NULL);
	claim c;

	for (int i = 0; i < 900; i++)
		cr_assert_geq(take(ports, STAGE_LATE, 0, &c), 0);
	cr_expect_eq(different_ports(ports, 100), 100);
}

Test(claim, the_only_port_comes_again)
{
	cr_expect_eq(different_ports(fixture_order(&t, "10000", NULL), 100), 1);
}

/* The first @count ports that a table and a walk of their own give to the lane. */
static void first_ports(struct table *table, struct claim_walk *w, uint16_t *out, unsigned count)
{
	struct portorder *ports = fixture_order(table, "1-65535", NULL);
	claim c;

	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(claim_take(table, &lane, ports, STAGE_LATE, w, 0, &c, &out[i]), 0);
}

Test(claim, another_table_has_another_order)
{
	struct table other;
	uint16_t a[64], b[64];
	unsigned same = 0;

	fixture_table(&other, 0);
	first_ports(&t, walk, a, 64);
	first_ports(&other, walk, b, 64);
	for (int i = 0; i < 64; i++)
		same += a[i] == b[i];
	cr_expect_lt(same, 8);
	table_detach(&other);
}

/* Were the permutation left out, neighbours would be one apart. */
Test(claim, the_next_port_does_not_follow_from_the_last)
{
	uint16_t a[1000];
	unsigned commonest = 0;
	static uint16_t steps[65536];

	first_ports(&t, walk, a, 1000);
	for (int i = 1; i < 1000; i++) {
		uint16_t step = (uint16_t)(a[i] - a[i - 1]);

		if (++steps[step] > commonest)
			commonest = steps[step];
	}
	cr_expect_lt(commonest, 20);
}

Test(claim, processes_begin_at_places_of_their_own)
{
	uint16_t first[32];
	unsigned same = 0;

	for (int i = 0; i < 32; i++)
		first_ports(&t, fixture_walk(), &first[i], 1);
	/* Two of the same place would be neighbours in position. */
	for (int i = 0; i < 32; i++)
		for (int j = 0; j < i; j++)
			same += permutation_position(&t.permutation, first[i]) / 16 ==
				permutation_position(&t.permutation, first[j]) / 16;
	cr_expect_lt(same, 6, "%u", same);
}

/* A few ports among 65,536 places in the order: the next free one from a place would favour some.
 */
Test(claim, a_scattered_walk_favours_no_port)
{
	enum { FIRST = 30000, COUNT = 16, ROUNDS = 8000 };
	unsigned drawn[COUNT] = {0};
	struct portset wanted;
	claim c;

	portset_clear(&wanted);
	portset_add_range(&wanted, FIRST, FIRST + COUNT - 1);
	struct portorder *ports = fixture_order_of(&t, &wanted);
	for (unsigned i = 0; i < ROUNDS; i++) {
		claim_walk_scatter(&t, walk, slab_lane_hash(&t, &lane), ports, STAGE_LATE);
		int port = take(ports, STAGE_LATE, 0, &c);
		cr_assert_geq(port, FIRST);
		drawn[port - FIRST]++;
		claim_give_back(&t, c);
	}
	/* 500 each, give or take eight times the square root of that. */
	for (unsigned i = 0; i < COUNT; i++)
		cr_expect_leq(abs((int)drawn[i] - ROUNDS / COUNT), 180, "port %u: %u", FIRST + i,
			drawn[i]);
}
