#include "choose/pool.h"

#include "choose/dest.h"

#include <bsd/string.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#define POOL_FORM                                                                                  \
	"accepted: auto, or addresses, ranges (10.0.0.5-10.0.0.54), prefixes (10.0.0.0/28) and "   \
	"interface names, separated by commas"

/* A prefix may have more addresses than can be counted; this many are enough. */
#define COUNT_MAX (UINT64_C(1) << 62)

static int add_range(
	struct pool *p, const struct addr *first, unsigned __int128 count, struct fault *f)
{
	struct pool_range *more = reallocarray(p->ranges, p->range_count + 1, sizeof *more);

	if (more == NULL) {
		fault_set(f, "out of memory at start");
		return -ENOMEM;
	}
	p->ranges = more;
	p->ranges[p->range_count++] = (struct pool_range){
		.first = *first, .count = count > COUNT_MAX ? COUNT_MAX : (uint64_t)count};
	return 0;
}

static int add_prefix(struct pool *p, const struct dest *prefix, struct fault *f)
{
	unsigned host_bits = 128 - prefix->bits;
	unsigned __int128 count = host_bits >= 64 ? COUNT_MAX : (unsigned __int128)1 << host_bits;
	unsigned __int128 mask = host_bits == 128 ? 0 : ~(unsigned __int128)0 << host_bits;
	struct addr first = addr_from_number(addr_number(&prefix->prefix) & mask);

	return add_range(p, &first, count, f);
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
	return add_range(p, &first, more < COUNT_MAX ? more + 1 : COUNT_MAX, f);
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
	struct ifaddrs *list;
	unsigned before = p->range_count;
	int error = 0;

	if (if_nametoindex(name) == 0)
		return fault_set(f,
			"\"%.60s\" is neither an address nor an interface here; " POOL_FORM, name);
	if (getifaddrs(&list) < 0)
		return fault_set(f, "\"%s\": %s", name, strerror(errno));
	for (struct ifaddrs *i = list; i != NULL && error == 0; i = i->ifa_next) {
		struct addr a;
		uint16_t port;
		socklen_t length;

		if (strcmp(i->ifa_name, name) != 0 || i->ifa_addr == NULL)
			continue;
		length = i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
							   : sizeof(struct sockaddr_in6);
		if (addr_from_sockaddr(i->ifa_addr, length, &a, &port))
			error = add_range(p, &a, 1, f);
	}
	freeifaddrs(list);
	if (error == 0 && p->range_count == before)
		return fault_set(f, "interface \"%s\" has no address", name);
	return error;
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
	if (error == 0 && p->range_count == 0)
		error = fault_set(f, "no address given; " POOL_FORM);
	return error;
}

void pool_free(struct pool *p)
{
	free(p->ranges);
	*p = (struct pool){0};
}

static bool goes_with(const struct pool_range *r, const struct addr *faddr)
{
	return addr_is_v4(&r->first) == addr_is_v4(faddr) &&
	       addr_reach(&r->first) == addr_reach(faddr) &&
	       (addr_reach(faddr) != ADDR_LINK || r->first.scope == faddr->scope);
}

uint64_t pool_count(const struct pool *p, const struct addr *faddr)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < p->range_count; i++)
		if (goes_with(&p->ranges[i], faddr) && count < COUNT_MAX)
			count += p->ranges[i].count;
	return count;
}

struct addr pool_at(const struct pool *p, const struct addr *faddr, uint64_t index)
{
	for (unsigned i = 0; i < p->range_count; i++) {
		const struct pool_range *r = &p->ranges[i];

		if (!goes_with(r, faddr))
			continue;
		if (index < r->count) {
			struct addr a = addr_from_number(addr_number(&r->first) + index);

			a.scope = r->first.scope;
			return a;
		}
		index -= r->count;
	}
	return *faddr; /* not reached for index < pool_count() */
}
