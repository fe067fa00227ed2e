#include "choose/interface.h"

#include "base/aside.h"
#include "kernel/addresses.h"
#include "kernel/netns.h"

#include <bsd/string.h>
#include <errno.h>
#include <net/if.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FIRST_ROOM 64

/*
 * An address in words that can be read while they are written. What is written is written with
 * release and read with acquire: who reads something of a later list finds, when he looks again, a
 * later version.
 */
struct packed {
	_Atomic uint32_t words[5];
};

/*
 * The addresses in the order of their classes. A block knows its own room and never goes away, so
 * that a reader who is late finds old addresses or new ones, but always some.
 */
struct block {
	unsigned room;
	_Atomic uint32_t ends[ADDR_CLASSES]; /* of each class, in addresses[] */
	struct packed addresses[];
};

struct interface {
	struct interface *next;
	char name[IF_NAMESIZE];
	struct netns netns;
	_Atomic uint64_t looked;	 /* second of the last look */
	_Atomic int looking;		 /* one thread at a time */
	_Atomic uint64_t version;	 /* blocks[version % 2] is the one to read */
	struct block *_Atomic blocks[2]; /* the other one is the looker's */
	struct addr *found;		 /* as the kernel lists them, the looker's */
	unsigned room;			 /* of found */
	struct addresses_buffer buffer;
};

static struct interface *interfaces;

/* Memory without malloc(), which must not be called from a signal handler. */
static void *take_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	/* cppcheck-suppress memleak ; it is returned */
	return memory == MAP_FAILED ? NULL : memory;
}

/* Sees to it that the looker's list and block have room for @count addresses. */
static bool make_room(struct interface *i, unsigned count, unsigned side)
{
	struct block *block = atomic_load_explicit(&i->blocks[side], memory_order_relaxed);
	unsigned room = i->room ? i->room : FIRST_ROOM;

	while (room < count)
		room *= 2;
	if (room > i->room) {
		struct addr *found = take_memory(room * sizeof *found);

		if (found == NULL)
			return false;
		if (i->found != NULL)
			munmap(i->found, i->room * sizeof *i->found);
		i->found = found;
		i->room = room;
	}
	if (block == NULL || block->room < room) {
		/* The old one may be read still: it is left, and all of them are less than the new
		 * one. */
		block = take_memory(sizeof *block + room * sizeof *block->addresses);
		if (block == NULL)
			return false;
		block->room = room;
		atomic_store_explicit(&i->blocks[side], block, memory_order_release);
	}
	return true;
}

static void pack(struct packed *p, const struct addr *a)
{
	uint32_t words[5] = {[4] = a->scope};

	memcpy(words, a->bytes, sizeof a->bytes);
	for (int w = 0; w < 5; w++)
		atomic_store_explicit(&p->words[w], words[w], memory_order_release);
}

static void unpack(const struct packed *p, struct addr *a)
{
	uint32_t words[5];

	for (int w = 0; w < 5; w++)
		words[w] = atomic_load_explicit(&p->words[w], memory_order_acquire);
	memcpy(a->bytes, words, sizeof a->bytes);
	a->scope = words[4];
}

static void write_block(struct block *b, const struct addr *found, unsigned count)
{
	uint32_t at = 0;

	for (unsigned class = 0; class < ADDR_CLASSES; class ++) {
		for (unsigned n = 0; n < count; n++)
			if (addr_class(&found[n]) == class)
				pack(&b->addresses[at++], &found[n]);
		atomic_store_explicit(&b->ends[class], at, memory_order_release);
	}
}

/* Lists the addresses anew and makes that the list to read. One thread at a time. */
static void look(struct interface *i)
{
	uint64_t version = atomic_load_explicit(&i->version, memory_order_relaxed);
	unsigned side = (version + 1) % 2;
	int got = 0;

	do {
		if (!make_room(i, (unsigned)got, side))
			return;
		got = addresses_of(i->name, i->found, i->room, &i->buffer);
	} while (got > (int)i->room);
	/* Who cannot ask (no descriptor left, a sandbox) goes on with what is known. */
	if (got < 0 && got != -ENODEV)
		return;
	write_block(atomic_load_explicit(&i->blocks[side], memory_order_relaxed), i->found,
		got > 0 ? (unsigned)got : 0);
	atomic_store_explicit(&i->version, version + 1, memory_order_release);
}

