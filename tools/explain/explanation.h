/*
 * What the library would do with a connect to one destination now, and what the kernel alone would.
 *
 * The library's own code decides: its plan, its walk through the pool, its ports; what is looked at
 * beside that is the table (read-only) and the kernel's sockets. No packet is sent, nothing is
 * claimed, and of the kernel no port is taken. A connect a moment later may find another world.
 */
#pragma once

#include "choose/source.h"

/* What becomes of the connect. */
enum verdict {
	VERDICT_SERVED,
	VERDICT_AFTER_REAP, /* served, once claims without a socket have been given back */
	VERDICT_KERNEL,	    /* left to the kernel: see @why */
	VERDICT_FAILS	    /* with @error */
};

/* The tuples of one address towards the destination. */
struct explained_address {
	struct addr addr;
	int error;	  /* 0; -EADDRNOTAVAIL: not this host's; else why no route leads from it */
	unsigned claimed; /* ports of the rule, in the table */
	unsigned
		sockless; /* of these: without a socket of the kernel, so reap may give them back */
	unsigned others;  /* ports that are not claimed, but the kernel has given to somebody */
	unsigned roomless;  /* free ports that the table has no room for */
	unsigned late_free; /* free by late bind */
	unsigned free;	    /* free by either way */
};

/* So many addresses are told of one by one; the library's walk goes on after them. */
#define EXPLAINED_MAX 512

struct explanation {
	/* Filled in by the caller. */
	struct addr faddr;
	uint16_t fport;
	uint8_t protocol;

	enum verdict verdict;
	const char *why; /* why it is left to the kernel, or fails; NULL else */
	char why_text[400];
	int error;
	bool late_offered; /* by this kernel */
	unsigned rule;	   /* its number in the plan, rule_count - 1: the general one */
	unsigned skips;	   /* rules of the plan that TUPLEBIND_SKIP has made */
	unsigned rule_count;
	bool skip;
	bool automatic; /* routing chooses the address */
	uint64_t pool_count;
	unsigned ports, late_ports; /* of the rule; by late bind */
	bool table_found;
	struct explained_address *chosen; /* NULL: none */
	unsigned looked_at, set_aside;	  /* how many addresses, and how many of them not usable */
	unsigned told;
	struct explained_address addresses[EXPLAINED_MAX];

	/* Without tuplebind. */
	struct addr kernel_source;
	int kernel_error; /* why there is none */
	unsigned kernel_ports, kernel_used;
};

/* Works it out for the settings @c. Returns 0, or -errno with the fault told. */
int explanation_make(struct explanation *e, const struct config *c, struct fault *f);
