/*
 * Two other ways for processes to share the free ports of one lane, for the table to be measured
 * against. Both live in shared memory, both know nothing of lanes: one object is one lane.
 */
#pragma once

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RIVAL_PORTS 65536

/*
 * A ring of free ports, lock-free, as HAProxy keeps one for each source address: the head gives,
 * the tail takes back. Who takes back first reserves a place and then waits for those before it
 * to have filled theirs.
 */
struct ring {
	alignas(64) _Atomic uint32_t get;
	alignas(64) _Atomic uint32_t reserved;
	alignas(64) _Atomic uint32_t filled;
	alignas(64) _Atomic uint16_t ports[RIVAL_PORTS];
};

static inline void ring_give(struct ring *r, uint16_t port)
{
	uint32_t place = atomic_fetch_add_explicit(&r->reserved, 1, memory_order_relaxed);

	atomic_store_explicit(&r->ports[place % RIVAL_PORTS], port, memory_order_relaxed);
	while (atomic_load_explicit(&r->filled, memory_order_acquire) != place)
		;
	atomic_store_explicit(&r->filled, place + 1, memory_order_release);
}

/* 0: none is free. */
static inline uint16_t ring_take(struct ring *r)
{
	uint32_t place = atomic_load_explicit(&r->get, memory_order_relaxed);
	uint16_t port;

	do {
		if (place == atomic_load_explicit(&r->filled, memory_order_acquire))
			return 0;
		port = atomic_load_explicit(&r->ports[place % RIVAL_PORTS], memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(
		&r->get, &place, place + 1, memory_order_acq_rel, memory_order_relaxed));
	return port;
}

/* A bitmap of taken ports under a mutex; the search goes on where the last one ended. */
struct bitmap {
	pthread_mutex_t mutex;
	uint32_t next;
	uint64_t taken[RIVAL_PORTS / 64];
};

static inline void bitmap_start(struct bitmap *b)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&b->mutex, &attributes);
	for (unsigned i = 0; i < RIVAL_PORTS / 64; i++)
		b->taken[i] = UINT64_MAX;
}

static inline void bitmap_give(struct bitmap *b, uint16_t port)
{
	pthread_mutex_lock(&b->mutex);
	b->taken[port / 64] &= ~(UINT64_C(1) << (port % 64));
	pthread_mutex_unlock(&b->mutex);
}

/* 0: none is free. */
static inline uint16_t bitmap_take(struct bitmap *b)
{
	uint16_t port = 0;

	pthread_mutex_lock(&b->mutex);
	for (uint32_t visit = 0; visit <= RIVAL_PORTS / 64 && port == 0; visit++) {
		uint32_t w = (b->next / 64 + visit) % (RIVAL_PORTS / 64);
		uint64_t free = ~b->taken[w];

		if (visit == 0)
			free &= UINT64_MAX << (b->next % 64);
		if (free == 0)
			continue;
		port = (uint16_t)(w * 64 + (uint32_t)__builtin_ctzll(free));
		b->taken[w] |= UINT64_C(1) << (port % 64);
		b->next = (port + 1u) % RIVAL_PORTS;
	}
	pthread_mutex_unlock(&b->mutex);
	return port;
}
