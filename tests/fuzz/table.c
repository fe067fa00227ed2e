/*
 * The table as a preloaded program uses it, while somebody scribbles over it.
 *
 * The input is a list of steps: damage (damage.h), and what the library does on the way of
 * connect() and close(): claims, give-backs, flights, reap, processes. The table is damaged before
 * it is attached to or afterwards, or not at all. No step may crash or take long. Ports are always
 * of those that were asked for. As long as nothing was damaged, no claim is given out twice, every
 * claim comes back, a lane is refused only when it is full, and reap takes what has no socket and
 * nothing else.
 */
#include "damage.h"

#include "table/process.h"
#include "table/reap.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STEPS	   48
#define HELD	   64
#define LANES	   (DAMAGE_LANES + 3)
#define WORK_MOST  4		    /* of the steps that take a millisecond */
#define CALLS_MOST (512 * 5 * 4096) /* of the kernel, in one step */

/* What the process holds. */
struct holding {
	claim c;
	unsigned lane;
	uint16_t port;
	bool has_socket;
};

struct run {
	struct table t;
	bool damaged;
	struct holding held[HELD];
	unsigned held_count, work;
	struct tuplebind_flight *flight;
	struct process_self self;
	uint64_t calls; /* of the kernel in this step */
};

static struct run run;
static int file;
static struct portorder order;
static struct claim_walk walk;

/* Ports that the order of the fuzzed process has, by stage. */
static struct portset offered[STAGES];

/* The kernel: sock_diag knows what has a socket. */

static struct {
	struct nlmsghdr head;
	struct inet_diag_req_v2 body;
} asked;

static bool has_socket(uint8_t protocol, uint16_t lport, uint16_t fport)
{
	for (unsigned i = 0; i < run.held_count; i++) {
		struct tuplebind_lane lane = damage_lane(run.held[i].lane);

		if (run.held[i].port == lport && run.held[i].has_socket &&
			lane.protocol == protocol && lane.fport == fport)
			return true;
	}
	return false;
}

static long answer(void *buffer, size_t room)
{
	bool turned = asked.body.sdiag_protocol == IPPROTO_UDP;
	uint16_t sport = ntohs(asked.body.id.idiag_sport), dport = ntohs(asked.body.id.idiag_dport);
	struct {
		struct nlmsghdr head;
		union {
			struct inet_diag_msg found;
			struct nlmsgerr error;
		};
	} reply = {.head.nlmsg_type = SOCK_DIAG_BY_FAMILY};

	if (has_socket(asked.body.sdiag_protocol, turned ? dport : sport, turned ? sport : dport)) {
		reply.head.nlmsg_len = NLMSG_LENGTH(sizeof reply.found);
		reply.found.idiag_state = 1;
		reply.found.idiag_inode = 1;
		reply.found.id.idiag_dport = htons(turned ? sport : dport);
	} else {
		reply.head.nlmsg_len = NLMSG_LENGTH(sizeof reply.error);
		reply.head.nlmsg_type = NLMSG_ERROR;
		reply.error.error = -ENOENT;
	}
	fuzz_check(room >= sizeof reply);
	memcpy(buffer, &reply, sizeof reply);
	return (long)reply.head.nlmsg_len;
}

static long kernel(long number, const long a[static 6])
{
	const char *path = (const char *)a[1];
	const struct msghdr *message;

	fuzz_check(run.calls++ < CALLS_MOST, "a step that does not end");
	switch (number) {
	case SYS_openat:
		if (strncmp(path, "/dev/shm/", 9) == 0)
			return dup(file);
		errno = ENOENT;
		return -1;
	case SYS_socket:
		return FUZZ_FD;
	case SYS_sendmsg:
		message = (const struct msghdr *)a[1];
		fuzz_check(message->msg_iovlen == 1 && message->msg_iov[0].iov_len == sizeof asked);
		memcpy(&asked, message->msg_iov[0].iov_base, sizeof asked);
		return sizeof asked;
	case SYS_recvfrom:
		return answer((void *)a[1], (size_t)a[2]);
	case SYS_nanosleep:
		return 0;
	default:
		return a[0] == FUZZ_FD ? 0 : FUZZ_REAL;
	}
}

