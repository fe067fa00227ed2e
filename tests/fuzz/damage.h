/*
 * A table that is always the same, with some claims in it, and what an input makes of it. Of the
 * processes that it names those of even numbers live (kill(2) is replaced), and the fuzzer itself.
 */
#pragma once

#include "fuzz.h"

#include "table/claim.h"

/* The smallest table there is. */
#define DAMAGE_SIZE TABLE_SIZE_MIN
#define DAMAGE_SLABS                                                                               \
	((DAMAGE_SIZE - sizeof(struct tuplebind_header)) / sizeof(struct tuplebind_slab))

/* The namespace that the table is of. */
extern const struct netns damage_netns;

/*
 * A file that holds the table: DAMAGE_SIZE bytes, DAMAGE_LANES lanes with DAMAGE_CLAIMS claims
 * together. Returned is a mapping that is shared with it; *fd is its descriptor.
 */
#define DAMAGE_LANES	  6
#define DAMAGE_CLAIMS	  51
#define DAMAGE_CLAIMS_UDP 30 /* of these */
void *damage_file(int *fd);

/* Lane number @n; those below DAMAGE_LANES are in the table. */
struct tuplebind_lane damage_lane(unsigned n);

/* Makes the file's bytes those of the sound table again. */
void damage_undo(void *memory);

/* The ports of the sound table's claims, and a set that holds more. */
extern struct portset damage_ports;

/*
 * Takes one step of damage off the input: a word at any place, one of a field that matters with a
 * value that matters, or a slab in another one's place.
 */
void damage_do(void *memory, struct input *in);
