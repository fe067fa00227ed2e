/*
 * The environment variables: addresses, ports, rules, and all the rest, as the library reads them
 * at start.
 *
 * The input is lines NAME=VALUE, as env(1) prints them, without "TUPLEBIND_"; of a name the last
 * one counts. What is accepted must mean the same when it is written down and read again, decide
 * for each destination as its rules say one by one, and give no port that was not named.
 */
#include "fuzz.h"

#include "base/hash.h"
#include "choose/plan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

unsigned __wrap_if_nametoindex(const char *name);

/* Two interfaces, without an address: rtnetlink is not there. */
unsigned __wrap_if_nametoindex(const char *name)
{
	return strcmp(name, "lo") == 0 ? 1 : strcmp(name, "eth0") == 0 ? 2 : 0;
}

/* A host whose kernel has no netlink and no /proc: the default range of ports. */
static long kernel(long number, const long a[static 6])
{
	switch (number) {
	case SYS_socket:
		errno = EAFNOSUPPORT;
		return -1;
	case SYS_openat:
		errno = ENOENT;
		return -1;
	default:
		return FUZZ_REAL;
	}
}

static void check_addr(const char *text)
{
	char again[ADDR_TEXT_MAX];
	struct addr a, b;

	if (addr_parse(text, &a) < 0)
		return;
	int length = addr_format(&a, again);
	fuzz_check(length == (int)strlen(again) && length < ADDR_TEXT_MAX);
	fuzz_check(addr_parse(again, &b) == 0 && addr_equal(&a, &b), "%s, %s", text, again);
	/* Libc writes some of the oldest forms as IPv4 behind a "::". */
	char as_libc[INET6_ADDRSTRLEN];
	fuzz_check(inet_ntop(AF_INET6, a.bytes, as_libc, sizeof as_libc) != NULL);
	fuzz_check(strchr(as_libc, '.') != NULL || strcmp(as_libc, again) == 0, "%s, %s", as_libc,
		again);
	struct addr c = addr_from_number(addr_number(&a));
	fuzz_check(addr_equal(&a, &c));
	fuzz_check(addr_class(&a) < ADDR_CLASSES && addr_goes_with(&a, &b));
	for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET) {
		struct sockaddr_storage storage;
		socklen_t size = addr_to_sockaddr(&a, 80, family, &storage);
		uint16_t port;

		fuzz_check((size == 0) == (family == AF_INET && !addr_is_v4(&a)));
		fuzz_check(size == 0 ||
			   (addr_from_sockaddr((struct sockaddr *)&storage, size, &b, &port) &&
				   port == 80 && addr_equal(&a, &b)));
	}
}

static void check_dest(const char *item)
{
	struct fault f;
	struct dest d, again;
	char text[160], address[ADDR_TEXT_MAX];

	if (dest_parse(item, &d, &f) < 0) {
		fuzz_check_line(f.text);
		return;
	}
	fuzz_check(d.bits <= 128 && (!addr_is_v4(&d.prefix) || d.bits >= 96));
	addr_format(&d.prefix, address);
	unsigned bits = d.bits - (addr_is_v4(&d.prefix) ? 96 : 0);
	if (d.port != 0)
		snprintf(text, sizeof text, "[%s/%u]:%u", address, bits, d.port);
	else
		snprintf(text, sizeof text, "%s/%u", address, bits);
	fuzz_check(dest_parse(text, &again, &f) == 0, "%s, from %s", text, item);
	fuzz_check(again.bits == d.bits && again.port == d.port &&
			   addr_equal(&again.prefix, &d.prefix),
		"%s, from %s", text, item);
}

/* Writes a set of ports as TUPLEBIND_PORTS has it. */
static char *ports_text(const struct portset *s)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	fuzz_check(out != NULL);
	for (unsigned port = 1; port <= UINT16_MAX; port++) {
		unsigned last = port;

		if (s->words[port / 64] == 0)
			port |= 63;
		if (!portset_has(s, (uint16_t)port))
			continue;
		while (last < UINT16_MAX && portset_has(s, (uint16_t)(last + 1)))
			last++;
		fprintf(out, "%s%u-%u", ftell(out) > 0 ? "," : "", port, last);
		port = last;
	}
	fuzz_check(fclose(out) == 0);
	return text;
}

static void check_ports(const struct ports *p)
{
	struct portset offered, wanted;
	struct ports again;
	struct fault f;

	portset_clear(&offered);
	portset_add_range(&offered, 32768, 60999);
	ports_resolve(p, &offered, &wanted);
	fuzz_check(!portset_has(&wanted, 0));
	fuzz_check(p->part >= 1 && p->part <= p->parts && p->parts <= PORTS_PARTS_MAX);
	for (unsigned port = 0; port <= UINT16_MAX; port++)
		fuzz_check(!portset_has(&wanted, (uint16_t)port) || port % p->parts == p->part - 1);
	if (p->automatic)
		return;
	char *text = ports_text(&wanted);
	/* Every second port takes more than a list may have. */
	if (strlen(text) < 4096) {
		fuzz_check(ports_parse(text, &again, &f) == 0, "%s: %s", text, f.text);
		fuzz_check(memcmp(&again.list, &wanted, sizeof wanted) == 0, "%s", text);
	}
	free(text);
}

