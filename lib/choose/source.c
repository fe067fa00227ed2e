#include "choose/source.h"

#include "base/random.h"
#include "kernel/route.h"

#include <errno.h>

#include <string.h>

#define ROUTE_SECONDS 1
#define ASIDE_SECONDS 5

/* A pool too large to be tried through is tried this far. */
#define WALK_MAX 65536

void source_start(struct source_memory *m, uint64_t turn)
{
	random_bytes(&m->key, sizeof m->key);
	atomic_store_explicit(&m->turn, turn, memory_order_relaxed);
}

static uint64_t hash_addr(const struct source_memory *m, const struct addr *a)
{
	uint64_t words[3] = {0, 0, a->scope};

	memcpy(words, a->bytes, sizeof a->bytes);
	return hash_words(&m->key, words, 3);
}

struct route_copy {
	uint64_t sequence;
	struct addr faddr, laddr;
	uint64_t expiry;
};

/* False: nothing remembered, or somebody is writing. */
static bool route_read(struct source_route *r, struct route_copy *copy)
{
	uint64_t words[6];

	copy->sequence = atomic_load_explicit(&r->sequence, memory_order_acquire);
	for (int i = 0; i < 6; i++)
		words[i] = atomic_load_explicit(&r->words[i], memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	memcpy(copy->faddr.bytes, words, 16);
	memcpy(copy->laddr.bytes, words + 2, 16);
	copy->faddr.scope = (uint32_t)words[4];
	copy->laddr.scope = (uint32_t)(words[4] >> 32);
	copy->expiry = words[5];
	return copy->sequence != 0 && copy->sequence % 2 == 0 &&
	       atomic_load_explicit(&r->sequence, memory_order_relaxed) == copy->sequence;
}

/* Writes unless somebody else has since @sequence was read: then theirs is as new. */
static void route_write(struct source_route *r, uint64_t sequence, const struct route_copy *copy)
{
	uint64_t words[6];

	if (sequence % 2 != 0 || !atomic_compare_exchange_strong_explicit(&r->sequence, &sequence,
					 sequence + 1, memory_order_acquire, memory_order_relaxed))
		return;
	atomic_thread_fence(memory_order_release);
	memcpy(words, copy->faddr.bytes, 16);
	memcpy(words + 2, copy->laddr.bytes, 16);
	words[4] = copy->faddr.scope | (uint64_t)copy->laddr.scope << 32;
	words[5] = copy->expiry;
	for (int i = 0; i < 6; i++)
		atomic_store_explicit(&r->words[i], words[i], memory_order_relaxed);
	atomic_store_explicit(&r->sequence, sequence + 2, memory_order_release);
}

static struct source_route *route_of(struct source_memory *m, const struct addr *faddr)
{
	return &m->routes[hash_addr(m, faddr) % SOURCE_ROUTES];
}

static bool automatic_source(struct source_memory *m, const struct addr *faddr, struct addr *laddr)
{
	struct source_route *r = route_of(m, faddr);
	struct route_copy copy;
	uint64_t now = aside_now();
	bool known = route_read(r, &copy) && addr_equal(&copy.faddr, faddr);

	if (known && now < copy.expiry) {
		*laddr = copy.laddr;
		return true;
	}
	int error = route_source(faddr, laddr);
	if (error < 0) {
		/* No descriptor left to ask with: what was right a while ago is the best guess. */
		if (known && copy.expiry != 0 && (error == -EMFILE || error == -ENFILE)) {
			*laddr = copy.laddr;
			return true;
		}
		return false;
	}
	copy.faddr = *faddr;
	copy.laddr = *laddr;
	copy.expiry = now + ROUTE_SECONDS;
	route_write(r, copy.sequence, &copy);
	return true;
}

void source_walk_start(struct source_walk *w, struct source_memory *m, const struct rule *r,
	enum balance balance, const struct addr *faddr)
{
	*w = (struct source_walk){.memory = m, .pool = &r->pool, .faddr = *faddr};
	w->count = pool_count(&r->pool, faddr);
	w->automatic = w->count == 0;
	if (w->automatic) {
		w->left = 1;
		return;
	}
	w->left = w->count < WALK_MAX ? w->count : WALK_MAX;
	switch (balance) {
	case BALANCE_ROTATE:
		w->next = atomic_fetch_add_explicit(&m->turn, 1, memory_order_relaxed) % w->count;
		break;
	case BALANCE_RANDOM:
		w->next = hash_mix(m->key.words[0] +
				   atomic_fetch_add_explicit(&m->turn, 1, memory_order_relaxed)) %
			  w->count;
		break;
	case BALANCE_HASH: {
		/* Not the process's key: all processes are to agree. */
		static const struct hash_key common;
		uint64_t words[2];

		memcpy(words, faddr->bytes, sizeof words);
		w->next = hash_words(&common, words, 2) % w->count;
		break;
	}
	case BALANCE_PACK:
		break;
	}
}

bool source_walk_next(struct source_walk *w, struct addr *laddr)
{
	while (w->left > 0) {
		w->left--;
		if (w->automatic)
			return automatic_source(w->memory, &w->faddr, laddr);
		*laddr = pool_at(w->pool, &w->faddr, w->next);
		w->next = w->next + 1 == w->count ? 0 : w->next + 1;
		if (!aside_has(&w->memory->aside, hash_addr(w->memory, laddr)))
			return true;
	}
	return false;
}

void source_walk_failed(struct source_walk *w, const struct addr *laddr)
{
	if (!w->automatic) {
		aside_put(&w->memory->aside, hash_addr(w->memory, laddr), ASIDE_SECONDS);
		return;
	}
	/* The remembered route is wrong: ask again next time. */
	struct source_route *r = route_of(w->memory, &w->faddr);
	struct route_copy copy;

	if (route_read(r, &copy)) {
		copy.expiry = 0;
		route_write(r, copy.sequence, &copy);
	}
}
