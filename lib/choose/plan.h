/*
 * The plan: what TUPLEBIND_ADDRS, _PORTS, _RULES and _SKIP come to.
 *
 * A list of rules, each with the destinations it is for, a pool and ports; the first
 * that matches decides. Destinations to skip come first, the general rule last, so every
 * destination has a rule. Made once at start (this takes memory); looked at without
 * locks by connect().
 */
#pragma once

#include "choose/config.h"
#include "choose/destindex.h"
#include "choose/pool.h"
#include "choose/ports.h"
#include "kernel/netns.h"
#include "table/portorder.h"

/* Ports as one rule names them; rules that name the same share one. */
struct plan_ports {
	const char *text; /* owned */
	struct ports wanted;
	struct portorder order;
};

struct rule {
	bool skip;
	struct pool pool;
	struct plan_ports *ports;
};

struct plan {
	unsigned protocols; /* taken over, of enum protocols */
	_Atomic int late;   /* 1: this kernel has late bind and it is wanted */
	enum balance balance;
	enum when_full when_full;
	enum when_unusable when_unusable;
	const struct permutation *permutation;
	const struct netns *home; /* whose ports they are; NULL: whichever the caller is in */
	_Atomic uint64_t looked;  /* second of the last look at the kernel's ports */
	uint64_t known; /* what the ports were worked out from, as a hash; 0: nothing yet */
	unsigned rule_count, ports_count;
	struct dest_index dests; /* of the rules but the last, the general one */
	struct rule *rules;
	struct plan_ports **ports;
};

/*
 * Makes the plan of @c. Returns 0, -EINVAL or -ENOMEM with the fault told ("VARIABLE: what");
 * plan_free() in any case. The ports are unset until plan_set_ports().
 */
int plan_make(struct plan *p, const struct config *c, struct fault *f);
void plan_free(struct plan *p);

/*
 * Reads the kernel's port range and reserved ports and works out which ports are for late and which
 * for explicit bind: at start, when late bind proved missing, when the range proved changed. What
 * cannot be read (no descriptor left, no /proc, another network namespace than @p->home) changes
 * nothing, but at start, when the kernel's default range stands in. Returns 1 when something is
 * different now, 0, or -EBUSY when another thread is at it: then the next plan_look_at_ports() does
 * it. Takes no memory; async-signal-safe. 30 us.
 */
int plan_set_ports(struct plan *p);

/*
 * The same once a second, on the way of a connect(): a look at the clock in between. True when
 * something is different now.
 */
bool plan_look_at_ports(struct plan *p);

/* Whether late bind is wanted, and this kernel was not seen to lack it. */
static inline bool plan_has_late(const struct plan *p)
{
	return atomic_load_explicit(&p->late, memory_order_relaxed);
}

/* The rule for everything that no other rule is for: what TUPLEBIND_ADDRS and _PORTS say. */
static inline const struct rule *plan_general_rule(const struct plan *p)
{
	return &p->rules[p->rule_count - 1];
}

/* The rule for a destination. As dest_index_find(). */
static inline const struct rule *plan_rule(
	const struct plan *p, const struct addr *faddr, uint16_t fport)
{
	return &p->rules[dest_index_find(&p->dests, faddr, fport)];
}

/*
 * Whether the rules and the kernel leave the destination to us: not if it is skipped, multicast or
 * broadcast. Sets the rule, and *why for when it is not.
 */
bool plan_serves(const struct plan *p, const struct addr *faddr, uint16_t fport,
	const struct rule **rule, enum tuplebind_counter *why);

/*
 * The kernel takes the ANY address for this host: for the socket's own address when it has one (or
 * a pool would give it one; false then), else for the loopback address, which *faddr becomes.
 */
bool plan_resolve_any(const struct rule *rule, bool address_given, struct addr *faddr);
