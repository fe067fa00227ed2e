#include "choose/outage.h"

#define TOLD_SECONDS 600 /* without being met */
#define TOLD_LINES   10	 /* a minute; a pool may have thousands of addresses */

static void extend(_Atomic uint64_t *until, unsigned seconds)
{
	atomic_store_explicit(until, aside_now() + seconds, memory_order_relaxed);
}

static bool is_past(const _Atomic uint64_t *until)
{
	return aside_now() >= atomic_load_explicit(until, memory_order_relaxed);
}

void outage_put(struct outages *o, uint64_t hash)
{
	aside_put(&o->aside, hash, OUTAGE_SECONDS);
	extend(&o->aside_until, OUTAGE_SECONDS);
}

bool outage_any(const struct outages *o)
{
	return !is_past(&o->aside_until);
}

bool outage_has(const struct outages *o, uint64_t hash)
{
	return aside_has(&o->aside, hash);
}

static bool may_tell(struct outages *o)
{
	uint64_t minute = aside_now() / 60 + 1, next;
	uint64_t lines = atomic_load_explicit(&o->lines, memory_order_relaxed);

	do {
		next = lines >> 8 == minute ? lines + 1 : minute << 8 | 1;
		if ((next & 0xff) > TOLD_LINES)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&o->lines, &lines, next, memory_order_relaxed, memory_order_relaxed));
	return true;
}

bool outage_begins(struct outages *o, uint64_t hash)
{
	bool told = aside_has(&o->told, hash);

	/* It is told as long as it goes on, since it is met again every few seconds. */
	aside_put(&o->told, hash, TOLD_SECONDS);
	extend(&o->told_until, TOLD_SECONDS);
	return !told && may_tell(o);
}

bool outage_any_told(const struct outages *o)
{
	return !is_past(&o->told_until);
}

bool outage_ends(struct outages *o, uint64_t hash)
{
	if (!aside_has(&o->told, hash))
		return false;
	aside_put(&o->told, hash, 0);
	return may_tell(o);
}
