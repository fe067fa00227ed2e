#include "preload/book.h"

#include "table/process.h"
#include "table/reap.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * An entry, in one word: 0 nothing is known; FRESH a socket the book saw made, with its
 * kind and the count of forks then, perhaps CHANGED since, or PASSED; RECORD the number of a
 * record.
 */
enum entry {
	NOTHING = 0,
	FRESH = 1,
	RECORD = 2,
	ENTRY_MASK = 3,
	CHANGED = 1 << 5,
	PASSED = 1 << 6, /* to another process */
};

/*
 * What is maybe shared is looked into when it is closed. A child that closes what it has inherited
 * would do so 10,000 times in vain. After so many in a row the next look comes when twice as many
 * have been closed, or a thousand.
 */
#define VAIN_FIRST 16
#define VAIN_MOST  1024

#define CHUNK 4096

struct chunk_of_entries {
	_Atomic uint64_t entries[CHUNK];
};

struct chunk_of_records {
	struct record records[CHUNK];
};

static struct {
	_Atomic pid_t pid;
	_Atomic uint32_t forks;
	_Atomic uint32_t vain; /* looks at what is maybe shared, in a row, that found it held */
	_Atomic uint32_t
		*mark; /* 1, and in a copy of this memory 0; NULL: there is no such thing */
	void (*start_copy)(void);
	struct chunk_of_entries *_Atomic entries[BOOK_DESCRIPTORS / CHUNK];
	/* Duplicates share records, so there are never more of them than descriptors. */
	struct chunk_of_records *_Atomic records[BOOK_DESCRIPTORS / CHUNK];
	_Atomic uint32_t records_used; /* records ever taken */
	_Atomic uint64_t
		records_unused; /* list: number + 1 of the first, and a count against ABA */
} book;

/* A page that the kernel wipes in every child but those that run in our memory. */
static _Atomic uint32_t *map_mark(void)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return NULL;
	if (madvise(page, size, MADV_WIPEONFORK) == 0)
		return page;
	munmap(page, size); /* before Linux 4.14 */
	return NULL;
}

void book_start(void (*start_copy)(void))
{
	book.start_copy = start_copy;
	book.mark = map_mark();
	book_start_copy();
}

bool book_is_copy(void)
{
	return book.mark == NULL || atomic_load_explicit(book.mark, memory_order_relaxed) == 0;
}

void book_start_copy(void)
{
	book_forked();
	atomic_store_explicit(&book.vain, 0, memory_order_relaxed);
	atomic_store_explicit(&book.pid, getpid(), memory_order_relaxed);
	if (book.mark != NULL)
		atomic_store_explicit(book.mark, 1, memory_order_relaxed);
}

void book_forked(void)
{
	atomic_fetch_add_explicit(&book.forks, 1, memory_order_relaxed);
}

bool book_usable(void)
{
	/* A fork that ran no handlers of ours: clone(), or the system call itself. */
	if (book.mark != NULL && book_is_copy())
		book.start_copy();
	return atomic_load_explicit(&book.pid, memory_order_relaxed) == getpid();
}

/* Maps a chunk into *place, or finds that another thread has. */
static void *make_chunk(void *_Atomic *place, size_t size)
{
	void *chunk = NULL;
	void *fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fresh == MAP_FAILED)
		return NULL;
	if (atomic_compare_exchange_strong_explicit(
		    place, &chunk, fresh, memory_order_acq_rel, memory_order_acquire))
		return fresh;
	munmap(fresh, size);
	return chunk;
}

static inline void *chunk_at(void *_Atomic *place, size_t size, bool make)
{
	void *chunk = atomic_load_explicit(place, memory_order_acquire);

	return chunk != NULL || !make ? chunk : make_chunk(place, size);
}

static inline _Atomic uint64_t *entry_of(int descriptor, bool make)
{
	unsigned fd = (unsigned)descriptor;

	if (fd >= BOOK_DESCRIPTORS)
		return NULL;
	struct chunk_of_entries *chunk = chunk_at(
		(void *_Atomic *)&book.entries[fd / CHUNK], sizeof(struct chunk_of_entries), make);

	return chunk == NULL ? NULL : &chunk->entries[fd % CHUNK];
}

static inline struct record *record_at(uint32_t number, bool make)
{
	if (number >= BOOK_DESCRIPTORS)
		return NULL;
	struct chunk_of_records *chunk = chunk_at((void *_Atomic *)&book.records[number / CHUNK],
		sizeof(struct chunk_of_records), make);

	return chunk == NULL ? NULL : &chunk->records[number % CHUNK];
}

static uint64_t entry_fresh(enum sock_kind kind, uint32_t forks)
{
	return FRESH | (uint64_t)kind << 2 | (uint64_t)forks << 32;
}

