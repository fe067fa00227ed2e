#include "choose/source.h"

#include "base/event.h"
#include "base/random.h"
#include "choose/interface.h"
#include "kernel/route.h"

#include <errno.h>
#include <string.h>

#define ROUTE_SECONDS 1
#define PEER_SECONDS  60

/* Beside a peer's port: it was not the only one. */
#define SEVERAL (UINT32_C(1) << 16)

/* A pool too large to be tried through is tried this far. */
#define WALK_MAX 65536

/* Pools of balance hash up to this size keep their destinations when addresses come and go. */
#define FAVOURITE_MAX 1024

/* Places of m->turns[] among which a destination has the choice. */
#define TURN_WAYS 4

/* Draws until an address is met that is not set aside. */
#define DRAWS 16

/*
 * A part this large is not tried address by address when some cannot be bound: the next is drawn
 * from all of it, and after so many in a row the whole part counts as missing.
 */
#define PART_LARGE  1024
#define PART_MISSES 64

void source_start(struct source_memory *m, uint64_t turn)
{
	random_bytes(&m->key, sizeof m->key);
	atomic_store_explicit(&m->first_turn, turn, memory_order_relaxed);
	atomic_store_explicit(&m->turn, 0, memory_order_relaxed);
	for (unsigned i = 0; i < SOURCE_TURNS; i++)
		atomic_store_explicit(&m->turns[i], 0, memory_order_relaxed);
	interface_forked();
}

/* For what only this process remembers a quick hash will do: a collision costs a question. */
static inline uint64_t hash_addr(const struct source_memory *m, const struct addr *a)
{
	uint64_t words[2];

	memcpy(words, a->bytes, sizeof a->bytes);
	return hash_mix(words[1] + hash_mix(words[0] + hash_mix(m->key.words[0] + a->scope)));
}

/* Of an address with a destination. */
static uint64_t hash_pair(
	const struct source_memory *m, const struct addr *a, const struct addr *to)
{
	return hash_mix(hash_addr(m, a)) ^ hash_addr(m, to);
}

/* Of a part of a pool, as a whole. */
static uint64_t hash_part(const struct source_memory *m, const struct pool_part *part)
{
	return hash_words(&m->key, &(uint64_t){(uint64_t)(uintptr_t)part}, 1);
}

struct route_copy {
	uint64_t sequence;
	struct addr faddr, laddr;
	uint64_t expiry;
	uint64_t service; /* of the foreign end: service_of() */
};

/* Protocol and foreign port in one word. */
static uint64_t service_of(uint8_t protocol, uint16_t fport)
{
	return (uint64_t)protocol << 16 | fport;
}

