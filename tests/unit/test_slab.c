/*
 * Slabs: found where they were made, never shared by two lanes, recycled when empty, and
 * settled or passed by whatever a process that died over them left behind. What the dead
 * leave is written into the table directly, state by state of table/slab.h.
 */
#include "fixture.h"

#include "base/random.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static struct table t;

static void use_table(uint64_t slabs)
{
	fixture_table(&t, slabs);
}

static struct tuplebind_slab *obtain(unsigned lane_number, unsigned number, uint64_t *tag)
{
	return fixture_obtain(&t, fixture_lane(lane_number), number, tag);
}

static struct slab_key key_of(unsigned lane_number, unsigned number)
{
	struct tuplebind_lane lane = fixture_lane(lane_number);

	return fixture_key(&t, &lane, number);
}

static uint64_t tag_of(const struct tuplebind_slab *slab)
{
	return atomic_load(&slab->tag);
}

static unsigned generation_of(const struct tuplebind_slab *slab)
{
	return (tag_of(slab) & TUPLEBIND_TAG_GENERATION) / TUPLEBIND_TAG_ONE_GENERATION;
}

/* Writes the slab @step steps from the home of @key, as a process in the middle of it would. */
static struct tuplebind_slab *leave_slab(
	struct slab_key key, unsigned step, uint64_t tag, uint32_t owner, uint64_t claims)
{
	struct tuplebind_slab *slab = slab_at(&t, key, step);

	for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++)
		atomic_store(&slab->claims[w], claims);
	atomic_store(&slab->owner, owner);
	atomic_store(&slab->tag, tag);
	return slab;
}

static struct tuplebind_slab *leave_state(
	struct slab_key key, unsigned step, enum tuplebind_slab_state state)
{
	return leave_slab(key, step, key.fingerprint | TUPLEBIND_TAG_ONE_GENERATION | state, 0, 0);
}

/* No matter how it came about: one slab of the key, and it can be found. */
static void expect_settled(struct slab_key key, const struct tuplebind_slab *slab)
{
	uint64_t tag;

	cr_expect_eq(fixture_slabs(&t, key, TUPLEBIND_SLAB_LIVE), 1);
	cr_expect_eq(fixture_slabs(&t, key, TUPLEBIND_SLAB_TENTATIVE), 0);
	cr_expect_eq(slab_find(&t, key, &tag), slab);
	cr_expect_eq(tag, tag_of(slab));
}

Test(slab, keys_lie_within_the_table)
{
	static const uint64_t counts[] = {1, 2, 7, 8, 9, 100, 400};
	unsigned wrong = 0;

	use_table(0);
	for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
		t.slab_count = counts[c];
		for (unsigned lane = 0; lane < 200; lane++) {
			struct slab_key key = key_of(lane, lane % TUPLEBIND_LANE_SLABS);

			wrong += (key.fingerprint & ~TUPLEBIND_TAG_FINGERPRINT) != 0;
			for (unsigned step = 0; step < slab_window(&t); step++) {
				struct tuplebind_slab *slab = slab_at(&t, key, step);

				wrong += slab < t.slabs || slab >= t.slabs + t.slab_count;
			}
		}
	}
	cr_assert_eq(wrong, 0);
}

Test(slab, a_window_holds_each_slab_once)
{
	struct slab_key key;
	uint8_t seen[100] = {0};

	use_table(100);
	key = key_of(1, 7);
	for (unsigned step = 0; step < slab_window(&t); step++)
		seen[slab_at(&t, key, step) - t.slabs]++;
	for (unsigned i = 0; i < sizeof seen; i++)
		cr_assert_eq(seen[i], 1);
}

Test(slab, what_was_made_is_found)
{
	struct tuplebind_lane lane = fixture_lane(3), read;
	struct tuplebind_slab *made;
	unsigned number;
	uint64_t tag, found_tag;

	use_table(0);
	cr_assert_null(slab_find(&t, key_of(3, 5), &tag));
	made = obtain(3, 5, &tag);
	cr_assert_not_null(made);
	cr_expect_eq(slab_find(&t, key_of(3, 5), &found_tag), made);
	cr_expect_eq(found_tag, tag);
	cr_expect_eq(obtain(3, 5, &tag), made, "it is not made twice");
	cr_expect_null(slab_find(&t, key_of(3, 6), &tag));
	cr_expect_null(slab_find(&t, key_of(4, 5), &tag));
	cr_assert(slab_read(made, &read, &number));
	cr_expect_arr_eq(&read, &lane, sizeof lane);
	cr_expect_eq(number, 5);
	cr_expect_eq(fixture_claims(&t), 0, "it begins empty");
}

