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

#include <stdint.h>

struct permutation {
	uint8_t rounds[TUPLEBIND_ROUNDS][256];
};

static inline uint16_t permutation_port(const struct permutation *p, uint16_t position)
{
	uint8_t left = (uint8_t)(position >> 8), right = (uint8_t)position;

/* Unrolled, the halves need not change places. */
#pragma GCC unroll 8
	for (int round = 0; round < TUPLEBIND_ROUNDS; round++) {
		uint8_t next = left ^ p->rounds[round][right];

		left = right;
		right = next;
	}
	return (uint16_t)(left << 8 | right);
}

static inline uint16_t permutation_position(const struct permutation *p, uint16_t port)
{
	uint8_t left = (uint8_t)(port >> 8), right = (uint8_t)port;

#pragma GCC unroll 8
	for (int round = TUPLEBIND_ROUNDS - 1; round >= 0; round--) {
		uint8_t previous = right ^ p->rounds[round][left];

		right = left;
		left = previous;
	}
	return (uint16_t)(left << 8 | right);
}
