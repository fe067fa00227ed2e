#include "table/permutation.h"

uint16_t permutation_port(const struct permutation *p, uint16_t position)
{
	uint8_t left = (uint8_t)(position >> 8), right = (uint8_t)position;

	for (int round = 0; round < TUPLEBIND_ROUNDS; round++) {
		uint8_t next = left ^ p->rounds[round][right];

		left = right;
		right = next;
	}
	return (uint16_t)(left << 8 | right);
}

uint16_t permutation_position(const struct permutation *p, uint16_t port)
{
	uint8_t left = (uint8_t)(port >> 8), right = (uint8_t)port;

	for (int round = TUPLEBIND_ROUNDS - 1; round >= 0; round--) {
		uint8_t previous = right ^ p->rounds[round][left];

		right = left;
		left = previous;
	}
	return (uint16_t)(left << 8 | right);
}
