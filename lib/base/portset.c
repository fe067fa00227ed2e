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

void portset_remove(struct portset *s, const struct portset *other)
{
	for (unsigned i = 0; i < 1024; i++)
		s->words[i] &= ~other->words[i];
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

#define PORTS_FORM                                                                                 \
	"accepted: auto, or ports (1-65535) and ranges like 20000-40000, separated by commas"

int portset_parse(struct portset *s, const char *list, struct fault *f)
{
	char item[32];
	int got;

	if (list[0] == '\0')
		return fault_set(f, "no port given; " PORTS_FORM);
	while ((got = parse_next(&list, ',', item, sizeof item)) != 0) {
		char *dash = strchr(item, '-');
		uint64_t first, last;

		if (dash != NULL)
			*dash = '\0';
		int bad = got < 0 || parse_number(item, 1, UINT16_MAX, &first) < 0 ||
			  parse_number(dash ? dash + 1 : item, 1, UINT16_MAX, &last) < 0;
		if (dash != NULL)
			*dash = '-';
		if (bad)
			return fault_set(f, "\"%s\" is not a port; " PORTS_FORM, item);
		if (first > last)
			return fault_set(f, "\"%s\" ends before it begins; " PORTS_FORM, item);
		portset_add_range(s, (uint16_t)first, (uint16_t)last);
	}
	return 0;
}
