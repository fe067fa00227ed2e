#include "tools/explain/explanation.h"

#include "base/log.h"
#include "kernel/diag.h"
#include "kernel/route.h"
#include "kernel/sysctl.h"
#include "table/slab.h"
#include "tools/common/probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>

/* The ports of one local address that the kernel has sockets on, towards the destination. */
struct kernel_lane {
	uint8_t laddr[16];
	struct portset held;	/* by somebody, or not closed to the end */
	struct portset present; /* these and those in TIME_WAIT */
	UT_hash_handle hh;
};

/* What is used on the way. */
struct look {
	struct explanation *e;
	struct plan plan;
	const struct rule *rule;
	struct netns netns;
	struct table table;
	struct kernel_lane *lanes;
	struct portset listened;
	struct portset udp; /* ports of all connected UDP sockets */
	bool no_memory;
};

static void see_socket(
	void *context, const struct tuplebind_lane *lane, uint16_t lport, enum diag_state state)
{
	struct look *l = context;
	struct kernel_lane *known;

	if (lane->protocol == IPPROTO_UDP)
		portset_add_range(&l->udp, lport, lport);
	if (lane->fport != l->e->fport ||
		memcmp(lane->faddr, l->e->faddr.bytes, sizeof lane->faddr) != 0)
		return;
	HASH_FIND(hh, l->lanes, lane->laddr, sizeof known->laddr, known);
	if (known == NULL) {
		known = calloc(1, sizeof *known);
		if (known == NULL) {
			l->no_memory = true;
			return;
		}
		memcpy(known->laddr, lane->laddr, sizeof known->laddr);
		HASH_ADD(hh, l->lanes, laddr, sizeof known->laddr, known);
	}
	portset_add_range(&known->present, lport, lport);
	if (state != DIAG_TIMEWAIT)
		portset_add_range(&known->held, lport, lport);
}

static void see_listener(void *context, uint16_t port)
{
	portset_add_range(context, port, port);
}

/* Asks for the sockets towards the destination; of UDP for all, which share the kernel's ports. */
static int look_at_kernel(struct look *l)
{
	bool udp = l->e->protocol == IPPROTO_UDP;
	int error = diag_dump(l->e->protocol, udp ? 0 : l->e->fport, see_socket, l);

	if (error == 0 && !udp)
		error = diag_listeners(see_listener, &l->listened);
	return l->no_memory ? -ENOMEM : error;
}

static const struct kernel_lane *kernel_lane(const struct look *l, const struct addr *laddr)
{
	static const struct kernel_lane none;
	struct kernel_lane *known;

	HASH_FIND(hh, l->lanes, laddr->bytes, sizeof known->laddr, known);
	return known != NULL ? known : &none;
}

static unsigned count_common(const struct portset *a, const struct portset *b)
{
	struct portset both = *a;

	portset_keep(&both, b);
	return portset_count(&both);
}

/* The address that routing chooses, and how many of the ports connect() would look at are in use.
 */
static void look_at_kernels_way(struct look *l)
{
	struct explanation *e = l->e;
	struct portset range, offered;
	struct addr faddr = e->faddr;

	sysctl_ports(&range, &offered);
	e->kernel_ports = portset_count(&offered);
	e->kernel_error = route_source(&faddr, e->protocol, e->fport, &e->kernel_source);
	if (e->protocol == IPPROTO_UDP)
		e->kernel_used = count_common(&l->udp, &offered);
	else if (e->kernel_error == 0)
		e->kernel_used =
			count_common(&kernel_lane(l, &e->kernel_source)->present, &offered);
}

/* Whether some slab that is nobody's, or has no claim, is where one of the lane would be. */
static bool has_room(const struct table *t, struct slab_key key)
{
	for (unsigned step = 0, end = slab_window(t); step < end; step++) {
		const struct tuplebind_slab *slab = slab_at(t, key, step);
		uint64_t tag = atomic_load_explicit(&slab->tag, memory_order_relaxed), claims = 0;

		for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++)
			claims |= atomic_load_explicit(&slab->claims[w], memory_order_relaxed);
		if (slab_state(tag) == TUPLEBIND_SLAB_FREE || claims == 0)
			return true;
	}
	return false;
}