/* False: nothing remembered, or somebody is writing. */
static inline bool route_read(struct source_route *r, struct route_copy *copy)
{
	uint64_t words[7] = {0};

	copy->sequence = atomic_load_explicit(&r->sequence, memory_order_acquire);
#pragma GCC unroll 7
	for (int i = 0; i < 7; i++)
		words[i] = atomic_load_explicit(&r->words[i], memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	memcpy(copy->faddr.bytes, words, 16);
	memcpy(copy->laddr.bytes, words + 2, 16);
	copy->faddr.scope = (uint32_t)words[4];
	copy->laddr.scope = (uint32_t)(words[4] >> 32);
	copy->expiry = words[5];
	copy->service = words[6];
	return copy->sequence != 0 && copy->sequence % 2 == 0 &&
	       atomic_load_explicit(&r->sequence, memory_order_relaxed) == copy->sequence;
}

/* Writes unless somebody else has since @sequence was read: then theirs is as new. */
static void route_write(struct source_route *r, uint64_t sequence, const struct route_copy *copy)
{
	uint64_t words[7];

	if (sequence % 2 != 0 || !atomic_compare_exchange_strong_explicit(&r->sequence, &sequence,
					 sequence + 1, memory_order_acquire, memory_order_relaxed))
		return;
	atomic_thread_fence(memory_order_release);
	memcpy(words, copy->faddr.bytes, 16);
	memcpy(words + 2, copy->laddr.bytes, 16);
	words[4] = copy->faddr.scope | (uint64_t)copy->laddr.scope << 32;
	words[5] = copy->expiry;
	words[6] = copy->service;
	for (int i = 0; i < 7; i++)
		atomic_store_explicit(&r->words[i], words[i], memory_order_relaxed);
	atomic_store_explicit(&r->sequence, sequence + 2, memory_order_release);
}

static struct source_route *route_of(
	struct source_memory *m, const struct addr *faddr, uint64_t service)
{
	return &m->routes[(hash_addr(m, faddr) ^ hash_mix(service)) % SOURCE_ROUTES];
}

static bool automatic_source(struct source_memory *m, const struct addr *faddr, uint8_t protocol,
	uint16_t fport, struct addr *laddr)
{
	uint64_t service = service_of(protocol, fport);
	struct source_route *r = route_of(m, faddr, service);
	struct route_copy copy;
	uint64_t now = aside_now();
	bool known =
		route_read(r, &copy) && addr_equal(&copy.faddr, faddr) && copy.service == service;

	if (known && now < copy.expiry) {
		*laddr = copy.laddr;
		return true;
	}
	int error = route_source(faddr, protocol, fport, laddr);
	if (error < 0) {
		/* No descriptor left to ask with: what was right a while ago is the best guess. */
		if (known && copy.expiry != 0 && (error == -EMFILE || error == -ENFILE)) {
			*laddr = copy.laddr;
			return true;
		}
		return false;
	}
	copy.faddr = *faddr;
	copy.service = service;
	copy.laddr = *laddr;
	copy.expiry = now + ROUTE_SECONDS;
	route_write(r, copy.sequence, &copy);
	return true;
}

void source_learn(struct source_memory *m, const struct addr *faddr, uint8_t protocol,
	uint16_t fport, const struct addr *laddr)
{
	uint64_t service = service_of(protocol, fport);
	struct source_route *r = route_of(m, faddr, service);
	struct route_copy copy;

	route_read(r, &copy);
	copy.faddr = *faddr;
	copy.service = service;
	copy.laddr = *laddr;
	copy.expiry = aside_now() + ROUTE_SECONDS;
	route_write(r, copy.sequence, &copy);
}

/* Addresses with their ports where the scopes are. */
static struct addr with_port(const struct addr *a, uint16_t port)
{
	struct addr with = *a;

	with.scope = port;
	return with;
}

void source_learn_peer(struct source_memory *m, const struct addr *asked, uint16_t asked_port,
	const struct addr *peer, uint16_t fport)
{
	struct route_copy copy;
	struct addr from = with_port(asked, asked_port);
	struct source_route *r = &m->peers[hash_addr(m, &from) % SOURCE_PEERS];

	struct addr before, came_to = with_port(peer, fport);
	bool known =
		route_read(r, &copy) && addr_equal(&copy.faddr, &from) && aside_now() < copy.expiry;
	before = copy.laddr;
	if (known && (before.scope & SEVERAL || !addr_equal(&before, &came_to)))
		came_to.scope |= SEVERAL;
	copy.faddr = from;
	copy.laddr = came_to;
	copy.expiry = aside_now() + PEER_SECONDS;
	route_write(r, copy.sequence, &copy);
	atomic_store_explicit(&m->peers_until, copy.expiry, memory_order_relaxed);
}

bool source_knows_peers(const struct source_memory *m)
{
	return aside_now() < atomic_load_explicit(&m->peers_until, memory_order_relaxed);
}

bool source_peer(struct source_memory *m, const struct addr *asked, uint16_t asked_port,
	struct addr *peer, uint16_t *fport, bool *several)
{
	struct route_copy copy;

	/* On most hosts none ever is. */
	if (!source_knows_peers(m))
		return false;
	struct addr from = with_port(asked, asked_port);
	struct source_route *r = &m->peers[hash_addr(m, &from) % SOURCE_PEERS];
	if (!route_read(r, &copy) || !addr_equal(&copy.faddr, &from) || aside_now() >= copy.expiry)
		return false;
	*fport = (uint16_t)copy.laddr.scope;
	uint32_t scope = asked->scope; /* they may be the same */
	*several = copy.laddr.scope & SEVERAL;
	*peer = copy.laddr;
	/* A scope is one of the link, which is the asked one's. */
	peer->scope = addr_reach(peer) == ADDR_LINK ? scope : 0;
	return true;
}

/* A new number for every call. */
static uint64_t next_turn(struct source_memory *m)
{
	return atomic_fetch_add_explicit(&m->turn, 1, memory_order_relaxed);
}

static uint64_t draw(struct source_memory *m, uint64_t count)
{
	return hash_mix(m->key.words[0] + next_turn(m)) % count;
}

/*
 * The turn of a destination that is new or forgotten: that of the process, of which every lap
 * through the pool begins at another address. Destinations that come by in a fixed order, too many
 * to be remembered, would each meet the same address again and again otherwise.
 */
static uint64_t common_turn(struct source_memory *m, uint64_t count)
{
	uint64_t turn = next_turn(m), lap = turn / count;

	return atomic_load_explicit(&m->first_turn, memory_order_relaxed) + turn +
	       (lap != 0 ? hash_mix(m->key.words[1] + lap) % count : 0);
}

/*
 * The turn of a destination: one more than its last one. So every destination sees the addresses in
 * turn, and programs that connect once to each of many spread evenly as well. (One turn for all was
 * not enough: of two destinations met alternately each would see every second address only.)
 */
static uint64_t turn_of(struct source_memory *m, uint64_t destination, uint64_t count)
{
	_Atomic uint64_t *places = &m->turns[destination % (SOURCE_TURNS / TURN_WAYS) * TURN_WAYS];
	unsigned taken = 0;
	uint64_t turn;

	for (; taken < TURN_WAYS; taken++) {
		turn = atomic_load_explicit(&places[taken], memory_order_relaxed);
		if (turn == 0)
			break;
		if (turn >> 32 != destination >> 32)
			continue;
		turn = atomic_fetch_add_explicit(&places[taken], 1, memory_order_relaxed);
		/* Or another destination has taken the place in between. */
		if (turn >> 32 == destination >> 32)
			return (uint32_t)turn;
	}
	turn = common_turn(m, count);
	if (taken == TURN_WAYS)
		taken = (unsigned)(turn % TURN_WAYS);
	atomic_store_explicit(&places[taken], destination >> 32 << 32 | (uint32_t)(turn + 1),
		memory_order_relaxed);
	return turn;
}

static bool is_aside(const struct source_walk *w, const struct addr *a)
{
	const struct source_memory *m = w->memory;

	return outage_any(&m->outages) &&
	       (outage_has(&m->outages, hash_addr(m, a)) ||
		       outage_has(&m->outages, hash_pair(m, a, &w->faddr)));
}

static bool is_usable(void *walk, const struct addr *a)
{
	return !is_aside(walk, a);
}

/* Whether address number @index is there and not set aside. */
static bool can_begin(const struct source_walk *w, uint64_t index)
{
	struct pool_place place;

	return pool_at(w->pool, &w->faddr, index, &place) && !is_aside(w, &place.addr);
}

/*
 * Where to begin. Addresses that are set aside are left out here already: were they left out on the
 * way, the next ones would have their share as well as their own.
 */
static uint64_t begin(struct source_walk *w, uint16_t fport)
{
	uint64_t words[] = {0, 0, fport}, index = 0, destination;
	static const struct hash_key common;

	memcpy(words, w->faddr.bytes, sizeof w->faddr.bytes);
	switch (w->balance) {
	case BALANCE_ROTATE:
		if (w->count <= WALK_MAX) {
			destination = hash_words(&w->memory->key, words, 3);
			for (int i = 0; i < DRAWS; i++) {
				index = turn_of(w->memory, destination, w->count) % w->count;
				if (can_begin(w, index))
					break;
			}
			return index;
		}
		/* Of so many no two need ever be the same. */
		/* fall through */
	case BALANCE_RANDOM:
		for (int i = 0; i < DRAWS; i++) {
			index = draw(w->memory, w->count);
			if (can_begin(w, index))
				break;
		}
		return index;
	case BALANCE_HASH:
		/* Not the process's key: all processes are to agree. */
		destination = hash_words(&common, words, 2);
		if (w->count <= FAVOURITE_MAX)
			return pool_favourite(w->pool, &w->faddr, destination, is_usable, w);
		return destination % w->count;
	case BALANCE_PACK:
		break;
	}
	return 0;
}

void source_walk_start(struct source_walk *w, struct source_memory *m, const struct rule *r,
	enum balance balance, const struct addr *faddr, uint8_t protocol, uint16_t fport)
{
	/* Field by field: the place is set with the first step. */
	w->memory = m;
	w->pool = &r->pool;
	w->balance = balance;
	w->faddr = *faddr;
	w->protocol = protocol;
	w->fport = fport;
	w->count = r->pool.part_count == 0 ? 0 : pool_count(&r->pool, faddr);
	w->next = 0;
	w->left = 1;
	w->passed = 0;
	w->freebind = false;
	w->automatic = w->count == 0;
	if (w->automatic)
		return;
	w->left = w->count < WALK_MAX ? w->count : WALK_MAX;
	w->next = w->count == 1 ? 0 : begin(w, fport);
}

/* Goes on to the next address of the pool. */
static void step(struct source_walk *w)
{
	w->left--;
	w->next = w->next + 1 == w->count ? 0 : w->next + 1;
}

/* Passes over what is left of a part; false when all parts have been passed over. */
static bool pass_part(struct source_walk *w)
{
	w->next = (w->next + w->place.count - w->place.index) % w->count;
	return w->passed++ < w->pool->part_count;
}

/*
 * bind() to an IPv6 address asks for one of an interface; that a route makes all of a prefix this
 * host's (AnyIP) counts for IPv4 only. With IPV6_FREEBIND nothing is asked, so it is asked here:
 * whether the address is this host's by its routes, for all of the prefix once a second if one
 * route covers it. False when it is not; a socket bound to it would wait for an answer in vain.
 */
static bool may_bind(struct source_walk *w)
{
	struct pool_part *part = w->place.part;
	uint64_t now = aside_now();
	unsigned bits;

	w->freebind = false;
	if (part->prefix_bits == 0 || addr_is_v4(&w->place.addr))
		return true;
	if (atomic_load_explicit(&part->local_until, memory_order_relaxed) <= now) {
		if (!route_is_local(&w->place.addr, &bits))
			return false;
		if (bits <= part->prefix_bits)
			atomic_store_explicit(
				&part->local_until, now + ROUTE_SECONDS, memory_order_relaxed);
	}
	w->freebind = true;
	return true;
}

bool source_walk_next(struct source_walk *w, struct addr *laddr)
{
	struct source_memory *m = w->memory;

	while (w->left > 0) {
		if (w->automatic) {
			w->left--;
			return automatic_source(m, &w->faddr, w->protocol, w->fport, laddr);
		}
		if (!pool_at(w->pool, &w->faddr, w->next, &w->place)) {
			step(w);
			continue;
		}
		if (w->place.count > PART_LARGE &&
			outage_has(&m->outages, hash_part(m, w->place.part))) {
			if (!pass_part(w))
				return false;
			continue;
		}
		step(w);
		if (is_aside(w, &w->place.addr))
			continue;
		if (may_bind(w)) {
			*laddr = w->place.addr;
			return true;
		}
		source_walk_failed(w);
	}
	return false;
}

/* "10.0.0.0/24", "eth0", "10.0.0.5-" */
static void put_part(struct text *t, const struct pool_part *part)
{
	text_clear(t);
	if (part->interface != NULL) {
		text_put(t, interface_name(part->interface));
		return;
	}
	text_put_addr(t, &part->first);
	text_put(t, part->prefix_bits != 0 ? "/" : "-");
	if (part->prefix_bits != 0)
		text_put_number(t, part->prefix_bits);
}

/* The command that makes all of a prefix this host's. */
static void put_fix(struct event *e, const struct pool_part *part)
{
	struct text prefix, fix;

	if (part->prefix_bits == 0)
		return;
	put_part(&prefix, part);
	text_clear(&fix);
	text_put(&fix, addr_is_v4(&part->first) ? "ip" : "ip -6");
	text_put(&fix, " route add local ");
	text_put(&fix, prefix.bytes);
	text_put(&fix, " dev lo");
	event_text(e, "fix", fix.bytes);
}

static void tell_missing(const struct source_walk *w, const struct addr *a, bool whole_part)
{
	const struct pool_part *part = w->place.part;
	struct text pool;
	struct event e;

	if (!event_begin(&e, LOG_WARN, "set-aside"))
		return;
	if (whole_part) {
		put_part(&pool, part);
		event_text(&e, "pool", pool.bytes);
		event_text(&e, "reason", "hardly any of its addresses is this host's");
	} else {
		event_addr(&e, "laddr", a);
		event_text(&e, "reason", "no address of this host");
	}
	event_text(&e, "again", "every 5 s");
	put_fix(&e, part);
	event_end(&e);
}

/* Whether the whole part is missing, by what has become of its addresses so far. */
static bool is_part_missing(struct source_walk *w)
{
	struct pool_part *part = w->place.part;

	if (w->place.count <= PART_LARGE)
		return false;
	return atomic_fetch_add_explicit(&part->failed, 1, memory_order_relaxed) + 1 >= PART_MISSES;
}

void source_walk_failed(struct source_walk *w)
{
	struct source_memory *m = w->memory;
	const struct addr *a = &w->place.addr;

	if (!w->automatic) {
		bool whole_part = is_part_missing(w);
		uint64_t hash = whole_part ? hash_part(m, w->place.part) : hash_addr(m, a);

		outage_put(&m->outages, hash);
		/* Of a large part single addresses are not worth a line. */
		if ((whole_part || w->place.count <= PART_LARGE) &&
			outage_begins(&m->outages, hash))
			tell_missing(w, a, whole_part);
		if (w->place.count > PART_LARGE && w->left > 0)
			w->next = (w->next + draw(m, w->place.count)) % w->count;
		return;
	}
	/* The remembered route is wrong: ask again next time. */
	struct source_route *r = route_of(m, &w->faddr, service_of(w->protocol, w->fport));
	struct route_copy copy;

	if (route_read(r, &copy)) {
		copy.expiry = 0;
		route_write(r, copy.sequence, &copy);
	}
}

void source_walk_unreachable(struct source_walk *w)
{
	if (!w->automatic)
		outage_put(&w->memory->outages, hash_pair(w->memory, &w->place.addr, &w->faddr));
}

void source_walk_tell_unreachable(struct source_walk *w, const struct addr *laddr, int error)
{
	struct event e;

	if (!outage_begins(&w->memory->outages, hash_pair(w->memory, laddr, &w->faddr)) ||
		!event_begin(&e, LOG_WARN, "set-aside"))
		return;
	event_addr(&e, "laddr", laddr);
	event_addr(&e, "faddr", &w->faddr);
	event_error(&e, error);
	event_text(&e, "reason", "no route from it to there");
	event_text(&e, "again", "every 5 s");
	event_end(&e);
}

void source_walk_pool_worked(struct source_walk *w)
{
	struct source_memory *m = w->memory;
	struct pool_place *place = &w->place;
	bool part_ends, addr_ends, pair_ends;
	struct text pool;
	struct event e;

	if (place->count > PART_LARGE)
		atomic_store_explicit(&place->part->failed, 0, memory_order_relaxed);
	if (!outage_any_told(&m->outages))
		return;
	part_ends =
		place->count > PART_LARGE && outage_ends(&m->outages, hash_part(m, place->part));
	addr_ends = outage_ends(&m->outages, hash_addr(m, &place->addr));
	pair_ends = outage_ends(&m->outages, hash_pair(m, &place->addr, &w->faddr));
	if (!(part_ends || addr_ends || pair_ends) || !event_begin(&e, LOG_WARN, "back"))
		return;
	if (part_ends) {
		put_part(&pool, place->part);
		event_text(&e, "pool", pool.bytes);
	} else {
		event_addr(&e, "laddr", &place->addr);
		if (!addr_ends)
			event_addr(&e, "faddr", &w->faddr);
	}
	event_end(&e);
}