static enum sock_kind fresh_kind(uint64_t entry)
{
	return (enum sock_kind)(entry >> 2 & 7);
}

static struct record *entry_record(uint64_t entry)
{
	return (entry & ENTRY_MASK) == RECORD ? record_at((uint32_t)(entry >> 2), false) : NULL;
}

/*
 * Takes an unused record: off the list (Treiber, 1986; the count in the upper half changes with
 * every operation, so that a list that went away and came back is noticed), or a new one.
 */
static struct record *take_record(void)
{
	uint64_t head = atomic_load_explicit(&book.records_unused, memory_order_acquire);
	struct record *r;

	while ((uint32_t)head != 0) {
		r = record_at((uint32_t)head - 1, false);
		uint32_t next = atomic_load_explicit(&r->next, memory_order_relaxed);

		if (atomic_compare_exchange_weak_explicit(&book.records_unused, &head,
			    ((head >> 32) + 1) << 32 | next, memory_order_acquire,
			    memory_order_acquire))
			return r;
	}
	/* Looked at first, so that the count cannot run over. */
	if (atomic_load_explicit(&book.records_used, memory_order_relaxed) >= BOOK_DESCRIPTORS)
		return NULL;
	uint32_t number = atomic_fetch_add_explicit(&book.records_used, 1, memory_order_relaxed);
	r = record_at(number, true);
	if (r != NULL)
		r->number = number;
	return r;
}

