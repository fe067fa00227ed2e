/*
 * A remembered hash is the lane's own, whoever has used its place meanwhile.
 */
#include "fixture.h"
#include "table/lanehash.h"

#include <criterion/criterion.h>
#include <pthread.h>

static struct table t;
static struct lane_hashes hashes;

static void setup(void)
{
	fixture_table(&t, 1);
}

TestSuite(lanehash, .init = setup);

static bool is_right(unsigned n)
{
	struct tuplebind_lane lane = fixture_lane(n);

	return lane_hash_get(&hashes, &t, &lane) == slab_lane_hash(&t, &lane);
}

Test(lanehash, of_lanes_that_share_places)
{
	uint64_t state = 1;

	for (int i = 0; i < 100000; i++)
		cr_assert(is_right((unsigned)(fixture_random(&state) % 300)));
}

Test(lanehash, of_lanes_that_differ_in_one_byte)
{
	struct tuplebind_lane lane = fixture_lane(1);
	uint8_t *bytes = (uint8_t *)&lane;

	for (unsigned i = 0; i < sizeof lane; i++) {
		uint64_t was = lane_hash_get(&hashes, &t, &lane);

		bytes[i] ^= 1;
		cr_expect_neq(lane_hash_get(&hashes, &t, &lane), was, "byte %u", i);
		bytes[i] ^= 1;
		cr_expect_eq(lane_hash_get(&hashes, &t, &lane), was, "byte %u", i);
	}
}

Test(lanehash, the_first_one_is_not_found_where_nothing_is)
{
	struct tuplebind_lane nothing = {.fport = 0};

	cr_expect_eq(lane_hash_get(&hashes, &t, &nothing), slab_lane_hash(&t, &nothing));
}

Test(lanehash, is_remembered)
{
	struct tuplebind_lane lane = fixture_lane(1);
	uint64_t was = lane_hash_get(&hashes, &t, &lane);

	/* With another key a hash that is taken anew would be another one. */
	t.key.words[0]++;
	cr_expect_eq(lane_hash_get(&hashes, &t, &lane), was);
}

Test(lanehash, while_it_is_written_nobody_waits)
{
	struct tuplebind_lane lane = fixture_lane(1);

	lane_hash_get(&hashes, &t, &lane);
	/* As a writer leaves it that is stopped, or was left by longjmp(). */
	for (unsigned i = 0; i < LANE_HASH_PLACES; i++)
		atomic_fetch_or(&hashes.places[i].sequence, 1), hashes.places[i].hash++;
	for (unsigned n = 0; n < 200; n++)
		cr_expect(is_right(n));
}

static void *ask(void *seed)
{
	uint64_t state = (uint64_t)(uintptr_t)seed, wrong = 0;

	for (int i = 0; i < 200000; i++)
		wrong += !is_right((unsigned)(fixture_random(&state) % 300));
	return (void *)(uintptr_t)wrong;
}

Test(lanehash, of_threads_that_share_places)
{
	pthread_t threads[4];
	void *wrong;

	for (uintptr_t i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, ask, (void *)(i + 1)), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &wrong);
		cr_expect_eq((uintptr_t)wrong, 0);
	}
}
