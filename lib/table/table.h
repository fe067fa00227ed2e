/*
 * The tuple table: attached to, validated, left.
 *
 * A table is shared memory that any process of the user may be killed over, or may
 * overwrite. So: a table file appears under its name only when it is complete; nothing
 * that decides about a memory access is read from it a second time after it was checked
 * (sizes and keys are copied out when attaching); and no process holds a lock on it
 * while it connects or closes. The layout is in tuplebind/table.h, claims are in
 * table/claim.h.
 */
#pragma once

#include "base/hash.h"
#include "base/parse.h"
#include "kernel/netns.h"
#include "table/permutation.h"
#include "table/place.h"
#include "tuplebind/table.h"

#include <stddef.h>
#include <sys/types.h>

#define TABLE_PRIVATE	   "private"
#define TABLE_SIZE_DEFAULT (UINT64_C(8) << 20)
#define TABLE_SIZE_MIN	   (UINT64_C(256) << 10)
#define TABLE_SIZE_MAX	   (UINT64_C(16) << 30)

struct table {
	struct tuplebind_header *header;
	struct tuplebind_slab *slabs;
	uint64_t slab_count;
	size_t size;
	struct hash_key key;
	struct permutation permutation;
	struct tuplebind_stripe *stripe;    /* this process's counters */
	struct tuplebind_identity identity; /* as it was when attached */
	/* By table_attach() and table_find(): the file, also when it was refused, or "private". */
	char path[TABLE_PATH_MAX];
};

/* True for names that TUPLEBIND_TABLE may have: 1..64 of A-Z a-z 0-9 _ - and inner dots. */
bool table_name_valid(const char *name);

/*
 * Attaches to the table @name of the calling process's effective user in @ns, and makes
 * it with @size bytes, allocated in full, where there is none (table/place.h tells where). @name
 * NULL is the default table, "private" one for this process and the children it forks. Another
 * user's file, and another version's table that is in use, are passed over: the table is at its
 * next place then. Another version's table that nobody uses, and one of an earlier namespace, are
 * replaced. Returns 0, or a negative errno with the fault told: a file of the user's own that is no
 * regular file of mode 0600, is short, has holes or is no table is refused and left alone, and
 * so is one that does not fit into the memory that is left to this process's control groups.
 * Detach with table_detach(). Costs about 30 us, and 2 ms when 8 MB are made; while another process
 * removes the table, 100 ms at most.
 */
int table_attach(
	struct table *t, const char *name, uint64_t size, const struct netns *ns, struct fault *f);

/*
 * Attaches to the table file at @path, whoever owns it, for the command (others' in a process with
 * their rights: tools/common/apart.h): read-only (writing through
 * *t then faults) or writable. Returns 0 or a negative errno with the fault told.
 */
int table_open(struct table *t, const char *path, bool writable, struct fault *f);

/*
 * The same for a reader that must not be harmed by a file with holes or one that is cut short while
 * it is read (a mapping would fill the holes, or die of SIGBUS): *t holds a copy of the header,
 * t->slabs is NULL, and slab i is read from *fd at table_slab_offset(i). The caller closes *fd and
 * detaches. Returns 0 or a negative errno with the fault told.
 */
int table_open_unmapped(struct table *t, const char *path, int *fd, struct fault *f);

/* Where in the file slab @index is. */
static inline uint64_t table_slab_offset(uint64_t index)
{
	return sizeof(struct tuplebind_header) + index * sizeof(struct tuplebind_slab);
}

/*
 * Attaches read-only to the table that table_attach() would find, and never makes or removes one:
 * -ENOENT when there is none yet, or only such as table_attach() would replace. Else as
 * table_attach(), which would refuse what this refuses.
 */
int table_find(struct table *t, const char *name, const struct netns *ns, struct fault *f);

/* False when the table's identity has been written over since it was attached. One cache line. */
bool table_intact(const struct table *t);

void table_detach(struct table *t);

/* Notes a port in one of the header's sets of ports, and tells whether it is there. */
static inline void table_note_port(_Atomic uint64_t ports[static 1024], uint16_t port)
{
	atomic_fetch_or_explicit(
		&ports[port / 64], UINT64_C(1) << (port % 64), memory_order_relaxed);
}

static inline bool table_has_port(const _Atomic uint64_t ports[static 1024], uint16_t port)
{
	return atomic_load_explicit(&ports[port / 64], memory_order_relaxed) >> (port % 64) & 1;
}

/* Adds to a counter. One atomic addition on a cache line shared by few processes. */
static inline void table_count(struct table *t, enum tuplebind_counter counter)
{
	atomic_fetch_add_explicit(&t->stripe->counters[counter], 1, memory_order_relaxed);
}

/*
 * Says that a bit of some slab's claims was cleared, after it was. Who found a lane full before
 * looks again then (claim_take()). One atomic addition.
 */
static inline void table_note_cleared(const struct table *t)
{
	atomic_fetch_add_explicit(&t->stripe->given_back, 1, memory_order_release);
}

/* The sum of a counter over all processes. */
uint64_t table_counter(const struct table *t, enum tuplebind_counter counter);
