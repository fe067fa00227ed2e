/*
 * The order in which a table hands out ports.
 *
 * Positions 0..65535 are mapped one to one to ports by a Feistel network of eight
 * rounds over two bytes, whose round functions are 256 random bytes each, drawn when the
 * table was made. Walking positions one after another therefore gives ports that
 * cannot be guessed from the ports before (RFC 6056, section 3.3), and comes back to
 * a port only after all others.
 *
 * A Feistel network is a permutation whatever its round functions are (Luby and Rackoff,
 * 1988), so even rounds read from a scribbled-over table give each position
 * its own port. Both directions take eight dependent table look-ups, 25 instructions; inline,
 * so that those of several positions overlap.
 */
#pragma once

#include "tuplebind/table.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

static_assert(TUPLEBIND_ROUNDS % 2 == 0, "rounds are made in pairs");

struct permutation {
	uint8_t rounds[TUPLEBIND_ROUNDS][256];
};

static inline uint16_t permutation_port(const struct permutation *p, uint16_t position)
{
	size_t left = position >> 8, right = position & 0xff;

/* Two rounds at a time: then the halves are where they were. */
#pragma GCC unroll 4
	for (int round = 0; round < TUPLEBIND_ROUNDS; round += 2) {
		left ^= p->rounds[round][right];
		right ^= p->rounds[round + 1][left];
	}
	return (uint16_t)(left << 8 | right);
}

static inline uint16_t permutation_position(const struct permutation *p, uint16_t port)
{
	size_t left = port >> 8, right = port & 0xff;

#pragma GCC unroll 4
	for (int round = TUPLEBIND_ROUNDS - 2; round >= 0; round -= 2) {
		right ^= p->rounds[round + 1][left];
		left ^= p->rounds[round][right];
	}
	return (uint16_t)(left << 8 | right);
}
