/*
 * The addresses of the pools, as doctor looks at them: whether they are this host's, and what
 * routing and the neighbours make of them.
 */
#include "tools/common/probe.h"
#include "tools/common/proc.h"
#include "tools/doctor/parts.h"

#include "base/text.h"
#include "choose/interface.h"
#include "kernel/addresses.h"
#include "kernel/route.h"

#include <errno.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* Of a larger part so many addresses are looked at, spread over all of it. */
#define LOOKED_AT 256

/* So many missing ones are named in a command. */
#define NAMED_MAX 32

/* What came of the addresses of one part. */
struct census {
	unsigned looked_at, missing;
	struct addr missed[NAMED_MAX];
};

static bool nonlocal_bind(bool v4)
{
	uint64_t value;

	return proc_number(v4 ? "/proc/sys/net/ipv4/ip_nonlocal_bind"
			      : "/proc/sys/net/ipv6/ip_nonlocal_bind",
		       &value) &&
	       value != 0;
}

/*
 * Whether an address is this host's, as the library finds out: of IPv6 prefixes by the route, of
 * all others by bind(), unless that takes any address.
 */
static bool is_local(const struct pool_part *part, const struct addr *a)
{
	bool v4 = addr_is_v4(a);
	unsigned bits;

	if ((part->prefix_bits != 0 && !v4) || nonlocal_bind(v4))
		return route_is_local(a, &bits);
	return probe_bind(a, false, IPPROTO_TCP) != -EADDRNOTAVAIL;
}

static struct census take_census(const struct pool_part *part)
{
	unsigned count = part->size < LOOKED_AT ? (unsigned)part->size : LOOKED_AT;
	unsigned __int128 stride = part->size / count;
	struct census c = {.looked_at = count};

	for (unsigned i = 0; i < count; i++) {
		struct addr a = addr_from_number(addr_number(&part->first) + i * stride);

		a.scope = part->first.scope;
		if (is_local(part, &a))
			continue;
		if (c.missing < NAMED_MAX)
			c.missed[c.missing] = a;
		c.missing++;
	}
	return c;
}

/* Whether @a is of the network of an interface's address. */
static bool same_network(const struct ifaddrs *i, const struct addr *a)
{
	struct addr address, mask;
	uint16_t unused;
	socklen_t length = sizeof(struct sockaddr_in6); /* of either family at most */

	return i->ifa_addr != NULL && i->ifa_netmask != NULL &&
	       addr_from_sockaddr(i->ifa_addr, length, &address, &unused) &&
	       addr_from_sockaddr(i->ifa_netmask, length, &mask, &unused) &&
	       addr_is_v4(&address) == addr_is_v4(a) &&
	       ((addr_number(&address) ^ addr_number(a)) & addr_number(&mask)) == 0;
}

/* The interface whose network an address is of, or "lo". */
static void interface_for(const struct addr *a, char name[static IF_NAMESIZE])
{
	struct ifaddrs *list = NULL;

	snprintf(name, IF_NAMESIZE, "lo");
	if (getifaddrs(&list) < 0)
		return;
	for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next)
		if (!(i->ifa_flags & IFF_LOOPBACK) && same_network(i, a))
			snprintf(name, IF_NAMESIZE, "%s", i->ifa_name);
	freeifaddrs(list);
}

static const char *part_text(const struct pool_part *part)
{
	static struct text text;
	struct addr last;

	text_clear(&text);
	if (part->interface != NULL) {
		text_put(&text, interface_name(part->interface));
		return text.bytes;
	}
	text_put_addr(&text, &part->first);
	if (part->prefix_bits != 0) {
		text_put(&text, "/");
		text_put_number(&text, part->prefix_bits);
	} else if (part->size > 1) {
		last = addr_from_number(addr_number(&part->first) + (part->size - 1));
		text_put(&text, "-");
		text_put_addr(&text, &last);
	}
	return text.bytes;
}

