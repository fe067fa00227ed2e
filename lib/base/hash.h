/*
 * Keyed hashing of lanes and destinations.
 *
 * SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, with
 * one compression and three finalization rounds): destinations are often chosen
 * by others (a crawler's links), so an unkeyed hash would let them fill one corner of
 * the table.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct hash_key {
	uint64_t words[2];
};

/* Hashes @count 64-bit words. O(count), about 20 ns for a lane's five. */
uint64_t hash_words(const struct hash_key *key, const uint64_t *words, size_t count);

/* A bijection of 64-bit numbers in which every bit of the input changes half of the output. */
static inline uint64_t hash_mix(uint64_t x)
{
	/* Constants of MurmurHash3's 64-bit finalizer (Appleby). */
	x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
	x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}
