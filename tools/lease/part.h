/*
 * One part of the ports of a shared address, leased from etcd.
 *
 * Under /tuplebind/NAME/ stand `count`, the number of parts that all hosts have to agree on, and
 * `parts/K` for each part taken. The latter is bound to an etcd lease of its holder and goes when
 * that runs out; its value tells who the holder is. A part is taken by a transaction that makes its
 * key only where there is none, so no two hosts hold the same.
 *
 * How long the part is certainly held is counted from before the request that renewed it, by
 * CLOCK_BOOTTIME, which goes on while the machine sleeps.
 *
 * All calls that ask etcd return 0 or -errno with the fault told in @p->etcd->fault.
 */
#pragma once

#include "tools/common/clock.h"
#include "tools/lease/etcd.h"

#define PART_COUNT_PRESET 16

struct part {
	struct etcd *etcd;
	const char *name;
	unsigned number, count; /* part number of count; 0: none taken */
	unsigned ttl_wanted;	/* seconds */
	unsigned ttl;		/* as granted */
	int64_t lease;		/* 0: none */
	uint64_t held_until;	/* by boot_ms() */
	char key[128], value[ETCD_VALUE_MAX];
};

/* Milliseconds of CLOCK_BOOTTIME. */
static inline uint64_t boot_ms(void)
{
	return clock_ms(CLOCK_BOOTTIME);
}

void part_init(struct part *p, struct etcd *e, const char *name, unsigned ttl);

/*
 * Agrees with the other hosts on the number of parts: @wanted, or 0 for what they have (16 where
 * there are none). Another number than theirs: -EINVAL.
 */
int part_agree(struct part *p, unsigned wanted);

/*
 * Takes a free part, drawn at random, for process @pid of this host. All taken: -EAGAIN. A failure
 * leaves no lease behind if etcd can be reached.
 */
int part_take(struct part *p, int pid);

/* Renews the part. It is somebody else's or nobody's now: -ENOENT. */
int part_renew(struct part *p);

/* Takes the same part again after it was lost. Somebody else holds it: -EBUSY; the count is another
 * now: -EINVAL. */
int part_regain(struct part *p);

/*
 * Leaves the part to run out in @seconds or the TTL, whichever is longer, from now. *left: in how
 * many seconds it does.
 */
int part_leave(struct part *p, unsigned seconds, unsigned *left);

/* Gives the part back, so that it can be taken at once. */
int part_give_back(struct part *p);
