#include "choose/pool.h"

#include "base/hash.h"
#include "choose/dest.h"
#include "choose/interface.h"

#include <bsd/string.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#define POOL_FORM                                                                                  \
	"accepted: auto, or addresses, ranges (10.0.0.5-10.0.0.54), prefixes (10.0.0.0/28) and "   \
	"interface names, separated by commas"

/*
 * Of a part with more addresses this many have a number: more than will ever be used, and few
 * enough that those of all the parts a variable can hold (128 KB) can be counted.
 */
#define COUNT_MAX (UINT64_C(1) << 44)

static struct pool_part *add_part(struct pool *p, struct fault *f)
{
	struct pool_part *more = reallocarray(p->parts, p->part_count + 1, sizeof *more);

	if (more == NULL) {
		fault_set(f, "out of memory at start");
		return NULL;
	}
	p->parts = more;
	memset(&more[p->part_count], 0, sizeof *more);
	return &more[p->part_count++];
}

/* Addresses that stand next to each other are one range, however they were written. */
static bool extends(const struct pool_part *part, const struct addr *first)
{
	return part->interface == NULL && part->prefix_bits == 0 &&
	       part->first.scope == first->scope && addr_class(&part->first) == addr_class(first) &&
	       addr_number(&part->first) + part->size == addr_number(first);
}

static int add_range(
	struct pool *p, const struct addr *first, unsigned __int128 size, struct fault *f)
{
	struct pool_part *part = p->part_count ? &p->parts[p->part_count - 1] : NULL;

	if (part != NULL && extends(part, first)) {
		part->size += size;
		return 0;
	}
	part = add_part(p, f);
	if (part == NULL)
		return -ENOMEM;
	part->first = *first;
	part->size = size;
	return 0;
}

static int add_prefix(struct pool *p, const struct dest *prefix, struct fault *f)
{
	unsigned host_bits = 128 - prefix->bits;
	/* All of IPv6, which nobody has, less one address is as good. */
	unsigned __int128 size =
		host_bits == 128 ? ~(unsigned __int128)0 : (unsigned __int128)1 << host_bits;
	unsigned __int128 mask = host_bits == 128 ? 0 : ~(unsigned __int128)0 << host_bits;
	struct addr first = addr_from_number(addr_number(&prefix->prefix) & mask);
	struct pool_part *part;

	if (host_bits == 0)
		return add_range(p, &first, 1, f);
	part = add_part(p, f);
	if (part == NULL)
		return -ENOMEM;
	part->first = first;
	part->size = size;
	part->prefix_bits = (uint8_t)(prefix->bits - (addr_is_v4(&first) ? 96 : 0));
	return 0;
}

/* "a-b"; -ENOENT when the item does not have that form. */
static int add_first_last(struct pool *p, const char *item, struct fault *f)
{
	char copy[2 * INET6_ADDRSTRLEN + 2];
	struct addr first, last;

	if (strlcpy(copy, item, sizeof copy) >= sizeof copy)
		return -ENOENT;
	char *dash = strchr(copy, '-');
	if (dash == NULL)
		return -ENOENT;
	*dash = '\0';
	if (addr_parse(copy, &first) < 0 || addr_parse(dash + 1, &last) < 0)
		return -ENOENT;
	if (addr_is_v4(&first) != addr_is_v4(&last) || addr_number(&first) > addr_number(&last))
		return fault_set(f,
			"\"%.80s\" does not go from a lower to a higher address of one family",
			item);
	unsigned __int128 more = addr_number(&last) - addr_number(&first);
	return add_range(p, &first, more + 1 ? more + 1 : more, f);
}