static unsigned bits(uint64_t word)
{
	return (unsigned)__builtin_popcountll(word);
}

/* One port's bit, among those of a lane. */
typedef uint64_t lane_bits[TUPLEBIND_LANE_SLABS][TUPLEBIND_SLAB_WORDS];

static void set_bits(const struct look *l, const struct portset *ports, lane_bits to)
{
	memset(to, 0, sizeof(lane_bits));
	for (unsigned port = 1; port <= UINT16_MAX; port++) {
		if (!portset_has(ports, (uint16_t)port))
			continue;
		unsigned position = permutation_position(&l->table.permutation, (uint16_t)port);
		unsigned bit = position % TUPLEBIND_SLAB_PORTS;
		to[position / TUPLEBIND_SLAB_PORTS][bit / 64] |= UINT64_C(1) << (bit % 64);
	}
}

/* What nobody but the kernel keeps from us: sockets of others, listeners, and our own end. */
static void set_unavailable(const struct look *l, const struct addr *laddr, lane_bits to)
{
	struct portset ports = kernel_lane(l, laddr)->held;

	for (unsigned w = 0; w < sizeof ports.words / sizeof *ports.words; w++)
		ports.words[w] |= l->listened.words[w];
	if (addr_equal(laddr, &l->e->faddr))
		portset_add_range(&ports, l->e->fport, l->e->fport);
	set_bits(l, &ports, to);
}

/* Adds up the ports of one slab's number that are of @mask. */
static void count_word(struct explained_address *a, uint64_t mask, uint64_t claims,
	uint64_t unavailable, uint64_t held, bool room, bool late)
{
	unsigned available = bits(mask & ~claims & ~unavailable);

	a->claimed += bits(mask & claims);
	a->sockless += bits(mask & claims & ~held);
	a->others += bits(mask & ~claims & unavailable);
	if (!room) {
		a->roomless += available;
		return;
	}
	a->free += available;
	a->late_free += late ? available : 0;
}

static uint64_t claims_of(const struct tuplebind_slab *slab, unsigned word)
{
	return slab != NULL ? atomic_load_explicit(&slab->claims[word], memory_order_relaxed) : 0;
}

static void count_lane(struct look *l, struct explained_address *a)
{
	static lane_bits unavailable, held;
	struct portorder *order = &l->rule->ports->order;
	struct tuplebind_lane lane =
		slab_lane(l->e->protocol, &a->addr, &l->e->faddr, l->e->fport, 0);
	uint64_t hash = slab_lane_hash(&l->table, &lane), tag;

	set_unavailable(l, &a->addr, unavailable);
	set_bits(l, &kernel_lane(l, &a->addr)->held, held);
	for (unsigned number = 0; number < TUPLEBIND_LANE_SLABS; number++) {
		struct slab_key key = slab_key(&l->table, hash, number);
		const struct tuplebind_slab *slab = slab_find(&l->table, key, &tag);
		bool room = slab != NULL || has_room(&l->table, key);

		for (enum stage stage = STAGE_LATE; stage < STAGES; stage++) {
			const _Atomic uint64_t *mask = portorder_mask(order, stage, number);

			for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++)
				count_word(a, atomic_load_explicit(&mask[w], memory_order_relaxed),
					claims_of(slab, w), unavailable[number][w], held[number][w],
					room, stage == STAGE_LATE);
		}
	}
}

static int leave(struct explanation *e, const char *why)
{
	e->verdict = VERDICT_KERNEL;
	e->why = why;
	return 0;
}

static int fail(struct explanation *e, int error, const char *why)
{
	e->verdict = VERDICT_FAILS;
	e->error = error;
	e->why = why;
	return 0;
}

/* What all addresses of the walk came to. */
struct tally {
	unsigned misses;
	bool reapable, full, roomless, stopped;
};

/* One address of the walk, as addresses.c of the library goes on with it. */
static void look_at_address(
	struct look *l, struct source_walk *walk, struct tally *t, struct explained_address *a)
{
	struct explanation *e = l->e;

