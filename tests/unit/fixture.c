#include "fixture.h"

#include "../helpers/refusal.h"
#include "base/addr.h"
#include "choose/config.h"
#include "choose/ports.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

void fixture_need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "the test cannot go on: %s\n", what);
	abort();
}

void fixture_table(struct table *t, uint64_t slabs)
{
	struct netns ns = {.inode = 1, .cookie = 1};
	struct fault f = {.text = ""};

	fixture_need(table_attach(t, TABLE_PRIVATE, TABLE_SIZE_MIN, &ns, &f) == 0, f.text);
	if (slabs != 0)
		t->slab_count = slabs;
}

struct tuplebind_lane fixture_lane(unsigned n)
{
	struct tuplebind_lane lane = {
		.laddr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1},
		.faddr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 2},
		.fport = 80,
		.protocol = IPPROTO_TCP,
	};

	/* Neighbours in number are alike in all but few bits, as real destinations are. */
	lane.fport = (uint16_t)(lane.fport + n % 8);
	lane.faddr[14] = (uint8_t)(n / 8);
	lane.faddr[13] = (uint8_t)(n / 2048);
	return lane;
}

struct slab_key fixture_key(
	const struct table *t, const struct tuplebind_lane *lane, unsigned number)
{
	return slab_key(t, slab_lane_hash(t, lane), number);
}

struct tuplebind_slab *fixture_obtain(
	struct table *t, struct tuplebind_lane lane, unsigned number, uint64_t *tag)
{
	struct slab_first first = {.bit = 42};
	struct tuplebind_slab *slab =
		slab_obtain(t, &lane, fixture_key(t, &lane, number), number, &first, tag);

	if (first.claim != CLAIM_NONE)
		claim_give_back(t, first.claim);
	return slab;
}

void fixture_positions(struct portset *s, const struct table *t, unsigned number, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint16_t port = permutation_port(
			&t->permutation, (uint16_t)(number * TUPLEBIND_SLAB_PORTS + i));

		portset_add_range(s, port, port);
	}
}

static struct portorder *order_of(
	const struct table *t, const struct portset *late, const struct portset *explicit_ports)
{
	struct portorder *o = calloc(1, sizeof *o);

	fixture_need(o != NULL, "no memory");
	portorder_set(o, &t->permutation, late, explicit_ports);
	return o;
}

struct portset fixture_ports(const char *list)
{
	struct fault f = {.text = ""};
	struct ports ports = {.parts = 1};

	fixture_need(list == NULL || ports_parse(list, &ports, &f) == 0, f.text);
	return ports.list;
}

struct portorder *fixture_order(const struct table *t, const char *late, const char *explicit_ports)
{
	struct portset sets[] = {fixture_ports(late), fixture_ports(explicit_ports)};

	return order_of(t, &sets[0], &sets[1]);
}

struct portorder *fixture_order_of(const struct table *t, const struct portset *late)
{
	struct portset none;

	portset_clear(&none);
	return order_of(t, late, &none);
}

struct claim_walk *fixture_walk(void)
{
	struct claim_walk *w = calloc(1, sizeof *w);

	fixture_need(w != NULL, "no memory");
	claim_walk_start(w);
	return w;
}

unsigned fixture_claims(const struct table *t)
{
	unsigned count = 0;

	for (uint64_t i = 0; i < t->slab_count; i++)
		for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++)
			count += (unsigned)__builtin_popcountll(
				atomic_load_explicit(&t->slabs[i].claims[w], memory_order_relaxed));
	return count;
}

unsigned fixture_slabs(const struct table *t, struct slab_key key, enum tuplebind_slab_state state)
{
	unsigned count = 0;

	for (uint64_t i = 0; i < t->slab_count; i++) {
		uint64_t tag = atomic_load_explicit(&t->slabs[i].tag, memory_order_relaxed);

		count += slab_is(tag, key) && slab_state(tag) == state;
	}
	return count;
}

void *fixture_shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	fixture_need(memory != MAP_FAILED, "no shared memory");
	return memory;
}

static void local_of(int fd, uint8_t address[16], uint16_t *port)
{
	struct sockaddr_in in;
	socklen_t length = sizeof in;
	struct addr a;

	fixture_need(getsockname(fd, (struct sockaddr *)&in, &length) == 0, "getsockname");
	fixture_need(addr_from_sockaddr((struct sockaddr *)&in, length, &a, port), "its address");
	memcpy(address, a.bytes, sizeof a.bytes);
}

void fixture_connect(struct fixture_connection *c)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t length = sizeof in;

	memset(&c->lane, 0, sizeof c->lane);
	c->lane.protocol = IPPROTO_TCP;
	c->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	c->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fixture_need(bind(c->listener, (struct sockaddr *)&in, sizeof in) == 0 &&
			     listen(c->listener, 1) == 0 &&
			     getsockname(c->listener, (struct sockaddr *)&in, &length) == 0 &&
			     connect(c->client, (struct sockaddr *)&in, length) == 0,
		"a connection over loopback");
	c->server = accept(c->listener, NULL, NULL);
	fixture_need(c->server >= 0, "accept");
	local_of(c->client, c->lane.laddr, &c->lport);
	local_of(c->listener, c->lane.faddr, &c->lane.fport);
}

void fixture_disconnect(struct fixture_connection *c)
{
	struct linger reset = {.l_onoff = 1};

	if (c->client < 0)
		return;
	setsockopt(c->client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	close(c->client);
	close(c->server);
	c->client = c->server = -1;
}

void fixture_reconnect(struct fixture_connection *c)
{
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_in to = from;
	int on = 1;

	from.sin_port = htons(c->lport);
	to.sin_port = htons(c->lane.fport);
	c->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(c->client, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	fixture_need(bind(c->client, (struct sockaddr *)&from, sizeof from) == 0 &&
			     connect(c->client, (struct sockaddr *)&to, sizeof to) == 0,
		"the same connection again");
	c->server = accept(c->listener, NULL, NULL);
	fixture_need(c->server >= 0, "accept");
}

void fixture_refuse(int number, int argument, uint32_t value, int error)
{
	fixture_need(refuse_call(number, argument, value, error) == 0, "seccomp");
}

uint64_t fixture_random(uint64_t *state)
{
	return hash_mix(*state += UINT64_C(0x9e3779b97f4a7c15));
}

uint32_t fixture_dead_pid(void)
{
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	fixture_need(child > 0 && waitpid(child, NULL, 0) == child, "fork");
	return (uint32_t)child;
}

int fixture_scratch(void)
{
	int fd = memfd_create("scratch", MFD_CLOEXEC);

	fixture_need(fd >= 0, "memfd_create");
	return fd;
}

const char *fixture_contents(int fd)
{
	static char bytes[16384];
	ssize_t got = pread(fd, bytes, sizeof bytes - 1, 0);

	fixture_need(got >= 0, "pread");
	bytes[got] = '\0';
	return bytes;
}

void fixture_variable(const char *name, const char *value)
{
	char full[64];

	snprintf(full, sizeof full, "TUPLEBIND_%s", name);
	fixture_need((value ? setenv(full, value, 1) : unsetenv(full)) == 0, "setenv");
}

void fixture_clean_environment(void)
{
	for (int i = 0; config_names[i] != NULL; i++)
		fixture_variable(config_names[i], NULL);
}
