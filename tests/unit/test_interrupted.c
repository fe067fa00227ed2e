/*
 * One process is stopped between two instructions, for every two of them, and the table
 * must be in order whatever happens then: it dies there, or others do all their work
 * before it goes on.
 *
 * The process is a child under ptrace(2), stepped one instruction at a time, and the
 * table's memory is shared with it. What would need a third process in the right place at
 * the right time, is done by a page of the table that faults: its handler is the others.
 */
#include "fixture.h"
#include "kernel/diag.h"
#include "table/process.h"
#include "table/reap.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* Instrumented code has several times the instructions: some of them have to do. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 17
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STRIDE 17
#endif
#endif
#ifndef STRIDE
#define STRIDE 1
#endif

#define PORTS 16 /* of slab 0 that the tests claim, from position 0 on */

static struct table t;
static struct tuplebind_lane lane, other_lane;

/* What the child tells. */
static struct {
	_Atomic int begun, done;
	int result;
	claim c;
} *child_says;

static uint16_t port_at(unsigned position)
{
	return permutation_port(&t.permutation, (uint16_t)position);
}

static void use_table(uint64_t slabs)
{
	fixture_table(&t, slabs);
	lane = fixture_lane(1);
	other_lane = fixture_lane(2);
}

static int take_of(struct table *table, const struct tuplebind_lane *l, unsigned position, claim *c)
{
	return claim_take_port(table, l, port_at(position), NULL, c);
}

static void setup(void)
{
	child_says = fixture_shared(sizeof *child_says);
}

/* Of the process that makes a claim in flight; found out before the steps are counted. */
static uint64_t token;

TestSuite(interrupted, .init = setup, .timeout = 60);

/* Starts @work in a child, stopped at its first instruction. */
static pid_t start_child(void (*work)(void))
{
	pid_t child;
	int status;

	memset(child_says, 0, sizeof *child_says);
	child = fork();
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(77);
		token = process_token(getpid());
		raise(SIGSTOP);
		atomic_store(&child_says->begun, 1);
		work();
		atomic_store(&child_says->done, 1);
		_exit(0);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	if (WIFEXITED(status))
		cr_skip_test("ptrace is not allowed here");
	return child;
}

/* PTRACE_SYSCALL: by one half of a system call instead. */
static enum __ptrace_request how_to_step = PTRACE_SINGLESTEP;

/* Goes on by one instruction. False when the work is done. */
static bool step(pid_t child)
{
	int status;

	if (atomic_load(&child_says->done))
		return false;
	cr_assert_eq(ptrace(how_to_step, child, NULL, NULL), 0);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "status %#x", (unsigned)status);
	return true;
}

/* Goes on until its work begins, by as many instructions, and to the end of its work. */
static bool step_to_work(pid_t child)
{
	while (!atomic_load(&child_says->begun))
		if (!step(child))
			return false;
	return true;
}

static void run_to_end(pid_t child)
{
	int status;

	ptrace(PTRACE_CONT, child, NULL, NULL);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", (unsigned)status);
}

