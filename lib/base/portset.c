#include "base/portset.h"

#include <string.h>

void portset_clear(struct portset *s)
{
	memset(s, 0, sizeof *s);
}

void portset_add_range(struct portset *s, uint16_t first, uint16_t last)
{
	for (unsigned port = first; port <= last; port++)
		s->words[port / 64] |= UINT64_C(1) << (port % 64);
}

void portset_remove_range(struct portset *s, uint16_t first, uint16_t last)
{
	for (unsigned port = first; port <= last; port++)
		s->words[port / 64] &= ~(UINT64_C(1) << (port % 64));
}

void portset_add(struct portset *s, const struct portset *other)
{
	for (unsigned i = 0; i < 1024; i++)
		s->words[i] |= other->words[i];
}

void portset_remove(struct portset *s, const struct portset *other)
{
	for (unsigned i = 0; i < 1024; i++)
		s->words[i] &= ~other->words[i];
}

void portset_keep(struct portset *s, const struct portset *other)
{
	for (unsigned i = 0; i < 1024; i++)
		s->words[i] &= other->words[i];
}

bool portset_has(const struct portset *s, uint16_t port)
{
	return s->words[port / 64] >> (port % 64) & 1;
}

unsigned portset_count(const struct portset *s)
{
	unsigned count = 0;

	for (unsigned i = 0; i < 1024; i++)
		count += (unsigned)__builtin_popcountll(s->words[i]);
	return count;
}
