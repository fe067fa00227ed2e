/*
 * Local ports as TUPLEBIND_PORTS and the rules name them.
 *
 *     PORTS = auto | LIST, and behind either, optionally, /N:K
 *
 * A list is "20000-40000,50000". "/N:K" takes part K of N equal ones, for hosts that share an
 * address: the ports whose remainder by N is K - 1. Which part a port belongs to depends on
 * nothing else, so the parts of hosts whose ranges differ do not overlap either; blocks of each
 * host's own range would.
 */
#pragma once

#include "base/parse.h"
#include "base/portset.h"

#define PORTS_PARTS_MAX 1024

/* The accepted form, for messages. */
#define PORTS_FORM                                                                                 \
	"accepted: auto, or ports (1-65535) and ranges like 20000-40000, separated by commas; "    \
	"behind either /N:K for part K of N (N from 1 to 1024)"

struct ports {
	bool automatic;	      /* what the kernel offers; else the list */
	struct portset list;  /* empty when automatic */
	unsigned parts, part; /* 1 of 1: all of them */
};

/* Reads PORTS. Returns 0, or -EINVAL with the fault told. */
int ports_parse(const char *text, struct ports *p, struct fault *f);

/* The ports that @p means when the kernel offers @offered. O(1024), and with parts O(65536 /
 * parts). */
void ports_resolve(const struct ports *p, const struct portset *offered, struct portset *wanted);