/* "fe80::1%eth0"; -ENOENT when the item does not have that form. */
static int add_scoped(struct pool *p, const char *item, struct fault *f)
{
	char copy[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
	struct addr a;

	if (strlcpy(copy, item, sizeof copy) >= sizeof copy)
		return -ENOENT;
	char *percent = strchr(copy, '%');
	if (percent == NULL)
		return -ENOENT;
	*percent = '\0';
	if (addr_parse(copy, &a) < 0 || addr_reach(&a) != ADDR_LINK)
		return -ENOENT;
	a.scope = if_nametoindex(percent + 1);
	if (a.scope == 0)
		return fault_set(f, "\"%.80s\": there is no interface %s", item, percent + 1);
	return add_range(p, &a, 1, f);
}

static int add_interface(struct pool *p, const char *name, struct fault *f)
{
	struct interface *interface;
	struct pool_part *part;

	if (if_nametoindex(name) == 0)
		return fault_set(f,
			"\"%.60s\" is neither an address nor an interface here; " POOL_FORM, name);
	interface = interface_get(name, f);
	if (interface == NULL)
		return -EINVAL;
	part = add_part(p, f);
	if (part == NULL)
		return -ENOMEM;
	part->interface = interface;
	return 0;
}

static int add_item(struct pool *p, const char *item, struct fault *f)
{
	struct dest prefix;
	int error;

	if (dest_parse_prefix(item, &prefix) == 0 && prefix.bits == 128 &&
		(addr_is_any(&prefix.prefix) || addr_is_multicast(&prefix.prefix)))
		return fault_set(
			f, "\"%.60s\" is not an address a socket can have; " POOL_FORM, item);
	if (dest_parse_prefix(item, &prefix) == 0)
		return add_prefix(p, &prefix, f);
	error = add_first_last(p, item, f);
	if (error == -ENOENT)
		error = add_scoped(p, item, f);
	if (error == -ENOENT)
		error = add_interface(p, item, f);
	return error;
}

int pool_parse(const char *list, struct pool *p, struct fault *f)
{
	char item[160];
	int got, error = 0;

	*p = (struct pool){0};
	if (strcmp(list, "auto") == 0)
		return 0;
	while (error == 0 && (got = parse_next(&list, ',', item, sizeof item)) != 0) {
		if (got < 0 || item[0] == '\0')
			error = fault_set(f, "\"%.60s\" is not an address; " POOL_FORM, item);
		else
			error = add_item(p, item, f);
	}
	if (error == 0 && p->part_count == 0)
		error = fault_set(f, "no address given; " POOL_FORM);
	return error;
}

void pool_free(struct pool *p)
{
	free(p->parts);
	*p = (struct pool){0};
}

/* How many of a part's addresses have a number. */
static uint64_t part_count(const struct pool_part *part, const struct addr *faddr)
{
	if (part->interface != NULL)
		return interface_count(part->interface, faddr);
	if (!addr_goes_with(&part->first, faddr))
		return 0;
	return part->size > COUNT_MAX ? COUNT_MAX : (uint64_t)part->size;
}

/* False when an interface has lost it meanwhile. */
static bool part_at(
	const struct pool_part *part, const struct addr *faddr, uint64_t index, struct addr *out)
{
	unsigned __int128 offset = index;

	if (part->interface != NULL)
		return interface_at(part->interface, faddr, index, out);
	if (part->size > COUNT_MAX) {
		unsigned __int128 stride = part->size / COUNT_MAX;

		/* Not the first of each stride: all bits of a drawn address are to be drawn. */
		offset = index * stride + hash_mix(index) % stride;
	}
	*out = addr_from_number(addr_number(&part->first) + offset);
	out->scope = part->first.scope;
	return true;
}

uint64_t pool_count(const struct pool *p, const struct addr *faddr)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < p->part_count; i++) {
		if (p->parts[i].interface != NULL)
			interface_refresh(p->parts[i].interface);
		count += part_count(&p->parts[i], faddr);
	}
	return count;
}

bool pool_serves(const struct pool *p, const struct addr *faddr)
{
	for (unsigned i = 0; i < p->part_count; i++)
		if (part_count(&p->parts[i], faddr) != 0)
			return true;
	return false;
}

static bool part_has(
	const struct pool_part *part, const struct addr *faddr, const struct addr *laddr)
{
	if (part->interface == NULL)
		return addr_goes_with(&part->first, faddr) && part->first.scope == laddr->scope &&
		       addr_number(laddr) - addr_number(&part->first) < part->size;
	for (uint64_t i = 0, count = interface_count(part->interface, faddr); i < count; i++) {
		struct addr a;

		if (interface_at(part->interface, faddr, i, &a) && addr_equal(&a, laddr))
			return true;
	}
	return false;
}

bool pool_has(const struct pool *p, const struct addr *faddr, const struct addr *laddr)
{
	for (unsigned i = 0; i < p->part_count; i++)
		if (part_has(&p->parts[i], faddr, laddr))
			return true;
	return false;
}

bool pool_at(
	const struct pool *p, const struct addr *faddr, uint64_t index, struct pool_place *place)
{
	for (unsigned i = 0; i < p->part_count; i++) {
		uint64_t count = part_count(&p->parts[i], faddr);

		if (index < count) {
			*place = (struct pool_place){
				.part = &p->parts[i], .index = index, .count = count};
			return part_at(&p->parts[i], faddr, index, &place->addr);
		}
		index -= count;
	}
	return false;
}

static uint64_t score_of(const struct addr *a, uint64_t seed)
{
	unsigned __int128 number = addr_number(a);

	return hash_mix(seed ^ hash_mix((uint64_t)number + hash_mix((uint64_t)(number >> 64))));
}

uint64_t pool_favourite(const struct pool *p, const struct addr *faddr, uint64_t seed,
	bool (*usable)(void *context, const struct addr *a), void *context)
{
	uint64_t best = 0, best_score = 0, number = 0;

	for (unsigned i = 0; i < p->part_count; i++) {
		uint64_t count = part_count(&p->parts[i], faddr);

		for (uint64_t k = 0; k < count; k++, number++) {
			struct addr a;

			if (!part_at(&p->parts[i], faddr, k, &a))
				continue;
			uint64_t score = score_of(&a, seed);
			if (score > best_score && usable(context, &a)) {
				best_score = score;
				best = number;
			}
		}
	}
	return best;
}