int __wrap_stat64(const char *path, struct stat64 *st);

/* The pid namespace is one that damage can name. */
int __wrap_stat64(const char *path, struct stat64 *st)
{
	*st = (struct stat64){.st_ino = 3};
	return 0;
}

/* Steps. */

static bool holds(unsigned lane, uint16_t port)
{
	for (unsigned i = 0; i < run.held_count; i++)
		if (run.held[i].lane == lane && run.held[i].port == port)
			return true;
	return false;
}

static unsigned count_held(unsigned lane, const struct portset *of)
{
	unsigned count = 0;

	for (unsigned i = 0; i < run.held_count; i++)
		count += run.held[i].lane == lane && portset_has(of, run.held[i].port);
	return count;
}

/* What came of a claim; those of the sound table are not in held[]. */
static void note_claim(int got, claim c, unsigned lane, uint16_t port, bool has_socket_too)
{
	fuzz_check(got == 0 || got == -EADDRNOTAVAIL || got == -ENOSPC, "%d", got);
	if (got != 0)
		return;
	fuzz_check(c != CLAIM_NONE);
	if (!run.damaged) {
		struct tuplebind_lane wanted = damage_lane(lane), found;

		fuzz_check(!holds(lane, port), "port %u is given out twice", port);
		fuzz_check(claim_port(&run.t, c) == port);
		fuzz_check(claim_lane(&run.t, c, &found) &&
			   memcmp(&found, &wanted, sizeof found) == 0);
	}
	run.held[run.held_count++] =
		(struct holding){.c = c, .lane = lane, .port = port, .has_socket = has_socket_too};
}

static void take(struct input *in)
{
	unsigned n = input_8(in) % LANES, how = input_8(in);
	enum stage stage = how % STAGES;
	struct tuplebind_lane lane = damage_lane(n);
	uint16_t avoid = how & 0x80 ? (uint16_t)(40000 + how % 64) : 0, port = 0;
	claim c = CLAIM_NONE;

	if (run.held_count == HELD)
		return;
	int got = claim_take_announced(&run.t, &lane, slab_lane_hash(&run.t, &lane), &order, stage,
		&walk, avoid, flight_what(run.flight), &c, &port);
	fuzz_check(got != 0 || (portset_has(&offered[stage], port) && port != avoid), "%u", port);
	/* Lanes of the sound table have claims of others in the late stage. */
	if (!run.damaged && got == -EADDRNOTAVAIL && (n >= DAMAGE_LANES || stage != STAGE_LATE))
		fuzz_check(count_held(n, &offered[stage]) +
				   (avoid != 0 && portset_has(&offered[stage], avoid)) >=
			   portset_count(&offered[stage]));
	note_claim(got, c, n, port, how & 0x40);
}

static void take_port(struct input *in)
{
	unsigned n = input_8(in) % LANES, how = input_8(in);
	struct tuplebind_lane lane = damage_lane(n);
	uint16_t place = input_16(in);
	/* Those of the first slab are next to each other there. */
	uint16_t port = how & 1 ? permutation_port(&run.t.permutation, place % TUPLEBIND_SLAB_PORTS)
				: place;
	bool held = holds(n, port);
	claim c = CLAIM_NONE;

	/* Nobody has port 0. */
	if (run.held_count == HELD || port == 0)
		return;
	int got = claim_take_port(&run.t, &lane, port, flight_what(run.flight), &c);
	fuzz_check(run.damaged || !held || got == -EADDRNOTAVAIL);
	note_claim(got, c, n, port, how & 0x40);
}

static void give_back(struct input *in)
{
	unsigned which = input_8(in);

	if (run.held_count == 0)
		return;
	struct holding *h = &run.held[which % run.held_count];
	bool there = claim_give_back(&run.t, h->c);
	fuzz_check(run.damaged || there);
	if (which & 0x80)
		fuzz_check(!claim_give_back(&run.t, h->c) || run.damaged);
	*h = run.held[--run.held_count];
}