	a->error = probe_bind(&a->addr, walk->freebind, e->protocol);
	if (a->error == -EADDRNOTAVAIL) {
		source_walk_failed(walk);
		return;
	}
	if (a->error == 0 && !walk->automatic)
		a->error = route_check(&a->addr, &e->faddr);
	if (a->error != 0) {
		source_walk_unreachable(walk);
		t->misses++;
		/* With explicit bind the socket cannot change its address: the program is told. */
		if (e->chosen == NULL && !t->stopped &&
			(e->late_ports == 0 || t->misses >= SOURCE_MISSES_MOST)) {
			t->stopped = true;
			fail(e, -a->error, "no route leads from the address to the destination");
		}
		return;
	}
	count_lane(l, a);
	t->full |= a->free == 0 && a->roomless == 0;
	t->roomless |= a->free == 0 && a->roomless != 0;
	t->reapable |= a->free == 0 && a->sockless != 0;
}

/* What is to be said when no address had a tuple. */
static int conclude(struct look *l, const struct tally *t, const struct config *c)
{
	struct explanation *e = l->e;

	if (t->stopped)
		return 0;
	if (t->roomless)
		return leave(e, "the table is full; a larger --table-size counts when it is made");
	if (!t->full && e->looked_at == 0)
		return leave(
			e, e->automatic
				   ? "no route leads to the destination"
				   : "no address of the pool is this host's; see tuplebind doctor");
	if (!t->full)
		return leave(e, "none of the addresses can be used");
	if (t->reapable) {
		e->verdict = VERDICT_AFTER_REAP;
		return 0;
	}
	if (c->when_full == FULL_KERNEL)
		return leave(e, "no tuple is left, and full is kernel");
	return fail(e, e->protocol == IPPROTO_UDP ? EAGAIN : EADDRNOTAVAIL, "no tuple is left");
}

static int walk(struct look *l, const struct config *c)
{
	static struct source_memory memory;
	struct explanation *e = l->e;
	struct explained_address beyond = {.error = 0};
	struct source_walk walk;
	struct tally t = {.misses = 0};
	struct addr laddr;

	/* As the next program that starts will. */
	source_start(&memory, atomic_load_explicit(&l->table.header->turns, memory_order_relaxed));
	source_walk_start(
		&walk, &memory, l->rule, l->plan.balance, &e->faddr, e->protocol, e->fport);
	e->pool_count = walk.count;
	e->automatic = walk.automatic;
	while ((e->told < EXPLAINED_MAX || (e->chosen == NULL && !t.stopped)) &&
		source_walk_next(&walk, &laddr)) {
		struct explained_address *a =
			e->told < EXPLAINED_MAX ? &e->addresses[e->told++] : &beyond;

		*a = (struct explained_address){.addr = laddr};
		look_at_address(l, &walk, &t, a);
		e->looked_at++;
		e->set_aside += a->error != 0;
		if (a->error == 0 && a->free != 0 && e->chosen == NULL && !t.stopped) {
			e->chosen = &e->addresses[a == &beyond ? EXPLAINED_MAX - 1 : e->told - 1];
			*e->chosen = *a;
		}
	}
	if (e->chosen == NULL)
		return conclude(l, &t, c);
	e->verdict = VERDICT_SERVED;
	return 0;
}

/* Finds the table, or has an empty one stand in for it. 0, or the verdict is there. */
static int find_table(struct look *l, const struct config *c, bool *told, struct fault *f)
{
	struct explanation *e = l->e;
	struct fault inner = {.text = ""};
	bool private = c->table != NULL && strcmp(c->table, TABLE_PRIVATE) == 0;
	int error = netns_current(&l->netns);

	if (error < 0) {
		fault_set(f, "cannot tell the network namespace: %s", strerror(-error));
		return error;
	}
	error = private ? -ENOENT : table_find(&l->table, c->table, &l->netns, &inner);
	e->table_found = error == 0;
	if (error == 0)
		return 0;
	*told = error != -ENOENT;
	if (error == -ENOENT && !private && access(TABLE_DIRECTORY, W_OK | X_OK) < 0) {
		fault_set(&inner, "no table can be made: %s: %s", TABLE_DIRECTORY, strerror(errno));
		*told = true;
	}
	if (*told) {
		memcpy(e->why_text, inner.text, sizeof e->why_text);
		return leave(e, e->why_text);
	}
	return table_attach(&l->table, TABLE_PRIVATE, TABLE_SIZE_MIN, &l->netns, f);
}