/* The command that gives the host what it lacks. False: too many to be named. */
static bool command_for(
	const struct pool_part *part, const struct census *c, char command[static DOCTOR_COMMAND])
{
	const char *family = addr_is_v4(&part->first) ? "" : "-6 ";
	char address[ADDR_TEXT_MAX], device[IF_NAMESIZE];
	size_t at;

	if (part->prefix_bits != 0) {
		snprintf(command, DOCTOR_COMMAND, "ip %sroute add local %s dev lo", family,
			part_text(part));
		return true;
	}
	if (c->missing > NAMED_MAX || part->size > LOOKED_AT)
		return false;
	interface_for(&c->missed[0], device);
	if (c->missed[0].scope != 0)
		if_indextoname(c->missed[0].scope, device);
	at = (size_t)snprintf(command, DOCTOR_COMMAND, "for a in");
	for (unsigned i = 0; i < c->missing; i++) {
		struct addr plain = c->missed[i];

		plain.scope = 0;
		addr_format(&plain, address);
		at += (size_t)snprintf(command + at, DOCTOR_COMMAND - at, " %s", address);
	}
	const char *tail = addr_is_v4(&part->first) ? "" : " nodad";
	const char *bits = addr_is_v4(&part->first) ? "32" : "128";
	if (c->missing == 1)
		snprintf(command, DOCTOR_COMMAND, "ip %saddress add %s/%s dev %s%s", family,
			address, bits, device, tail);
	else
		snprintf(command + at, DOCTOR_COMMAND - at,
			"; do ip %saddress add $a/%s dev %s%s; done", family, bits, device, tail);
	return true;
}

static void look_at_range(struct doctor *d, const struct pool_part *part)
{
	struct census c = take_census(part);
	char command[DOCTOR_COMMAND];

	if (c.missing == 0) {
		doctor_tell(d, LEVEL_OK, "pool", NULL, NULL, "%s", part_text(part));
		return;
	}
	bool named = command_for(part, &c, command);
	doctor_tell(d, LEVEL_MEND, "pool",
		part->prefix_bits != 0
			? "they are passed over; a route makes all of the prefix this host's"
			: "they are passed over; the others have their share",
		named ? command : NULL, "%.200s: %u of %u looked at %s not this host's",
		part_text(part), c.missing, c.looked_at, c.missing == 1 ? "is" : "are");
}

static void look_at_interface(struct doctor *d, const struct pool_part *part)
{
	static struct addresses_buffer buffer;
	struct addr unused;
	int count = addresses_of(interface_name(part->interface), &unused, 1, &buffer);

	doctor_tell(d, count > 0 ? LEVEL_OK : LEVEL_MEND, "pool",
		"as long as it has none, routing chooses", NULL, "%s: %d address%s",
		interface_name(part->interface), count > 0 ? count : 0, count == 1 ? "" : "es");
}

static bool part_has(const struct pool_part *part, const char *device, const struct addr *a)
{
	if (part->interface != NULL)
		return strcmp(interface_name(part->interface), device) == 0;
	return addr_number(a) - addr_number(&part->first) < part->size;
}

static bool pools_have(const struct doctor *d, const char *device, const struct addr *a)
{
	for (unsigned i = 0; i < d->plan.rule_count; i++)
		for (unsigned k = 0; k < d->plan.rules[i].pool.part_count; k++)
			if (part_has(&d->plan.rules[i].pool.parts[k], device, a))
				return true;
	return false;
}

/* True for an interface that takes packets only from where it would send the answers. */
static bool filters_strictly(const char *device)
{
	char path[128];
	uint64_t all = 0, own = 0;

	proc_number("/proc/sys/net/ipv4/conf/all/rp_filter", &all);
	snprintf(path, sizeof path, "/proc/sys/net/ipv4/conf/%s/rp_filter", device);
	proc_number(path, &own);
	return (all > own ? all : own) == 1;
}

