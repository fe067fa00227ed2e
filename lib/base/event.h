/*
 * Events in the log: one line each, key=value, so that they can be grepped and counted.
 *
 *     tuplebind[4711] warn: event=full pid=4711 fd=9 protocol=tcp foreign=10.0.0.9:80 reason="no
 * tuple left"
 *
 * The keys stand in the order in which they were put; values with blanks stand in quotes.
 * docs/log.md lists the events. Async-signal-safe.
 */
#pragma once

#include "base/log.h"

#include <stdatomic.h>

struct event {
	enum log_level level;
	struct text line;
};

/* event_begin() when the level is wanted. */
bool event_begin_wanted(struct event *e, enum log_level level, const char *name);

/* Begins the line of event @name. False when its level is not wanted: nothing more is to be done.
 */
static inline bool event_begin(struct event *e, enum log_level level, const char *name)
{
	return log_wants(level) && event_begin_wanted(e, level, name);
}

void event_text(struct event *e, const char *key, const char *value);
void event_number(struct event *e, const char *key, uint64_t value);
void event_addr(struct event *e, const char *key, const struct addr *a);
void event_endpoint(struct event *e, const char *key, const struct addr *a, uint16_t port);

/* "error=ECONNREFUSED"; nothing for 0. */
void event_error(struct event *e, int error);

/* Writes the line. */
void event_end(struct event *e);

/* An event that is told at most once a minute: one of these per kind, static. */
struct event_limit {
	_Atomic uint64_t next;	 /* CLOCK_MONOTONIC second from which it may be told again */
	_Atomic uint64_t untold; /* times since it was told */
};

/*
 * As event_begin(), and false when the event was told less than a minute ago; the line of the next
 * one says how often that was (untold=N).
 */
bool event_begin_limited(
	struct event *e, enum log_level level, const char *name, struct event_limit *limit);