/* Any word may stand in a flight, or in the book of a program that was scribbled over. */
static void any_claim(struct input *in)
{
	claim c = input_64(in);
	struct tuplebind_lane lane;

	claim_lane(&run.t, c, &lane);
	claim_port(&run.t, c);
	flight_has(&run.t, c);
	if (run.damaged && c & 1)
		claim_give_back(&run.t, c);
	else if (run.damaged)
		reap_claim(&run.t, c);
}

/* What is in flight is safe; the last claim may be. */
static bool in_flight(const struct holding *h)
{
	return run.flight != NULL && run.flight->what == h->c;
}

static void after_reap(void)
{
	for (unsigned i = 0; i < run.held_count; i++) {
		struct holding *h = &run.held[i];
		struct tuplebind_lane lane = damage_lane(h->lane);
		claim c = CLAIM_NONE;

		/* With a socket, or in flight: still there. */
		if (!run.damaged && (h->has_socket || in_flight(h)))
			fuzz_check(claim_take_port(&run.t, &lane, h->port, NULL, &c) ==
				   -EADDRNOTAVAIL);
	}
	for (unsigned i = 0; i < run.held_count;) {
		struct holding *h = &run.held[i];

		/* It may have been in a slab that was not looked at. */
		if (!h->has_socket && !in_flight(h)) {
			claim_give_back(&run.t, h->c);
			*h = run.held[--run.held_count];
		} else {
			i++;
		}
	}
}

static void reap(struct input *in)
{
	unsigned how = input_8(in), which = input_16(in);
	struct reap r;

	if (run.work++ >= WORK_MOST)
		return;
	int error = reap_start(&r, &run.t);
	fuzz_check(error == 0 || error == -EBUSY, "%d", error);
	fuzz_check(run.damaged || error == 0);
	if (how & 8)
		reap_wait(&run.t, reap_now() + 1000000);
	if (error != 0)
		return;
	r.keep_orphans = how & 1;
	if (how & 2) {
		struct tuplebind_lane lane = damage_lane(which % LANES);
		unsigned number = which / LANES;

		reap_lane(&r, &lane, &number, how & 4 ? 1 : 256, reap_now() + 20000000);
	} else {
		for (unsigned i = 0; i < 8; i++)
			reap_slab(&r, &run.t.slabs[(which + i) % run.t.slab_count], NULL);
	}
	reap_end(&r);
	after_reap();
}

static void fly(struct input *in)
{
	if (input_8(in) & 1 && run.flight == NULL) {
		run.flight = flight_begin(&run.t, (uint32_t)getpid());
	} else {
		flight_end(run.flight);
		run.flight = NULL;
	}
}

static void process(struct input *in)
{
	switch (input_8(in) % 6) {
	case 0:
		process_enter(&run.t, &run.self);
		break;
	case 1:
		process_leave(&run.self);
		break;
	case 2:
		process_strays(&run.t);
		break;
	case 3:
		process_may_live(&run.t, input_64(in));
		break;
	case 4:
		process_alive(&run.t.header->processes[input_16(in) % TUPLEBIND_PROCESSES]);
		break;
	default:
		process_strayed(&run.t);
	}
}

static unsigned count_claims(const struct table *t)
{
	unsigned count = 0;

	for (unsigned i = 0; i < DAMAGE_SLABS; i++)
		for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++)
			count += (unsigned)__builtin_popcountll(
				atomic_load_explicit(&t->slabs[i].claims[w], memory_order_relaxed));
	return count;
}

/* The claims for UDP, by port, that the table counts. */
static unsigned count_udp_claims(void)
{
	unsigned count = 0;

	for (unsigned port = 0; port <= UINT16_MAX; port++)
		count += claim_udp_count(&run.t, (uint16_t)port);
	return count;
}