Test(slab, two_lanes_never_share_one)
{
	static struct tuplebind_slab *slabs[1000];
	unsigned made = 0, shared = 0;

	use_table(0);
	unsigned lanes = (unsigned)t.slab_count * 5 / 6;
	cr_assert_leq(lanes, 1000);
	for (unsigned lane = 0; lane < lanes; lane++) {
		uint64_t tag;

		slabs[made] = obtain(lane, 0, &tag);
		if (slabs[made] == NULL)
			continue;
		/* Something in it, or the next lane may have it. */
		atomic_store(&slabs[made]->claims[lane % 8], 1);
		for (unsigned i = 0; i < made; i++)
			shared += slabs[i] == slabs[made];
		made++;
	}
	cr_expect_eq(shared, 0);
	cr_expect_gt(made, lanes * 7 / 8, "%u of %u slabs could be had", made, lanes);
	for (unsigned lane = 0; lane < lanes; lane++)
		cr_assert_leq(fixture_slabs(&t, key_of(lane, 0), TUPLEBIND_SLAB_LIVE), 1);
}

Test(slab, an_empty_one_goes_to_another_lane)
{
	struct tuplebind_slab *first, *second;
	uint64_t tag;
	unsigned before;

	use_table(1);
	first = obtain(1, 0, &tag);
	cr_assert_not_null(first);
	before = generation_of(first);
	second = obtain(2, 0, &tag);
	cr_assert_eq(second, first);
	cr_expect_eq(generation_of(second), (before + 1) % 256);
	cr_expect_null(slab_find(&t, key_of(1, 0), &tag));
}

Test(slab, generations_wrap)
{
	struct tuplebind_slab *slab;
	uint64_t tag;
	unsigned before = 0;

	use_table(1);
	for (unsigned turn = 0; turn < 600; turn++) {
		slab = obtain(turn, 0, &tag);
		cr_assert_not_null(slab);
		if (turn > 0)
			cr_assert_eq(generation_of(slab), (before + 1) % 256);
		cr_assert_eq(tag & TUPLEBIND_TAG_FINGERPRINT, key_of(turn, 0).fingerprint);
		before = generation_of(slab);
	}
}

Test(slab, one_with_a_claim_stays)
{
	struct tuplebind_slab *slab;
	uint64_t tag;

	use_table(1);
	slab = obtain(1, 0, &tag);
	for (unsigned bit = 0; bit < TUPLEBIND_SLAB_PORTS; bit++) {
		atomic_store(&slab->claims[bit / 64], UINT64_C(1) << bit % 64);
		cr_assert_null(obtain(2, 0, &tag), "bit %u", bit);
		cr_assert_eq(atomic_load(&slab->claims[bit / 64]), UINT64_C(1) << bit % 64);
		atomic_store(&slab->claims[bit / 64], 0);
	}
	cr_expect_eq(slab_find(&t, key_of(1, 0), &tag), slab);
	cr_expect_eq(atomic_load(&slab->owner), 0);
	cr_expect_not_null(obtain(2, 0, &tag), "once empty it may be had");
}

/* Else two lanes could take it from each other for ever, each before the other claims in it. */
Test(slab, one_is_made_with_a_claim)
{
	struct tuplebind_lane lane = fixture_lane(1);
	struct slab_first first = {.bit = 130}, again = {.bit = 131};
	struct slab_key key;
	struct tuplebind_slab *slab;
	uint64_t tag;

	use_table(1);
	key = fixture_key(&t, &lane, 0);
	slab = slab_obtain(&t, &lane, key, 0, &first, &tag);
	cr_assert_not_null(slab);
	cr_expect_eq(first.claim, claim_make(&t, slab, tag, 130));
	cr_expect_eq(fixture_claims(&t), 1);
	cr_expect_null(obtain(2, 0, &tag), "it is not empty");
	cr_expect_eq(slab_obtain(&t, &lane, key, 0, &again, &tag), slab);
	cr_expect_eq(again.claim, CLAIM_NONE, "it was there already");
	cr_expect(claim_give_back(&t, first.claim));
	cr_expect_eq(fixture_claims(&t), 0);
}

