#include "choose/ports.h"

#include <bsd/string.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIST_LONGEST 4095

/* Takes a list such as "20000-40000,50000", blanks allowed around the commas. Port 0 does not
 * exist. */
static int parse_list(const char *list, struct portset *s, struct fault *f)
{
	char item[32];
	int got;

	if (list[0] == '\0')
		return fault_set(f, "no port given; " PORTS_FORM);
	while ((got = parse_next(&list, ',', item, sizeof item)) != 0) {
		char *dash = strchr(item, '-');
		uint64_t first = 0, last = 0;

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

/* "N:K" */
static int parse_part(const char *text, struct ports *p, struct fault *f)
{
	char copy[16];
	uint64_t parts, part;
	char *colon;

	if (strlcpy(copy, text, sizeof copy) >= sizeof copy || (colon = strchr(copy, ':')) == NULL)
		return fault_set(f, "\"/%.40s\" is not a part of the ports; " PORTS_FORM, text);
	*colon = '\0';
	if (parse_number(copy, 1, PORTS_PARTS_MAX, &parts) < 0)
		return fault_set(f,
			"\"/%.40s\": \"%s\" is not a number of parts from 1 to %d; " PORTS_FORM,
			text, copy, PORTS_PARTS_MAX);
	if (parse_number(colon + 1, 1, parts, &part) < 0)
		return fault_set(f, "\"/%.40s\": there is no part \"%s\" of %s; " PORTS_FORM, text,
			colon + 1, copy);
	p->parts = (unsigned)parts;
	p->part = (unsigned)part;
	return 0;
}

static void keep_part(const struct ports *p, struct portset *s)
{
	unsigned port = p->part - 1;

	/* Word by word: a second set would be large for a stack. */
	for (unsigned w = 0; w < 1024; w++) {
		uint64_t part = 0;

		for (; port < (w + 1) * 64; port += p->parts)
			part |= UINT64_C(1) << (port % 64);
		s->words[w] &= part;
	}
}

int ports_parse(const char *text, struct ports *p, struct fault *f)
{
	const char *slash = strchr(text, '/');
	size_t length = slash ? (size_t)(slash - text) : strlen(text);

	memset(p, 0, sizeof *p);
	p->parts = p->part = 1;
	if (length > LIST_LONGEST)
		return fault_set(f, "\"%.40s...\" is too long for a list of ports", text);
	if (slash != NULL && parse_part(slash + 1, p, f) < 0)
		return -EINVAL;
	p->automatic = length == strlen("auto") && strncmp(text, "auto", length) == 0;
	if (p->automatic)
		return 0;
	char *list = strndup(text, length);
	if (list == NULL) {
		fault_set(f, "out of memory at start");
		return -ENOMEM;
	}
	int error = parse_list(list, &p->list, f);
	free(list);
	if (error < 0)
		return error;
	/* Which is no other than a part without any port: a typing error, most likely. */
	keep_part(p, &p->list);
	return portset_count(&p->list) != 0
		       ? 0
		       : fault_set(f, "\"%.60s\": no port of the list is in that part", text);
}

void ports_resolve(const struct ports *p, const struct portset *offered, struct portset *wanted)
{
	*wanted = p->automatic ? *offered : p->list;
	if (p->automatic && p->parts > 1)
		keep_part(p, wanted);
}