void interface_refresh(struct interface *i)
{
	uint64_t now = aside_now();

	if (atomic_load_explicit(&i->looked, memory_order_relaxed) == now ||
		atomic_exchange_explicit(&i->looking, 1, memory_order_acquire))
		return;
	/* A thread that has gone into another namespace would see that one's. */
	if (netns_is_here(&i->netns))
		look(i);
	atomic_store_explicit(&i->looked, now, memory_order_relaxed);
	atomic_store_explicit(&i->looking, 0, memory_order_release);
}

void interface_forked(void)
{
	for (struct interface *i = interfaces; i != NULL; i = i->next)
		atomic_store_explicit(&i->looking, 0, memory_order_relaxed);
}

static struct interface *find(const char *name)
{
	struct interface *i = interfaces;

	while (i != NULL && strcmp(i->name, name) != 0)
		i = i->next;
	return i;
}

struct interface *interface_get(const char *name, struct fault *f)
{
	struct interface *i = find(name);

	if (i != NULL)
		return i;
	i = calloc(1, sizeof *i);
	if (i == NULL) {
		fault_set(f, "out of memory at start");
		return NULL;
	}
	strlcpy(i->name, name, sizeof i->name);
	if (netns_current(&i->netns) == 0)
		look(i);
	if (atomic_load_explicit(&i->version, memory_order_relaxed) == 0) {
		fault_set(f,
			"\"%s\": the kernel does not tell the addresses of the interface "
			"(rtnetlink)",
			name);
		free(i);
		return NULL;
	}
	atomic_store_explicit(&i->looked, aside_now(), memory_order_relaxed);
	i->next = interfaces;
	interfaces = i;
	return i;
}

const char *interface_name(const struct interface *i)
{
	return i->name;
}

/* A look at the list that is read. */
struct view {
	const struct block *block;
	uint64_t version;
	uint32_t begin, end; /* of the class */
};

static struct view view_class(const struct interface *i, unsigned class)
{
	struct view v = {.version = atomic_load_explicit(&i->version, memory_order_acquire)};

	v.block = atomic_load_explicit(&i->blocks[v.version % 2], memory_order_acquire);
	v.begin = class == 0
			  ? 0
			  : atomic_load_explicit(&v.block->ends[class - 1], memory_order_acquire);
	v.end = atomic_load_explicit(&v.block->ends[class], memory_order_acquire);
	return v;
}

/* True when nothing that was read by @v since can have been written meanwhile. */
static bool is_current(const struct interface *i, const struct view *v)
{
	return atomic_load_explicit(&i->version, memory_order_relaxed) == v->version;
}

/* Two looks within the reading of one address, seconds apart, and that several times: never. */
#define READ_TRIES 8

bool interface_at(
	const struct interface *i, const struct addr *faddr, uint64_t index, struct addr *out)
{
	for (int try = 0; try < READ_TRIES; try++) {
		struct view v = view_class(i, addr_class(faddr));
		bool there = v.begin <= v.end && v.end <= v.block->room && index < v.end - v.begin;

		if (there)
			unpack(&v.block->addresses[v.begin + index], out);
		if (is_current(i, &v))
			return there && addr_goes_with(out, faddr);
	}
	return false;
}

uint64_t interface_count(const struct interface *i, const struct addr *faddr)
{
	for (int try = 0; try < READ_TRIES; try++) {
		struct view v = view_class(i, addr_class(faddr));
		struct addr first;

		if (!is_current(i, &v))
			continue;
		/* All link-local addresses of an interface are of its scope, or none. */
		return interface_at(i, faddr, 0, &first) ? v.end - v.begin : 0;
	}
	return 0;
}