Test(slab, no_room_is_told)
{
	struct tuplebind_lane lane = fixture_lane(2);
	uint64_t tag;
	claim c;

	use_table(1);
	atomic_store(&obtain(1, 0, &tag)->claims[0], 1);
	cr_expect_null(obtain(2, 0, &tag));
	cr_expect_eq(claim_take_port(&t, &lane, 1234, NULL, &c), -ENOSPC);
}

Test(slab, a_tentative_one_left_by_the_dead_is_settled)
{
	struct slab_key key;
	struct tuplebind_slab *left;
	uint64_t tag;

	use_table(64);
	key = key_of(1, 3);
	left = leave_state(key, 0, TUPLEBIND_SLAB_TENTATIVE);
	cr_expect_null(slab_find(&t, key, &tag), "not to be claimed in yet");
	cr_expect_eq(obtain(1, 3, &tag), left);
	expect_settled(key, left);
}

Test(slab, of_two_tentative_ones_the_first_is_kept)
{
	struct slab_key key;
	struct tuplebind_slab *first, *second;
	uint64_t tag;

	use_table(64);
	key = key_of(1, 3);
	first = leave_state(key, 0, TUPLEBIND_SLAB_TENTATIVE);
	leave_slab(key, 1, TUPLEBIND_SLAB_DEAD, 0, 0);
	second = leave_state(key, 2, TUPLEBIND_SLAB_TENTATIVE);
	cr_expect_eq(obtain(1, 3, &tag), first);
	cr_expect_eq(slab_state(tag_of(second)), TUPLEBIND_SLAB_DEAD);
	expect_settled(key, first);
}

Test(slab, a_live_one_wins_over_tentative_ones_before_and_after_it)
{
	struct slab_key key;
	struct tuplebind_slab *live;
	uint64_t tag;

	use_table(64);
	key = key_of(1, 3);
	leave_state(key, 0, TUPLEBIND_SLAB_TENTATIVE);
	live = leave_state(key, 1, TUPLEBIND_SLAB_LIVE);
	leave_state(key, 2, TUPLEBIND_SLAB_TENTATIVE);
	cr_expect_eq(obtain(1, 3, &tag), live);
	expect_settled(key, live);
}

Test(slab, tentative_ones_of_other_keys_are_left_alone)
{
	struct slab_key key;
	struct tuplebind_slab *other, *made;
	uint64_t tag;

	use_table(64);
	key = key_of(1, 3);
	other = leave_slab(key, 0, key_of(2, 0).fingerprint | TUPLEBIND_SLAB_TENTATIVE, 0, 1);
	made = obtain(1, 3, &tag);
	cr_assert_not_null(made);
	cr_expect_neq(made, other);
	cr_expect_eq(slab_state(tag_of(other)), TUPLEBIND_SLAB_TENTATIVE);
	expect_settled(key, made);
}

/* Steps 1 and 2, and dead: the whole slab is taken, and its tag still says FREE. */
Test(slab, a_free_one_taken_by_the_dead_no_longer_ends_the_way)
{
	struct slab_key key;
	struct tuplebind_slab *left, *made;
	uint64_t tag;

	use_table(64);
	key = key_of(1, 3);
	left = leave_slab(key, 0, TUPLEBIND_SLAB_FREE, fixture_dead_pid(), UINT64_MAX);
	made = obtain(1, 3, &tag);
	cr_assert_not_null(made);
	cr_expect_neq(made, left);
	cr_expect_eq(slab_state(tag_of(left)), TUPLEBIND_SLAB_DEAD);
	expect_settled(key, made);
}

