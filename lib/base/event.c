#include "base/event.h"

#include "base/aside.h"

#include <string.h>
#include <unistd.h>

#define LIMIT_SECONDS 60

/* Of the level debug, which has a line or more for every connect(). */
#define DEBUG_LINES 10000 /* a second */

/* The second, in the upper half, and how many lines there were in it; and those that were too many.
 */
static _Atomic uint64_t debug_lines, debug_untold;

static bool is_too_much(void)
{
	uint64_t second = aside_now() + 1, next;
	uint64_t lines = atomic_load_explicit(&debug_lines, memory_order_relaxed);

	do {
		next = lines >> 32 == second ? lines + 1 : second << 32 | 1;
	} while (!atomic_compare_exchange_weak_explicit(
		&debug_lines, &lines, next, memory_order_relaxed, memory_order_relaxed));
	return (uint32_t)next > DEBUG_LINES;
}

static void put_untold(struct event *e, _Atomic uint64_t *untold)
{
	uint64_t count = atomic_exchange_explicit(untold, 0, memory_order_relaxed);

	if (count != 0)
		event_number(e, "untold", count);
}

bool event_begin_wanted(struct event *e, enum log_level level, const char *name)
{
	if (level == LOG_DEBUG && is_too_much()) {
		atomic_fetch_add_explicit(&debug_untold, 1, memory_order_relaxed);
		return false;
	}
	e->level = level;
	text_clear(&e->line);
	text_put(&e->line, "event=");
	text_put(&e->line, name);
	event_number(e, "pid", (uint64_t)getpid());
	if (level == LOG_DEBUG)
		put_untold(e, &debug_untold);
	return true;
}

static void put_key(struct event *e, const char *key)
{
	text_put(&e->line, " ");
	text_put(&e->line, key);
	text_put(&e->line, "=");
}

void event_text(struct event *e, const char *key, const char *value)
{
	const char *quote = value[0] == '\0' || strchr(value, ' ') != NULL ? "\"" : "";

	put_key(e, key);
	text_put(&e->line, quote);
	text_put(&e->line, value);
	text_put(&e->line, quote);
}

void event_number(struct event *e, const char *key, uint64_t value)
{
	put_key(e, key);
	text_put_number(&e->line, value);
}

void event_addr(struct event *e, const char *key, const struct addr *a)
{
	put_key(e, key);
	text_put_addr(&e->line, a);
}

void event_endpoint(struct event *e, const char *key, const struct addr *a, uint16_t port)
{
	put_key(e, key);
	text_put_endpoint(&e->line, a, port);
}

void event_error(struct event *e, int error)
{
	const char *name = error != 0 ? strerrorname_np(error) : NULL;

	if (name != NULL)
		event_text(e, "error", name);
	else if (error != 0)
		event_number(e, "error", (uint64_t)error);
}

void event_end(struct event *e)
{
	log_text(e->level, &e->line);
}

bool event_begin_limited(
	struct event *e, enum log_level level, const char *name, struct event_limit *limit)
{
	uint64_t now = aside_now(), next = atomic_load_explicit(&limit->next, memory_order_relaxed);

	if (!log_wants(level))
		return false;
	/* One of several threads that come here at once tells it. */
	if (now < next ||
		!atomic_compare_exchange_strong_explicit(&limit->next, &next, now + LIMIT_SECONDS,
			memory_order_relaxed, memory_order_relaxed)) {
		atomic_fetch_add_explicit(&limit->untold, 1, memory_order_relaxed);
		return false;
	}
	event_begin(e, level, name);
	put_untold(e, &limit->untold);
	return true;
}