static void put_record(struct record *r)
{
	uint64_t head = atomic_load_explicit(&book.records_unused, memory_order_relaxed);

	do {
		atomic_store_explicit(&r->next, (uint32_t)head, memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(&book.records_unused, &head,
		((head >> 32) + 1) << 32 | (r->number + 1), memory_order_release,
		memory_order_relaxed));
}

bool book_has(int fd)
{
	_Atomic uint64_t *entry = entry_of(fd, false);

	return entry != NULL && atomic_load_explicit(entry, memory_order_relaxed) != 0;
}

static struct record *leave(uint64_t entry)
{
	struct record *r = entry_record(entry);

	if (r == NULL || atomic_fetch_sub_explicit(&r->descriptors, 1, memory_order_acq_rel) != 1)
		return NULL;
	return r;
}

static bool forked_since(const struct record *r)
{
	return atomic_load_explicit(&r->forks, memory_order_relaxed) !=
	       atomic_load_explicit(&book.forks, memory_order_relaxed);
}

/* Whether a look at a claim will most likely be in vain: those before were. */
static bool is_vain(const struct record *r)
{
	if (!forked_since(r) || state_has_flag(&r->state, STATE_SHARED))
		return false;
	uint32_t vain = atomic_load_explicit(&book.vain, memory_order_relaxed);
	if (vain < VAIN_FIRST || (vain & (vain - 1)) == 0 || vain % VAIN_MOST == 0)
		return false;
	atomic_fetch_add_explicit(&book.vain, 1, memory_order_relaxed);
	return true;
}

/* Gives back what somebody else may hold, if nobody does. */
static void look_into(struct table *t, struct record *r)
{
	claim c = state_take_claim(&r->state);

	if (c == CLAIM_NONE)
		return;
	if (is_vain(r))
		process_strayed(t);
	else if (reap_claim(t, c))
		atomic_store_explicit(&book.vain, 0, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(&book.vain, 1, memory_order_relaxed);
}

/* Settles a record whose socket was closed without its claim in flight: it is looked into. */
static void settle_unannounced(struct table *t, struct record *r)
{
	if (r == NULL)
		return;
	look_into(t, r);
	put_record(r);
}

void book_note_socket(struct table *t, int fd, enum sock_kind kind)
{
	bool served = kind != KIND_OTHER;
	_Atomic uint64_t *entry = entry_of(fd, served);
	uint32_t forks = atomic_load_explicit(&book.forks, memory_order_relaxed);
	uint64_t next = served ? entry_fresh(kind, forks) : 0;

	if (entry == NULL || (!served && atomic_load_explicit(entry, memory_order_relaxed) == 0))
		return;
	struct record *r = leave(atomic_exchange_explicit(entry, next, memory_order_acq_rel));
	/* Who closed it has told nobody, and may have left it open elsewhere. */
	settle_unannounced(t, r);
}

bool book_is_pristine(int fd)
{
	_Atomic uint64_t *entry = entry_of(fd, false);
	uint64_t seen = entry ? atomic_load_explicit(entry, memory_order_relaxed) : 0;

	return (seen & (ENTRY_MASK | CHANGED)) == FRESH &&
	       seen >> 32 == atomic_load_explicit(&book.forks, memory_order_relaxed);
}

/* Adds to what is known of a fresh socket; what the entry is then. */
static uint64_t note(int fd, uint64_t bits)
{
	_Atomic uint64_t *entry = entry_of(fd, false);
	uint64_t seen = entry ? atomic_load_explicit(entry, memory_order_relaxed) : 0;

	while ((seen & ENTRY_MASK) == FRESH && (seen & bits) != bits &&
		!atomic_compare_exchange_weak_explicit(
			entry, &seen, seen | bits, memory_order_relaxed, memory_order_relaxed))
		;
	return seen;
}

void book_note_changed(int fd)
{
	note(fd, CHANGED);
}

void book_note_passed(int fd)
{
	struct record *r = entry_record(note(fd, CHANGED | PASSED));

	if (r != NULL)
		state_set_flag(&r->state, STATE_SHARED);
}

struct record *book_find(int fd, enum sock_kind *kind)
{
	_Atomic uint64_t *entry = entry_of(fd, false);
	uint64_t seen = entry ? atomic_load_explicit(entry, memory_order_acquire) : 0;
	struct record *r = entry_record(seen);

	*kind = (seen & ENTRY_MASK) == FRESH ? fresh_kind(seen)
		: r != NULL		     ? r->state.kind
					     : KIND_OTHER;
	return r;
}

struct record *book_record(int fd, enum sock_kind kind)
{
	_Atomic uint64_t *entry = entry_of(fd, true);

	if (entry == NULL)
		return NULL;
	uint64_t seen = atomic_load_explicit(entry, memory_order_acquire);
	struct record *r = entry_record(seen);
	if (r != NULL)
		return r;
	r = take_record();
	if (r == NULL)
		return NULL;
	bool seen_made = (seen & ENTRY_MASK) == FRESH;
	state_begin(&r->state, kind, seen_made && !(seen & PASSED) ? 0 : STATE_SHARED);
	atomic_store_explicit(&r->descriptors, 1, memory_order_relaxed);
	atomic_store_explicit(&r->forks,
		seen_made ? (uint32_t)(seen >> 32)
			  : atomic_load_explicit(&book.forks, memory_order_relaxed),
		memory_order_relaxed);
	if (!atomic_compare_exchange_strong_explicit(entry, &seen,
		    (uint64_t)r->number << 2 | RECORD, memory_order_release,
		    memory_order_acquire)) {
		/* Another thread was quicker with the same descriptor. */
		put_record(r);
		return entry_record(seen);
	}
	return r;
}

void book_duplicate(struct table *t, int from, int to)
{
	_Atomic uint64_t *target = entry_of(to, true), *source = entry_of(from, false);
	uint64_t next = 0;
	struct record *r = NULL;

	if (source != NULL && atomic_load_explicit(source, memory_order_relaxed) != 0) {
		enum sock_kind kind;

		book_find(from, &kind);
		r = book_record(from, kind);
	}
	if (r != NULL && target != NULL) {
		atomic_fetch_add_explicit(&r->descriptors, 1, memory_order_relaxed);
		next = atomic_load_explicit(source, memory_order_relaxed);
	} else if (r != NULL) {
		state_set_flag(&r->state, STATE_SHARED);
	}
	if (target == NULL)
		return;
	settle_unannounced(t, leave(atomic_exchange_explicit(target, next, memory_order_acq_rel)));
}

struct record *book_remove(int fd)
{
	_Atomic uint64_t *entry = entry_of(fd, false);

	if (entry == NULL)
		return NULL;
	return leave(atomic_exchange_explicit(entry, 0, memory_order_acq_rel));
}

bool book_maybe_shared(const struct record *r)
{
	return state_has_flag(&r->state, STATE_SHARED) || forked_since(r);
}

void book_settle(struct table *t, struct record *r)
{
	if (r == NULL)
		return;
	if (book_maybe_shared(r))
		look_into(t, r);
	else
		state_give_back(&r->state, t);
	put_record(r);
}

struct record *book_remove_range(unsigned first, unsigned last)
{
	struct record *list = NULL;

	if (last >= BOOK_DESCRIPTORS)
		last = BOOK_DESCRIPTORS - 1;
	for (unsigned fd = first; fd <= last; fd++) {
		if (entry_of((int)fd, false) == NULL) {
			fd |= CHUNK - 1; /* nothing in this chunk */
			continue;
		}
		struct record *r = book_has((int)fd) ? book_remove((int)fd) : NULL;
		if (r != NULL) {
			r->after = list;
			list = r;
		}
	}
	return list;
}

void book_settle_all(struct table *t, struct record *list)
{
	while (list != NULL) {
		struct record *after = list->after;

		settle_unannounced(t, list);
		list = after;
	}
}
