/*
 * What the tests share: tables too small to be comfortable, lanes by number, sets of
 * ports that lie where a test wants them, and a scratch file for what is written.
 *
 * Nothing here knows of Criterion, so that the stress program uses it as well. What a
 * test cannot go on without ends the process with a line on stderr.
 */
#pragma once

#include "table/claim.h"
#include "table/table.h"

#include <stdio.h>

/* Ends the process when @good is false: for what every test rests on. */
void fixture_need(bool good, const char *what);

/*
 * A private table of which only the first @slabs slabs are used (0: all). The smallest
 * table there is holds some hundred slabs, too many for a test to fill in a hurry.
 */
void fixture_table(struct table *t, uint64_t slabs);

/* Lane number @n; lanes of different numbers differ in one field or another. */
struct tuplebind_lane fixture_lane(unsigned n);

/* The key of slab @number of @lane. */
struct slab_key fixture_key(
	const struct table *t, const struct tuplebind_lane *lane, unsigned number);

/* slab_obtain(), and gives back the claim that the slab was made with: it is empty. */
struct tuplebind_slab *fixture_obtain(
	struct table *t, struct tuplebind_lane lane, unsigned number, uint64_t *tag);

/* Adds the ports of the first @count positions of slab @number to @s. */
void fixture_positions(struct portset *s, const struct table *t, unsigned number, unsigned count);

/* The ports of a list as TUPLEBIND_PORTS has it; NULL: none. */
struct portset fixture_ports(const char *list);

/* Makes an order of ports out of two such lists. */
struct portorder *fixture_order(
	const struct table *t, const char *late, const char *explicit_ports);

/* The same of a set, all of it for late bind. The order lasts as long as the process. */
struct portorder *fixture_order_of(const struct table *t, const struct portset *late);

/* A walk that has been started; lasts as long as the process. */
struct claim_walk *fixture_walk(void);

/* How many bits are set in all slabs, and how many slabs of @key are in @state. */
unsigned fixture_claims(const struct table *t);
unsigned fixture_slabs(const struct table *t, struct slab_key key, enum tuplebind_slab_state state);

/* Memory that forked children share with the test, all zero. */
void *fixture_shared(size_t size);

/*
 * A TCP connection over loopback, as the lane and the port that its client has.
 */
struct fixture_connection {
	int listener, client, server;
	struct tuplebind_lane lane;
	uint16_t lport;
};

void fixture_connect(struct fixture_connection *c);

/* Ends it without TIME_WAIT; makes it again, with the same tuple. Both are async-signal-safe. */
void fixture_disconnect(struct fixture_connection *c);
void fixture_reconnect(struct fixture_connection *c);

/* refuse_call() of tests/helpers/refusal.h, which has to succeed. */
void fixture_refuse(int number, int argument, uint32_t value, int error);

/* Repeatable pseudo-random numbers. */
uint64_t fixture_random(uint64_t *state);

/* A process id that no living process has. */
uint32_t fixture_dead_pid(void);

/* A descriptor of a file without a name, and all that was written to it, NUL-terminated. */
int fixture_scratch(void);
const char *fixture_contents(int fd);

/* Sets TUPLEBIND_@name, or unsets it when @value is NULL. */
void fixture_variable(const char *name, const char *value);

/* Unsets everything of tuplebind's, so that the caller's environment decides nothing. */
void fixture_clean_environment(void);
