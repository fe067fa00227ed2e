/*
 * Keyed hashing: the published vectors of SipHash do not fit the 1-3 variant, so it is
 * checked against a second, plain implementation for bytes, and for what it is used for.
 */
#include "base/hash.h"
#include "base/random.h"
#include "fixture.h"

#include <criterion/criterion.h>
#include <string.h>

static uint64_t rotl(uint64_t x, int b)
{
	return x << b | x >> (64 - b);
}

/* The round of the paper's figure 2.1, column by column. */
static void plain_round(uint64_t v[4])
{
	v[0] += v[1], v[2] += v[3];
	v[1] = rotl(v[1], 13), v[3] = rotl(v[3], 16);
	v[1] ^= v[0], v[3] ^= v[2];
	v[0] = rotl(v[0], 32);
	v[2] += v[1], v[0] += v[3];
	v[1] = rotl(v[1], 17), v[3] = rotl(v[3], 21);
	v[1] ^= v[2], v[3] ^= v[0];
	v[2] = rotl(v[2], 32);
}

/* SipHash-c-d of @length bytes; a whole number of words. */
static uint64_t plain_siphash(
	int c, int d, const uint64_t key[2], const uint8_t *bytes, size_t length)
{
	uint64_t v[4] = {key[0] ^ UINT64_C(0x736f6d6570736575),
		key[1] ^ UINT64_C(0x646f72616e646f6d), key[0] ^ UINT64_C(0x6c7967656e657261),
		key[1] ^ UINT64_C(0x7465646279746573)};

	for (size_t i = 0; i <= length; i += 8) {
		uint64_t m = i == length ? (uint64_t)length << 56 : 0;

		for (size_t b = 0; i < length && b < 8; b++)
			m |= (uint64_t)bytes[i + b] << (8 * b);
		v[3] ^= m;
		for (int r = 0; r < c; r++)
			plain_round(v);
		v[0] ^= m;
	}
	v[2] ^= 0xff;
	for (int r = 0; r < d; r++)
		plain_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static void count_up(uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)i;
}

Test(hash, the_plain_implementation_gives_the_published_vectors)
{
	uint8_t key_bytes[16], message[8];
	uint64_t key[2];

	count_up(key_bytes, sizeof key_bytes);
	count_up(message, sizeof message);
	memcpy(key, key_bytes, sizeof key);
	/* SipHash-2-4 of 0 and 8 bytes, from the authors' reference code. */
	cr_expect_eq(plain_siphash(2, 4, key, message, 0), UINT64_C(0x726fdb47dd0e0e31));
	cr_expect_eq(plain_siphash(2, 4, key, message, 8), UINT64_C(0x93f5f5799a932462));
}

Test(hash, is_siphash_1_3)
{
	uint64_t seed = 1;
	unsigned wrong = 0;

	for (int i = 0; i < 1000; i++) {
		struct hash_key key = {{fixture_random(&seed), fixture_random(&seed)}};
		uint64_t words[8];
		size_t count = fixture_random(&seed) % 9;

		for (size_t w = 0; w < count; w++)
			words[w] = fixture_random(&seed);
		wrong += hash_words(&key, words, count) !=
			 plain_siphash(1, 3, key.words, (uint8_t *)words, count * 8);
	}
	cr_assert_eq(wrong, 0);
}

Test(hash, every_bit_of_a_lane_counts)
{
	struct hash_key key = {{1, 2}};
	uint64_t words[5] = {0}, first = hash_words(&key, words, 5);
	unsigned same = 0;

	for (int bit = 0; bit < 5 * 64; bit++) {
		words[bit / 64] ^= UINT64_C(1) << bit % 64;
		same += hash_words(&key, words, 5) == first;
		words[bit / 64] ^= UINT64_C(1) << bit % 64;
	}
	cr_assert_eq(same, 0);
}

Test(hash, mix_has_an_inverse)
{
	/* x ^ x >> 33 undoes itself; the multipliers' inverses by Newton's iteration. */
	uint64_t seed = 3, a = UINT64_C(0xff51afd7ed558ccd), b = UINT64_C(0xc4ceb9fe1a85ec53);
	uint64_t ia = a, ib = b;
	unsigned wrong = 0;

	for (int i = 0; i < 6; i++) {
		ia *= 2 - a * ia;
		ib *= 2 - b * ib;
	}
	for (int i = 0; i < 100000; i++) {
		uint64_t x = fixture_random(&seed), y = hash_mix(x);

		y = (y ^ y >> 33) * ib;
		y = (y ^ y >> 33) * ia;
		wrong += (y ^ y >> 33) != x;
	}
	cr_assert_eq(wrong, 0);
}

Test(random, fills_exactly_what_is_asked_for)
{
	uint8_t bytes[300], zero[300] = {0};
	unsigned untouched = 0;

	for (size_t length = 0; length <= 256; length++) {
		memset(bytes, 0, sizeof bytes);
		random_bytes(bytes, length);
		cr_assert_arr_eq(bytes + length, zero, sizeof bytes - length);
		untouched += length >= 16 && memcmp(bytes, zero, length) == 0;
	}
	cr_assert_eq(untouched, 0);
}