static unsigned count_stage(const struct rule *r, enum stage stage)
{
	return atomic_load_explicit(&r->ports->order.counts[stage], memory_order_relaxed);
}

/* The ports of the rule, as the library sets them once it has met this kernel. */
static void set_ports(struct look *l)
{
	l->e->late_offered = probe_late_bind();
	if (!l->e->late_offered)
		atomic_store_explicit(&l->plan.late, 0, memory_order_relaxed);
	l->plan.permutation = &l->table.permutation;
	plan_set_ports(&l->plan);
	l->e->late_ports = count_stage(l->rule, STAGE_LATE);
	l->e->ports = l->e->late_ports + count_stage(l->rule, STAGE_ODD) +
		      count_stage(l->rule, STAGE_EVEN);
}

static unsigned count_skips(const char *list)
{
	char item[128];
	unsigned count = 0;

	while (list != NULL && parse_next(&list, ',', item, sizeof item) != 0)
		count++;
	return count;
}

/* Whether the destination is left alone before an address is looked for. */
static bool passes(struct look *l, const struct config *c)
{
	struct explanation *e = l->e;
	unsigned wanted = e->protocol == IPPROTO_UDP ? PROTOCOL_UDP : PROTOCOL_TCP;
	enum tuplebind_counter why;
	bool serves = plan_serves(&l->plan, &e->faddr, e->fport, &l->rule, &why);

	e->rule = (unsigned)(l->rule - l->plan.rules);
	e->rule_count = l->plan.rule_count;
	e->skips = count_skips(c->skip);
	e->skip = l->rule->skip;
	if (!(l->plan.protocols & wanted))
		leave(e, wanted == PROTOCOL_UDP ? "udp is not among the protocols"
						: "tcp is not among the protocols");
	else if (!serves)
		leave(e, why == TUPLEBIND_PASSED_SKIPPED
				 ? "a rule says so"
				 : "multicast and broadcast are left alone");
	else if (wanted == PROTOCOL_UDP && diag_answers(IPPROTO_UDP) < 0)
		leave(e, "the kernel tells nothing of UDP sockets (modprobe udp_diag)");
	else if (!plan_resolve_any(l->rule, false, &e->faddr))
		leave(e, "the ANY address is left alone where a pool is configured");
	else
		return false;
	return true;
}

static int explain(struct look *l, const struct config *c, struct fault *f)
{
	bool told = false;
	int error = plan_make(&l->plan, c, f);

	if (error < 0)
		return error;
	bool passed = passes(l, c);
	error = look_at_kernel(l);
	if (error < 0) {
		fault_set(
			f, "cannot ask for the kernel's sockets (sock_diag): %s", strerror(-error));
		return error;
	}
	look_at_kernels_way(l);
	if (passed)
		return 0;
	error = find_table(l, c, &told, f);
	if (error < 0 || told)
		return error;
	set_ports(l);
	error = walk(l, c);
	table_detach(&l->table);
	return error;
}

int explanation_make(struct explanation *e, const struct config *c, struct fault *f)
{
	static struct look l;
	struct kernel_lane *lane, *next;

	l = (struct look){.e = e};
	/* What the library would log is told otherwise here. */
	log_open(LOG_OFF, NULL);
	if (c->disabled)
		leave(e, "TUPLEBIND_DISABLE is set");
	int error = c->disabled ? 0 : explain(&l, c, f);
	HASH_ITER(hh, l.lanes, lane, next)
	{
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): each is freed once */
		HASH_DEL(l.lanes, lane);
		free(lane);
	}
	plan_free(&l.plan);
	return error;
}
