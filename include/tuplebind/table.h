/*
 * The tuple table: what its shared memory holds, for programs that read one.
 *
 * A table is one file in /dev/shm, owned by its user, mode 0600, named
 *
 *     tuplebind.<uid>.<inode of the network namespace>[.<TUPLEBIND_TABLE>][~<place>]
 *
 * The uid is the user's as the parent of his user namespace has it. A place, 1 to 7, is there when
 * others had the names before it.
 *
 * It knows which local ports of which lanes the processes of that user hold in that
 * network namespace. A lane is all tuples that differ only in their local port. It
 * consists of up to 128 slabs, and a slab has one bit for each of 512 ports. Which
 * port a bit stands for is told by a permutation that was drawn when the table was
 * made: position = 512 * slab number + bit, port = permutation(position).
 *
 * Slabs live in an open-addressed hash table without a directory. The identity of a
 * slab is the fingerprint of its lane and number in `tag`; `lane` and `number` are written
 * before the tag says so, and are for readers. How slabs come, go and are claimed in is
 * told in lib/table/slab.h.
 *
 * A reader maps the file read-only, checks magic, version and size against the
 * file's real size, and takes every word for what it is: a number that any process of
 * the user may have overwritten.
 */
#pragma once

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

static_assert(sizeof(void *) == 8, "the table's words are those of a 64-bit machine");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "no process waits for another one's lock");

#define TUPLEBIND_TABLE_MAGIC	UINT64_C(0x656c62616274706c)
#define TUPLEBIND_TABLE_VERSION 4

#define TUPLEBIND_SLAB_PORTS 512
#define TUPLEBIND_SLAB_WORDS (TUPLEBIND_SLAB_PORTS / 64)
#define TUPLEBIND_LANE_SLABS (65536 / TUPLEBIND_SLAB_PORTS)

/*
 * A slab's tag, from the top: 54 bits of fingerprint, 8 bits of generation (counts,
 * modulo 256, the lanes the slab has belonged to), 2 bits of state.
 */
#define TUPLEBIND_TAG_FINGERPRINT    (~UINT64_C(0x3ff))
#define TUPLEBIND_TAG_GENERATION     UINT64_C(0x3fc)
#define TUPLEBIND_TAG_ONE_GENERATION UINT64_C(0x4)

enum tuplebind_slab_state {
	TUPLEBIND_SLAB_FREE = 0,      /* never used; the whole tag is 0 */
	TUPLEBIND_SLAB_DEAD = 1,      /* used once, belongs to no lane now */
	TUPLEBIND_SLAB_TENTATIVE = 2, /* proposed, not to be claimed in yet */
	TUPLEBIND_SLAB_LIVE = 3,
	TUPLEBIND_SLAB_STATE_MASK = 3,
};

/* Addresses are sixteen bytes, IPv4 as ::ffff:a.b.c.d; numbers in host order. */
struct tuplebind_lane {
	uint8_t laddr[16];
	uint8_t faddr[16];
	uint32_t scope; /* interface index of link-local addresses and bound sockets, else 0 */
	uint16_t fport;
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	uint8_t reserved;
};
static_assert(sizeof(struct tuplebind_lane) == 40, "the lane has no padding");

#define TUPLEBIND_LANE_WORDS (sizeof(struct tuplebind_lane) / sizeof(uint64_t))

struct tuplebind_slab {
	_Atomic uint64_t tag;
	_Atomic uint32_t owner; /* process that is recycling the slab, else 0 */
	_Atomic uint32_t reserved;
	_Atomic uint64_t lane[TUPLEBIND_LANE_WORDS];
	_Atomic uint64_t number; /* which of the lane's 128 slabs */
	_Atomic uint64_t claims[TUPLEBIND_SLAB_WORDS];
};
static_assert(sizeof(struct tuplebind_slab) == 128, "two cache lines: one to find, one to claim");