Test(slab, every_stage_of_a_takeover_by_the_dead)
{
	const uint32_t dead = fixture_dead_pid();

	for (unsigned words = 0; words <= TUPLEBIND_SLAB_WORDS; words++) {
		for (unsigned state = TUPLEBIND_SLAB_FREE; state <= TUPLEBIND_SLAB_LIVE; state++) {
			uint64_t tag =
				state == TUPLEBIND_SLAB_FREE ? 0 : key_of(9, 9).fingerprint | state;
			struct tuplebind_slab *left, *made;

			use_table(64);
			left = leave_slab(key_of(1, 3), 0, tag, dead, 0);
			for (unsigned w = 0; w < words; w++)
				atomic_store(&left->claims[w], UINT64_MAX);
			made = obtain(1, 3, &tag);
			cr_assert_not_null(made);
			cr_assert_neq(made, left);
			expect_settled(key_of(1, 3), made);
			table_detach(&t);
		}
	}
}

/* Step 3 and dead: tentative, but all its bits are still the maker's. */
Test(slab, a_tentative_one_whose_maker_died_before_clearing_it)
{
	struct tuplebind_lane lane = fixture_lane(1);
	struct slab_key key;
	claim c;
	int got;

	use_table(64);
	key = key_of(1, 0);
	leave_slab(
		key, 0, key.fingerprint | TUPLEBIND_SLAB_TENTATIVE, fixture_dead_pid(), UINT64_MAX);
	/* Its 512 ports are out of use until reap; others of the lane are not. */
	got = claim_take_port(&t, &lane, permutation_port(&t.permutation, 0), NULL, &c);
	cr_expect_eq(got, -EADDRNOTAVAIL);
	got = claim_take_port(&t, &lane, permutation_port(&t.permutation, 512), NULL, &c);
	cr_expect_eq(got, 0);
	cr_expect_leq(fixture_slabs(&t, key, TUPLEBIND_SLAB_LIVE), 1);
}

Test(slab, the_owner_is_gone_after_a_recycling)
{
	uint64_t tag;

	use_table(1);
	for (unsigned lane = 0; lane < 10; lane++) {
		struct tuplebind_slab *slab = obtain(lane, 0, &tag);

		cr_assert_not_null(slab);
		cr_assert_eq(atomic_load(&slab->owner), 0);
		cr_assert_eq(fixture_claims(&t), 0);
	}
}

Test(slab, readers_are_told_of_live_ones_only)
{
	struct tuplebind_lane lane;
	struct tuplebind_slab slab = {.number = UINT64_MAX};
	unsigned number;

	for (unsigned state = 0; state <= TUPLEBIND_SLAB_STATE_MASK; state++) {
		atomic_store(&slab.tag, state | TUPLEBIND_TAG_ONE_GENERATION);
		cr_expect_eq(slab_read(&slab, &lane, &number), state == TUPLEBIND_SLAB_LIVE);
	}
	cr_expect_lt(number, TUPLEBIND_LANE_SLABS, "a number from the table is bounded");
}

/* Whatever is in the table: no crash, no hang, and no claim that cannot be given back. */
Test(slab, a_table_somebody_wrote_over)
{
	struct portorder *ports;
	struct claim_walk *walk = fixture_walk();
	uint64_t seed = 1;

	use_table(64);
	ports = fixture_order(&t, "1000-1100", NULL);
	for (unsigned round = 0; round < 200; round++) {
		unsigned keep = (unsigned)fixture_random(&seed) % 8;

		random_bytes(t.slabs, t.slab_count * sizeof *t.slabs);
		/* Some of the noise is made to look like what is looked for. */
		for (unsigned i = 0; i < keep; i++)
			leave_slab(key_of(1, i), 0,
				key_of(1, i).fingerprint | (fixture_random(&seed) & 0x3ff),
				(uint32_t)fixture_random(&seed) % 2, fixture_random(&seed));
		for (unsigned lane_number = 0; lane_number < 4; lane_number++) {
			struct tuplebind_lane lane = fixture_lane(lane_number);
			uint16_t port;
			claim c;

			if (claim_take(&t, &lane, ports, STAGE_LATE, walk, 0, &c, &port) == 0)
				cr_assert(claim_give_back(&t, c));
			claim_give_back(&t, fixture_random(&seed));
			claim_port(&t, fixture_random(&seed));
			claim_lane(&t, fixture_random(&seed), &lane);
		}
	}
}