/* Counts the interfaces with IPv4 addresses of the pools, and those of them that filter. */
static void look_at_filters(struct doctor *d)
{
	struct ifaddrs *list = NULL;
	const char *first = NULL, *strict = NULL;
	bool several = false;
	struct addr a;
	uint16_t unused;

	if (getifaddrs(&list) < 0)
		return;
	for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
		if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET ||
			(i->ifa_flags & IFF_LOOPBACK) ||
			!addr_from_sockaddr(i->ifa_addr, sizeof(struct sockaddr_in), &a, &unused) ||
			!pools_have(d, i->ifa_name, &a))
			continue;
		several |= first != NULL && strcmp(first, i->ifa_name) != 0;
		first = i->ifa_name;
		if (filters_strictly(i->ifa_name))
			strict = i->ifa_name;
	}
	if (several && strict != NULL)
		doctor_tell(d, LEVEL_NOTE, "rp_filter",
			"the pool is on several interfaces: answers that come in on another one "
			"than routing sends to are dropped",
			"sysctl -w net.ipv4.conf.all.rp_filter=2", "1 (strict) on %s", strict);
	freeifaddrs(list);
}

/* Addresses of the pools that a neighbour has to learn, at most UINT32_MAX. */
static uint64_t count_neighbours(const struct doctor *d)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < d->plan.rule_count; i++) {
		for (unsigned k = 0; k < d->plan.rules[i].pool.part_count; k++) {
			const struct pool_part *part = &d->plan.rules[i].pool.parts[k];

			if (part->interface == NULL && addr_is_v4(&part->first) &&
				addr_reach(&part->first) != ADDR_LOOPBACK)
				count += (uint64_t)part->size;
		}
	}
	return count;
}

static void look_at_neighbours(struct doctor *d)
{
	uint64_t most, count = count_neighbours(d);
	char command[DOCTOR_COMMAND];

	if (!proc_number("/proc/sys/net/ipv4/neigh/default/gc_thresh3", &most) || count <= most)
		return;
	snprintf(command, sizeof command, "sysctl -w net.ipv4.neigh.default.gc_thresh3=%" PRIu64,
		2 * count);
	doctor_tell(d, LEVEL_NOTE, "gc_thresh3",
		"hosts of the same network keep a neighbour for each address; where that is full "
		"packets are dropped. There as here:",
		command, "%" PRIu64 ", the pools have %" PRIu64 " addresses", most, count);
}

static bool has_pool(const struct doctor *d)
{
	for (unsigned i = 0; i < d->plan.rule_count; i++)
		if (d->plan.rules[i].pool.part_count != 0)
			return true;
	return false;
}

static void look_at_nonlocal_bind(struct doctor *d, bool v4)
{
	if (nonlocal_bind(v4))
		doctor_tell(d, LEVEL_NOTE, v4 ? "ip_nonlocal_bind" : "ipv6.ip_nonlocal_bind",
			"addresses that are not this host's can be bound, so they are not passed "
			"over: connects from them wait in vain",
			v4 ? "sysctl -w net.ipv4.ip_nonlocal_bind=0"
			   : "sysctl -w net.ipv6.ip_nonlocal_bind=0",
			"1");
}

void doctor_pool(struct doctor *d)
{
	if (!has_pool(d)) {
		doctor_tell(d, LEVEL_OK, "pool", NULL, NULL, "none: routing chooses the address");
		return;
	}
	for (unsigned i = 0; i < d->plan.rule_count; i++) {
		for (unsigned k = 0; k < d->plan.rules[i].pool.part_count; k++) {
			const struct pool_part *part = &d->plan.rules[i].pool.parts[k];

			if (part->interface != NULL)
				look_at_interface(d, part);
			else
				look_at_range(d, part);
		}
	}
	look_at_nonlocal_bind(d, true);
	look_at_nonlocal_bind(d, false);
	look_at_filters(d);
	look_at_neighbours(d);
}