static void kill_child(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* What children do. */

static void child_takes(void)
{
	child_says->result = take_of(&t, &lane, 0, &child_says->c);
}

static claim to_give_back;

static void child_gives_back(void)
{
	child_says->result = claim_give_back(&t, to_give_back);
}

/* Death. */

/* The table as it would be, had the child died here: a copy for tests to work on. */
static struct table *copy_table(void)
{
	static struct table copy;
	static struct tuplebind_header *memory;

	if (memory == NULL)
		memory = fixture_shared(t.size);
	copy = t;
	copy.header = memory;
	copy.slabs = (struct tuplebind_slab *)((char *)memory + ((char *)t.slabs - (char *)t.header));
	memcpy((void *)copy.slabs, (void *)t.slabs, t.slab_count * sizeof *t.slabs);
	return &copy;
}

/* Takes all of the lane's ports; how many there were, or 1000 when one came twice. */
static unsigned take_rest(struct table *table)
{
	unsigned count = 0;

	for (unsigned i = 0; i < PORTS; i++) {
		claim c, again;

		if (take_of(table, &lane, i, &c) < 0)
			continue;
		count++;
		if (take_of(table, &lane, i, &again) == 0)
			return 1000;
	}
	return count;
}

static void reap_everything(struct table *table, uint32_t child)
{
	static uint32_t dead;
	struct reap reap;

	if (dead == 0)
		dead = fixture_dead_pid();
	atomic_store(&table->header->reaper, 0);
	cr_assert_eq(reap_start(&reap, table), 0);
	for (uint64_t i = 0; i < table->slab_count; i++) {
		uint32_t owner = atomic_load(&table->slabs[i].owner);

		/* In the copy the child is as good as dead. */
		if (owner == child)
			atomic_store(&table->slabs[i].owner, dead);
		cr_assert_geq(reap_slab(&reap, &table->slabs[i], NULL), 0);
	}
	reap_end(&reap);
}

/* Empty when all is in order, had the child died right here, else what is not. */
static const char *after_death(pid_t child, unsigned least_before_reap)
{
	struct table *table = copy_table();
	unsigned count = take_rest(table);

	if (count > PORTS)
		return "a port was given out twice";
	if (count < least_before_reap)
		return "more is out of use than one slab";
	if (fixture_slabs(table, fixture_key(table, &lane, 0), TUPLEBIND_SLAB_LIVE) > 1)
		return "two slabs of one key are live";
	reap_everything(table, (uint32_t)child);
	if (fixture_claims(table) != 0)
		return "reap does not restore all";
	if (take_rest(table) != PORTS)
		return "not all ports can be claimed after reap";
	return "";
}

/* Steps through @work and looks at the table between all instructions. */
static void die_everywhere(void (*work)(void), unsigned least_before_reap)
{
	pid_t child = start_child(work);
	const char *wrong = "";
	unsigned steps = 0;

	cr_assert(step_to_work(child));
	while (wrong[0] == '\0' && step(child))
		if (steps++ % STRIDE == 0)
			wrong = after_death(child, least_before_reap);
	cr_expect_str_empty(wrong, "after %u instructions: %s", steps, wrong);
	cr_expect_gt(steps, 10, "%u instructions", steps);
	kill_child(child);
}

static void need_diag(void)
{
	int fd = diag_open();

	if (fd < 0)
		cr_skip_test("no sock_diag here");
	diag_close(fd);
}

Test(interrupted, dead_while_making_a_slab)
{
	need_diag();
	use_table(4);
	/* Whoever died between steps 3 and 4 keeps all of the slab until reap. */
	die_everywhere(child_takes, 0);
}

Test(interrupted, dead_while_recycling_a_slab)
{
	uint64_t tag;

	need_diag();
	use_table(1);
	cr_assert_not_null(slab_obtain(&t, &other_lane, fixture_key(&t, &other_lane, 0), 0, &tag));
	die_everywhere(child_takes, 0);
}

Test(interrupted, dead_while_claiming_in_a_slab_that_is_there)
{
	claim c;

	need_diag();
	use_table(1);
	cr_assert_eq(take_of(&t, &lane, 1, &c), 0);
	die_everywhere(child_takes, PORTS - 2);
}

Test(interrupted, dead_while_giving_back)
{
	need_diag();
	use_table(1);
	cr_assert_eq(take_of(&t, &lane, 0, &to_give_back), 0);
	die_everywhere(child_gives_back, PORTS - 1);
}

/* Others do all their work in between. */

/* What they do, and what must hold when the child has gone on to its end. */
struct between {
	void (*before)(void);
	void (*work)(void);
	void (*others)(void);
	const char *(*wrong)(void);
};

/* False when the child was done before @steps. */
static bool others_after(const struct between *b, unsigned steps, const char **wrong)
{
	bool stopped = true;
	pid_t child;

	memset((void *)t.slabs, 0, t.slab_count * sizeof *t.slabs);
	memset((void *)t.header->flights, 0, sizeof t.header->flights);
	b->before();
	child = start_child(b->work);
	cr_assert(step_to_work(child));
	for (unsigned i = 0; i < steps && stopped; i++)
		stopped = step(child);
	b->others();
	run_to_end(child);
	*wrong = b->wrong();
	return stopped;
}

static void others_everywhere(const struct between *b)
{
	const char *wrong = "";
	unsigned steps = 0;

	for (bool more = true; more && wrong[0] == '\0'; steps += STRIDE)
		more = others_after(b, steps, &wrong);
	cr_expect_str_empty(wrong, "after %u instructions: %s", steps - STRIDE, wrong);
	cr_expect_gt(steps, 10);
}

static int others_result;
static claim others_claim;

/* Whether a claim is one: of its lane, and given back as told. */
static bool good_claim(claim c, const struct tuplebind_lane *of)
{
	struct tuplebind_lane told;

	return claim_lane(&t, c, &told) && memcmp(&told, of, sizeof told) == 0 && claim_give_back(&t, c);
}

static unsigned live_slabs(void)
{
	return fixture_slabs(&t, fixture_key(&t, &lane, 0), TUPLEBIND_SLAB_LIVE);
}

static void nothing(void)
{
}

static void make_empty_slab(void)
{
	claim c;

	take_of(&t, &lane, 5, &c);
	claim_give_back(&t, c);
}

static void others_take_in_another_lane(void)
{
	others_result = take_of(&t, &other_lane, 7, &others_claim);
}

static const char *only_one_lane_has_the_slab(void)
{
	if (child_says->result == 0 && others_result == 0)
		return "two lanes have one slab";
	if (child_says->result == 0 && !good_claim(child_says->c, &lane))
		return "the child's claim is none";
	if (others_result == 0 && !good_claim(others_claim, &other_lane))
		return "the others' claim is none";
	return fixture_claims(&t) == 0 ? "" : "a bit is left";
}

Test(interrupted, the_slab_goes_to_another_lane)
{
	const struct between b = {
		make_empty_slab, child_takes, others_take_in_another_lane, only_one_lane_has_the_slab};

	use_table(1);
	others_everywhere(&b);
}

static void others_come_and_go(void)
{
	others_take_in_another_lane();
	if (others_result == 0)
		claim_give_back(&t, others_claim);
	others_result = -ENOSPC;
}

/* The slab has been of another lane, and nobody is in it: the child gets what it wants. */
static const char *the_child_has_its_claim(void)
{
	if (child_says->result != 0)
		return "the child has no claim";
	return only_one_lane_has_the_slab();
}

Test(interrupted, the_slab_goes_to_another_lane_and_comes_free_again)
{
	const struct between b = {
		make_empty_slab, child_takes, others_come_and_go, the_child_has_its_claim};

	use_table(1);
	others_everywhere(&b);
}

static void others_take_the_same(void)
{
	others_result = take_of(&t, &lane, 0, &others_claim);
}

static const char *one_of_two_has_the_port(void)
{
	claim c;

	if ((child_says->result == 0) == (others_result == 0))
		return child_says->result == 0 ? "both have the port" : "nobody has the port";
	if (live_slabs() != 1)
		return "not one slab of the key is live";
	if (fixture_slabs(&t, fixture_key(&t, &lane, 0), TUPLEBIND_SLAB_TENTATIVE) != 0)
		return "a slab of the key is tentative still";
	c = child_says->result == 0 ? child_says->c : others_claim;
	if (!good_claim(c, &lane))
		return "the claim is none";
	return fixture_claims(&t) == 0 ? "" : "a bit is left";
}

Test(interrupted, two_make_the_same_slab)
{
	const struct between b = {nothing, child_takes, others_take_the_same, one_of_two_has_the_port};

	use_table(4);
	others_everywhere(&b);
}

static claim in_the_way;

/* The first slab on the lane's way is of another lane. */
static void put_something_in_the_way(void)
{
	struct slab_key key = fixture_key(&t, &lane, 0);
	struct tuplebind_slab *slab = slab_at(&t, key, 0);

	atomic_store(&slab->tag, 1 << 10 | TUPLEBIND_SLAB_LIVE);
	atomic_store(&slab->claims[0], 1);
	in_the_way = claim_make(&t, slab, atomic_load(&slab->tag), 0);
}

/* So that the others make the slab at a place before the one where the child makes it. */
static void others_clear_the_way_and_take_the_same(void)
{
	claim_give_back(&t, in_the_way);
	others_take_the_same();
}

Test(interrupted, two_make_the_same_slab_at_two_places)
{
	const struct between b = {put_something_in_the_way, child_takes,
		others_clear_the_way_and_take_the_same, one_of_two_has_the_port};

	use_table(4);
	others_everywhere(&b);
}

static void take_to_give_back(void)
{
	take_of(&t, &lane, 0, &to_give_back);
}

/* As soon as the bit is gone the slab is anybody's. */
static const char *given_back_and_nothing_else(void)
{
	if (child_says->result != 1)
		return "the claim was not there";
	if (others_result == 0 && !good_claim(others_claim, &other_lane))
		return "the others' claim is gone";
	return fixture_claims(&t) == 0 ? "" : "a bit is left";
}

Test(interrupted, the_slab_goes_to_another_lane_while_a_claim_in_it_is_given_back)
{
	const struct between b = {take_to_give_back, child_gives_back, others_take_in_another_lane,
		given_back_and_nothing_else};

	use_table(1);
	others_everywhere(&b);
}

/* Reap, in the middle of a connect() and around it. */

static void take_in_flight(int *result, claim *c)
{
	struct tuplebind_flight *f = flight_begin(&t, token);

	*result = claim_take_port(&t, &lane, port_at(0), flight_what(f), c);
}

static void child_takes_in_flight(void)
{
	take_in_flight(&child_says->result, &child_says->c);
}

static void reap_lane_once(void)
{
	struct reap reap;
	unsigned number = 0;

	atomic_store(&t.header->reaper, 0);
	if (reap_start(&reap, &t) < 0)
		return;
	reap_lane(&reap, &lane, &number, UINT32_MAX, UINT64_MAX);
	reap_end(&reap);
}

/* The child is at the end of its work, not of its life, when it is looked at. */
static const char *the_claim_in_flight_is_there(void)
{
	if (child_says->result != 0)
		return "no claim was made";
	return good_claim(child_says->c, &lane) ? "" : "a claim in flight was reaped";
}

Test(interrupted, reap_comes_while_a_claim_is_made)
{
	const struct between b = {
		make_empty_slab, child_takes_in_flight, reap_lane_once, the_claim_in_flight_is_there};

	need_diag();
	use_table(1);
	others_everywhere(&b);
}

static void others_take_in_flight(void)
{
	token = process_token(getpid());
	take_in_flight(&others_result, &others_claim);
}

static const char *the_others_claim_in_flight_is_there(void)
{
	if (others_result != 0)
		return "no claim was made";
	return good_claim(others_claim, &lane) ? "" : "a claim in flight was reaped";
}

/* A claim without a holder makes reap ask the kernel, with time for others to come. */
static void leave_a_stray(void)
{
	claim c;

	take_of(&t, &lane, 1, &c);
}

/* Reap runs through many thousand instructions, and waits for others in its system calls. */
Test(interrupted, a_claim_is_made_while_reap_is_at_work)
{
	const struct between b = {leave_a_stray, reap_lane_once, others_take_in_flight,
		the_others_claim_in_flight_is_there};

	need_diag();
	use_table(1);
	how_to_step = PTRACE_SYSCALL;
	others_everywhere(&b);
}

static void take_to_give_back_after_the_kernel_has(void)
{
	take_of(&t, &lane, 0, &to_give_back);
}

/* A holder closes, and another one connects from the same port. */
static void others_give_back_and_take_in_flight(void)
{
	claim_give_back(&t, to_give_back);
	others_take_in_flight();
}

Test(interrupted, a_port_changes_hands_while_reap_is_at_work)
{
	const struct between b = {take_to_give_back_after_the_kernel_has, reap_lane_once,
		others_give_back_and_take_in_flight, the_others_claim_in_flight_is_there};

	need_diag();
	use_table(1);
	how_to_step = PTRACE_SYSCALL;
	others_everywhere(&b);
}

/* The slow look. */

#define PAGE_SLABS (4096 / sizeof(struct tuplebind_slab))

static struct slab_key slow_key;
static struct tuplebind_slab *made_before, *made_behind;
static unsigned faults;

static void protect(unsigned page, int protection)
{
	mprotect((void *)(t.slabs + page * PAGE_SLABS), 4096, protection);
}

/*
 * First look, of slab_obtain(): pages 1 and 2 fault in turn. Second look, settle()'s first: it has
 * passed page 0 and is about to enter page 1 when another process makes and settles a slab in page 0,
 * and one that had looked before that proposes a slab in page 2.
 */
static void on_fault(int signal)
{
	switch (faults++) {
	case 0:
		protect(1, PROT_READ | PROT_WRITE);
		protect(2, PROT_NONE);
		break;
	case 1:
		protect(2, PROT_READ | PROT_WRITE);
		protect(1, PROT_NONE);
		break;
	case 2:
		protect(1, PROT_READ | PROT_WRITE);
		atomic_store(&t.slabs[70].tag, TUPLEBIND_SLAB_DEAD);
		atomic_store(&made_before->tag, slow_key.fingerprint | TUPLEBIND_SLAB_LIVE);
		atomic_store(&made_behind->tag, slow_key.fingerprint | TUPLEBIND_SLAB_TENTATIVE);
		break;
	default:
		_exit(99);
	}
}

/* A lane whose home is in page 0. */
static void choose_slow_lane(void)
{
	for (unsigned n = 0;; n++) {
		lane = fixture_lane(n);
		slow_key = fixture_key(&t, &lane, 0);
		if (slow_key.home < PAGE_SLABS)
			return;
	}
}

Test(interrupted, a_look_that_others_overtake_settles_nothing)
{
	struct sigaction action = {.sa_handler = on_fault};
	struct tuplebind_slab *slab;
	uint64_t tag;

	use_table(3 * PAGE_SLABS);
	choose_slow_lane();
	for (unsigned i = 0; i < t.slab_count; i++)
		atomic_store(&t.slabs[i].tag, TUPLEBIND_SLAB_DEAD);
	/* One tentative slab left by the dead, for settle() to begin with. */
	atomic_store(&t.slabs[70].tag, slow_key.fingerprint | TUPLEBIND_SLAB_TENTATIVE);
	made_before = slab_at(&t, slow_key, 0);
	made_behind = &t.slabs[80];
	sigaction(SIGSEGV, &action, NULL);
	protect(1, PROT_NONE);
	slab = slab_obtain(&t, &lane, slow_key, 0, &tag);
	cr_expect_eq(faults, 3, "%u", faults);
	cr_expect_eq(slab, made_before);
	cr_expect_eq(live_slabs(), 1);
	cr_expect_eq(slab_state(atomic_load(&made_behind->tag)), TUPLEBIND_SLAB_DEAD);
}