static unsigned held_udp(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < run.held_count; i++)
		count += damage_lane(run.held[i].lane).protocol == IPPROTO_UDP;
	return count;
}

/* Of a table that was not damaged: what is held is there, and nothing else has come or gone. */
static void check_sound(void)
{
	for (unsigned i = 0; i < run.held_count; i++) {
		struct tuplebind_lane lane = damage_lane(run.held[i].lane);
		claim c;

		fuzz_check(claim_take_port(&run.t, &lane, run.held[i].port, NULL, &c) ==
			   -EADDRNOTAVAIL);
	}
	/* Reap takes the claims that were there before. */
	if (run.work > 0)
		return;
	fuzz_check(count_claims(&run.t) == DAMAGE_CLAIMS + run.held_count);
	fuzz_check(count_udp_claims() == DAMAGE_CLAIMS_UDP + held_udp(), "%u, held %u",
		count_udp_claims(), held_udp());
}

static void step(struct input *in)
{
	static const struct tuplebind_lane any;

	run.calls = 0;
	switch (input_8(in) % 12) {
	case 0:
	case 1:
	case 2:
		take(in);
		break;
	case 3:
		take_port(in);
		break;
	case 4:
		give_back(in);
		break;
	case 5:
		any_claim(in);
		break;
	case 6:
		reap(in);
		break;
	case 7:
		fly(in);
		break;
	case 8:
		process(in);
		break;
	case 9:
		claim_walk_scatter(
			&run.t, &walk, slab_lane_hash(&run.t, &any), &order, input_8(in) % STAGES);
		claim_walk_forget(&walk);
		break;
	default:
		/* The sound half of the inputs stays so. */
		if (run.damaged) {
			damage_do(run.t.header, in);
			table_intact(&run.t);
			claim_udp_count(&run.t, input_16(in));
			table_counter(&run.t, input_8(in) % TUPLEBIND_COUNTERS);
		}
	}
}

/* Ports of the order: few, so that lanes are full soon. */
static void make_order(const struct table *t)
{
	static struct permutation permutation;
	struct portset rest;

	permutation = t->permutation;
	portset_add_range(&offered[STAGE_LATE], 40000, 40024);
	portset_clear(&rest);
	portset_add_range(&rest, 50000, 50024);
	for (unsigned port = 50000; port <= 50024; port++)
		portset_add_range(&offered[port % 2 ? STAGE_ODD : STAGE_EVEN], (uint16_t)port,
			(uint16_t)port);
	portorder_set(&order, &permutation, &offered[STAGE_LATE], &rest);
}

static bool attach(bool writable)
{
	struct fault f = {.text = ""};
	int error = writable ? table_attach(&run.t, NULL, DAMAGE_SIZE, &damage_netns, &f)
			     : table_find(&run.t, NULL, &damage_netns, &f);

	fuzz_check(run.damaged || error == 0, "%s", f.text);
	if (error != 0)
		fuzz_check_line(f.text);
	return error == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void *memory;
	struct input in = {data, size};
	uint8_t how = input_8(&in);

	fuzz_kernel = kernel;
	if (memory == NULL)
		memory = damage_file(&file);
	damage_undo(memory);
	fuzz_random_start();
	run = (struct run){.damaged = how & 1};
	memset(&walk, 0, sizeof walk);
	claim_walk_start(&walk);
	for (unsigned i = how >> 4; run.damaged && i > 0; i--)
		damage_do(memory, &in);
	if (run.damaged && how & 2 && attach(false)) {
		table_intact(&run.t);
		table_detach(&run.t);
	}
	if (!attach(true))
		return 0;
	if (order.permutation == NULL)
		make_order(&run.t);
	/* A table so small that its slabs are used anew again and again. */
	if (how & 4)
		run.t.slab_count = 12;
	for (unsigned i = 0; i < STEPS && in.left > 0; i++)
		step(&in);
	if (!run.damaged)
		check_sound();
	table_detach(&run.t);
	return 0;
}
