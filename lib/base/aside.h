/*
 * A short memory for things to leave alone for some seconds.
 *
 * Remembers hashes in a table of fixed size; a newer one may push out an older one, and two
 * of the same place and upper half are taken for one. Good for hints. Lock-free,
 * async-signal-safe, O(1); all zero is empty.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define ASIDE_PLACES 1024

struct aside {
	_Atomic uint64_t places[ASIDE_PLACES]; /* upper half of the hash, lower: second until */
};

void aside_put(struct aside *a, uint64_t hash, unsigned seconds);
bool aside_has(const struct aside *a, uint64_t hash);

/* CLOCK_MONOTONIC in seconds, read without a system call. */
uint64_t aside_now(void);