enum tuplebind_counter {
	TUPLEBIND_BOUND,	   /* connects that were given a tuple */
	TUPLEBIND_LATE,		   /* of these, by late bind */
	TUPLEBIND_EXPLICIT,	   /* of these, by explicit bind */
	TUPLEBIND_TIMEWAIT_REUSED, /* of these, on a tuple in TIME_WAIT */
	TUPLEBIND_RETRIES,	   /* ports passed over because somebody else had them */
	TUPLEBIND_FULL,		   /* connects that found no tuple left */
	TUPLEBIND_PASSED,	   /* connects left to the kernel */
	TUPLEBIND_REAPED,	   /* claims given back by reap */
	TUPLEBIND_TABLE_FULL,	   /* of the passed ones, for want of a slab */
	/* Why the other passed ones were passed: */
	TUPLEBIND_PASSED_SKIPPED, /* a rule or TUPLEBIND_SKIP says so */
	TUPLEBIND_PASSED_BOUND,	  /* the program has chosen a port, or where to look for one */
	TUPLEBIND_PASSED_SPECIAL, /* multicast and the like; options that only the kernel can follow
				   */
	TUPLEBIND_PASSED_NAMESPACE, /* the socket is of another network namespace */
	TUPLEBIND_PASSED_HELPLESS,  /* no address could be bound */
	TUPLEBIND_PASSED_FULL,	    /* no tuple left, and TUPLEBIND_FULL=kernel */
	TUPLEBIND_COUNTERS,
};

/* Counters are spread over stripes so that processes do not share a cache line. */
#define TUPLEBIND_STRIPES 16

struct tuplebind_stripe {
	_Atomic uint64_t counters[TUPLEBIND_COUNTERS];
	_Atomic uint64_t given_back; /* counts cleared bits of claims, each after it was */
};
static_assert(sizeof(struct tuplebind_stripe) == 128, "a stripe is two whole cache lines");

#define TUPLEBIND_PROCESSES 1024

/* One attached process. */
struct tuplebind_process {
	_Atomic uint32_t pid; /* 0: the entry is free */
	_Atomic uint32_t reserved;
	_Atomic uint64_t start;		/* field 22 of /proc/PID/stat, 0: unknown */
	_Atomic uint64_t pid_namespace; /* inode of /proc/self/ns/pid */
	_Atomic uint64_t name[2];	/* as in /proc/PID/comm, NUL-padded */
	uint64_t unused[3];
};
static_assert(sizeof(struct tuplebind_process) == 64, "a process is one cache line");

#define TUPLEBIND_FLIGHTS 4096

/*
 * One connect() under way, from before its claim is made until the kernel knows of the
 * tuple: what it holds is nobody else's to reap.
 */
struct tuplebind_flight {
	_Atomic uint64_t owner; /* process id, above it its start time; 0: free */
	_Atomic uint64_t what;	/* the claim that it has made or is about to make, else 0 */
};

/* Claims that somebody finds out about whether they have a holder, by their place in the table. */
#define TUPLEBIND_INSPECTIONS 128

/* A byte permutation of eight Feistel rounds: round r maps byte b to rounds[r][b]. */
#define TUPLEBIND_ROUNDS 8

/* What a file begins with, and what a reader checks before it maps the rest. */
struct tuplebind_identity {
	uint64_t magic;
	uint32_t version;
	uint32_t slab_offset;  /* from the start of the file */
	uint64_t size;	       /* of the whole file */
	uint64_t netns;	       /* inode of the network namespace */
	uint64_t netns_cookie; /* SO_NETNS_COOKIE, 0 where the kernel has none */
	uint64_t created;      /* seconds since the epoch */
	uint64_t seal;	       /* hash of hash_key and rounds, keyed by hash_key */
};

struct tuplebind_header {
	struct tuplebind_identity identity;
	uint8_t hash_key[16];	 /* of the fingerprints (SipHash) */
	_Atomic uint64_t reaper; /* process id of who is reaping, above it the second it began */
	_Atomic uint64_t strays; /* counts events that may have left claims without a holder */
	_Atomic uint32_t processes_used; /* entries of processes that were ever in use */
	_Atomic uint32_t turns;		 /* gives each process a turn of its own in a pool */
	_Atomic uint64_t takings; /* counts claims that a reap takes away, each before it is */
	uint8_t unused[2048 - 56 - 16 - 32];
	uint8_t rounds[TUPLEBIND_ROUNDS][256];
	struct tuplebind_stripe stripes[TUPLEBIND_STRIPES];
	struct tuplebind_flight inspections[TUPLEBIND_INSPECTIONS]; /* who inspects which claim */
	_Atomic uint64_t explicit_ports[1024]; /* ports that explicit binds of ours have been on */
	_Atomic uint64_t udp_strangers[1024];  /* ports with UDP sockets that the table knows not */
	_Atomic uint8_t udp_claims[65536];     /* claims of each port for UDP; 255: not known */
	struct tuplebind_process processes[TUPLEBIND_PROCESSES];
	struct tuplebind_flight flights[TUPLEBIND_FLIGHTS];
};
static_assert(sizeof(struct tuplebind_header) % 4096 == 0, "slabs begin on a page");
