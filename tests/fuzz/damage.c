#include "damage.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const struct netns damage_netns = {.inode = 4026531840, .cookie = 1};
struct portset damage_ports;

static char sound[DAMAGE_SIZE];

int __wrap_kill(pid_t pid, int sig);

int __wrap_kill(pid_t pid, int sig)
{
	fuzz_check(pid > 0 && sig == 0, "%d would be sent to %d", sig, pid);
	errno = ESRCH;
	return pid % 2 == 0 || pid == getpid() ? 0 : -1;
}

struct tuplebind_lane damage_lane(unsigned n)
{
	struct tuplebind_lane lane = {
		.laddr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1},
		.faddr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 2},
		.fport = (uint16_t)(80 + n / 2),
		.protocol = n % 2 ? IPPROTO_UDP : IPPROTO_TCP,
	};

	if (n % 5 == 4) {
		struct tuplebind_lane v6 = {.laddr = {0x20, 1, 0xd, 0xb8, [15] = 1},
			.faddr = {0xfe, 0x80, [15] = 2},
			.scope = 2,
			.fport = 65535,
			.protocol = IPPROTO_TCP};
		lane = v6;
	}
	return lane;
}

/* Lane n has 3 * n + 1 claims. */
static void make_claims(struct table *t)
{
	struct portset none;
	struct portorder *order = calloc(1, sizeof *order);
	struct claim_walk *walk = calloc(1, sizeof *walk);

	fuzz_check(order != NULL && walk != NULL);
	portset_clear(&none);
	portset_add_range(&damage_ports, 40000, 40299);
	portorder_set(order, &t->permutation, &damage_ports, &none);
	claim_walk_start(walk);
	for (unsigned n = 0; n < DAMAGE_LANES; n++) {
		struct tuplebind_lane lane = damage_lane(n);

		for (unsigned i = 0; i < 3 * n + 1; i++) {
			uint16_t port;
			claim c;

			fuzz_check(
				claim_take(t, &lane, order, STAGE_LATE, walk, 0, &c, &port) == 0);
		}
	}
	free(order);
	free(walk);
}

static void make_sound(void)
{
	struct fault f;
	struct table t;

	fuzz_random_start();
	fuzz_check(table_attach(&t, TABLE_PRIVATE, DAMAGE_SIZE, &damage_netns, &f) == 0);
	t.header->identity.created = 1700000000;
	make_claims(&t);
	memcpy(sound, t.header, sizeof sound);
	table_detach(&t);
}

void *damage_file(int *fd)
{
	make_sound();
	*fd = fuzz_file();
	fuzz_file_set(*fd, sound, sizeof sound);
	void *memory = mmap(NULL, DAMAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	fuzz_check(memory != MAP_FAILED);
	return memory;
}

void damage_undo(void *memory)
{
	memcpy(memory, sound, sizeof sound);
}

static struct tuplebind_slab *slabs_of(void *memory)
{
	return (struct tuplebind_slab *)((char *)memory + sizeof(struct tuplebind_header));
}

/* One that is in use, mostly. */
static struct tuplebind_slab *choose_slab(void *memory, struct input *in)
{
	struct tuplebind_slab *slabs = slabs_of(memory);
	unsigned wanted = input_16(in);

	if (wanted % 4 == 3)
		return &slabs[wanted / 4 % DAMAGE_SLABS];
	for (unsigned i = 0, used = 0; i < DAMAGE_SLABS; i++)
		if (atomic_load_explicit(&slabs[i].tag, memory_order_relaxed) != 0 &&
			used++ == wanted / 4)
			return &slabs[i];
	return &slabs[wanted % DAMAGE_SLABS];
}

/* Words that code has something to say about. */
static uint64_t choose_word(struct input *in, uint64_t now)
{
	uint8_t how = input_8(in);

	switch (how % 8) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return now ^ UINT64_C(1) << how / 8 * 2;
	case 3:
		return now + (unsigned)how / 8 - 16;
	case 4:
		/* A process that lives, or one that does not. */
		return how / 8;
	case 5:
		return (now & ~UINT64_C(3)) | (how / 8 % 4);
	default:
		return input_64(in);
	}
}

static void damage_slab(struct tuplebind_slab *slab, struct input *in)
{
	uint64_t words[sizeof *slab / sizeof(uint64_t)];
	unsigned at = input_8(in) % (sizeof words / sizeof *words);

	memcpy(words, slab, sizeof words);
	words[at] = choose_word(in, words[at]);
	memcpy(slab, words, sizeof words);
}

static void copy_slab(void *memory, struct input *in)
{
	struct tuplebind_slab *from = choose_slab(memory, in), *to = choose_slab(memory, in);

	memmove(to, from, sizeof *to);
}

/* Past the rounds and counters: what decides about processes and reaps. */
static void damage_header(struct tuplebind_header *h, struct input *in)
{
	unsigned which = input_8(in), index = input_16(in);
	struct tuplebind_process *process = &h->processes[index % TUPLEBIND_PROCESSES];
	struct tuplebind_flight *flight = &h->flights[index % TUPLEBIND_FLIGHTS];
	uint64_t word = choose_word(in, 0);

	switch (which % 12) {
	case 0:
		h->reaper = word;
		break;
	case 1:
		h->strays = word;
		break;
	case 2:
		h->processes_used = (uint32_t)word;
		break;
	case 3:
		process->pid = (uint32_t)word;
		break;
	case 4:
		process->start = word;
		break;
	case 5:
		process->pid_namespace = word;
		break;
	case 6:
		process->name[index % 2] = word;
		break;
	case 7:
		flight->owner = word;
		break;
	case 8:
		flight->what = word;
		break;
	case 9:
		h->stripes[index % TUPLEBIND_STRIPES].counters[word % TUPLEBIND_COUNTERS] = word;
		break;
	case 10:
		h->takings = word;
		h->udp_claims[index] = (uint8_t)word;
		h->stripes[index % TUPLEBIND_STRIPES].given_back = word;
		break;
	default:
		for (unsigned i = 0; i < TUPLEBIND_PROCESSES; i++)
			h->processes[i].pid = (uint32_t)(word + i);
		h->processes_used = TUPLEBIND_PROCESSES;
	}
}

static void damage_anywhere(void *memory, struct input *in)
{
	uint32_t at = input_32(in) % (DAMAGE_SIZE - sizeof(uint64_t));
	uint64_t word = choose_word(in, 0);

	memcpy((char *)memory + at, &word, sizeof word);
}

void damage_do(void *memory, struct input *in)
{
	switch (input_8(in) % 8) {
	case 0:
		damage_anywhere(memory, in);
		break;
	case 1:
		copy_slab(memory, in);
		break;
	case 2:
	case 3:
		damage_header(memory, in);
		break;
	case 4: {
		/* All of a slab's claims, and enough of them to matter. */
		struct tuplebind_slab *slab = choose_slab(memory, in);

		memset(slab->claims, input_8(in), sizeof slab->claims);
		break;
	}
	default:
		damage_slab(choose_slab(memory, in), in);
	}
}