static void check_pool(const struct pool *p, const struct addr *faddr)
{
	uint64_t count = pool_count(p, faddr);

	fuzz_check(pool_serves(p, faddr) == (count > 0));
	for (uint64_t i = 0; i < 8; i++) {
		/* The first ones, the last ones, and some between. */
		uint64_t index = i < 3	 ? i
				 : i < 6 ? count - 1 - (i - 3)
					 : hash_mix(count + i) % (count + 1);
		struct pool_place place;
		bool there = pool_at(p, faddr, index, &place);

		fuzz_check(there == (index < count), "%llu of %llu", (unsigned long long)index,
			(unsigned long long)count);
		fuzz_check(!there || place.index < place.count);
		fuzz_check(!there || addr_is_v4(&place.addr) == addr_is_v4(faddr));
	}
}

static bool matches(const struct dest *d, const struct addr *faddr, uint16_t fport)
{
	if (addr_is_v4(&d->prefix) != addr_is_v4(faddr) || (d->port != 0 && d->port != fport))
		return false;
	for (unsigned bit = 0; bit < d->bits; bit++)
		if ((d->prefix.bytes[bit / 8] ^ faddr->bytes[bit / 8]) & 0x80 >> bit % 8)
			return false;
	return true;
}

static void check_destination(const struct plan *p, const struct addr *faddr, uint16_t fport)
{
	enum tuplebind_counter why;
	const struct rule *rule;
	struct addr resolved = *faddr;
	unsigned first = 0;

	while (first < p->dests.count && !matches(&p->dests.dests[first], faddr, fport))
		first++;
	fuzz_check(dest_index_find(&p->dests, faddr, fport) == first);
	bool served = plan_serves(p, faddr, fport, &rule, &why);
	fuzz_check(rule == &p->rules[first] && !(served && rule->skip));
	if (rule->skip)
		return;
	check_pool(&rule->pool, faddr);
	fuzz_check(!plan_resolve_any(rule, false, &resolved) || !addr_is_any(&resolved));
}

static void check_plan(struct plan *p)
{
	static const struct permutation permutation;
	static const char *const usual[] = {"127.0.0.1", "10.0.0.1", "192.0.2.1", "0.0.0.0",
		"255.255.255.255", "::1", "fe80::1", "2001:db8::1", "::", "ff02::1"};
	struct addr a;

	fuzz_check(p->rule_count == p->dests.count + 1);
	for (unsigned i = 0; i < p->ports_count; i++)
		check_ports(&p->ports[i]->wanted);
	p->permutation = &permutation;
	if (p->ports_count < 8)
		plan_set_ports(p);
	for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
		fuzz_check(addr_parse(usual[i], &a) == 0);
		check_destination(p, &a, 80);
		check_destination(p, &a, 0);
	}
	for (unsigned i = 0; i < p->dests.count && i < 32; i++) {
		const struct dest *d = &p->dests.dests[i];

		check_destination(p, &d->prefix, d->port);
		a = d->prefix;
		a.bytes[(d->bits + 7) / 8 % 16] ^= 1;
		check_destination(p, &a, 443);
	}
}

/* Each piece of a value by itself, whatever the variable. */
static void check_pieces(const char *value)
{
	char item[160];
	uint64_t number;
	int got;

	while ((got = parse_next(&value, ',', item, sizeof item)) != 0) {
		fuzz_check((got == 1 || got == -E2BIG) && strlen(item) < sizeof item);
		check_addr(item);
		check_dest(item);
		fuzz_check(parse_number(item, 5, 70000, &number) < 0 ||
			   (number >= 5 && number <= 70000));
		fuzz_check(parse_size(item, 1 << 18, UINT64_C(1) << 34, &number) < 0 ||
			   (number >= 1 << 18 && number <= UINT64_C(1) << 34));
	}
}

static int variable_of(const char *name, size_t length)
{
	for (int i = 0; config_names[i] != NULL; i++)
		if (strlen(config_names[i]) == length &&
			strncmp(config_names[i], name, length) == 0)
			return i;
	return -1;
}

/* What came of a variable that was accepted. */
static void check_config(const struct config *c)
{
	fuzz_check(c->balance <= BALANCE_PACK && c->when_full <= FULL_KERNEL &&
		   c->when_unusable <= UNUSABLE_FAIL && c->backend <= BACKEND_EXPLICIT &&
		   c->log_level <= LOG_DEBUG);
	fuzz_check(c->protocols >= PROTOCOL_TCP && c->protocols <= (PROTOCOL_TCP | PROTOCOL_UDP));
	fuzz_check(c->table_size >= 256 << 10 && c->table_size <= UINT64_C(16) << 30);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	char *lines[64];
	unsigned count = 0;
	struct fault f = {.text = ""};
	struct config config;
	struct plan plan;

	fuzz_kernel = kernel;
	fuzz_random_start();
	config_start(&config);
	while (count < 64 && (lines[count] = input_text(&in, '\n')) != NULL) {
		const char *line = lines[count++], *equals = strchr(line, '=');
		int variable = equals != NULL ? variable_of(line, (size_t)(equals - line)) : -1;

		if (variable < 0)
			continue;
		check_pieces(equals + 1);
		if (config_set(&config, (unsigned)variable, equals + 1, &f) < 0) {
			fuzz_check(strncmp(f.text, "TUPLEBIND_", 10) == 0);
			fuzz_check_line(f.text);
		}
		check_config(&config);
	}
	int error = plan_make(&plan, &config, &f);
	fuzz_check(error == 0 || error == -EINVAL || error == -ENOMEM);
	if (error == 0)
		check_plan(&plan);
	else
		fuzz_check_line(f.text);
	plan_free(&plan);
	while (count > 0)
		free(lines[--count]);
	return 0;
}
