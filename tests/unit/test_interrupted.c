/*
 * A process is stopped between two instructions, for every two of them, and the table
 * must be in order whatever happens then: it dies there, or others do all their work
 * before it goes on.
 *
 * The test traps itself after each instruction (the processor's trap flag). What happens in
 * between is done by the signal's handler, on the same table: all of it is lock-free and
 * async-signal-safe, so to the table it is another process. Where an operation is too
 * long for that, a page of the table that faults stops it at the right place.
 */
#include "fixture.h"
#include "kernel/diag.h"
#include "table/lanehash.h"
#include "table/process.h"
#include "table/reap.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if !defined(__x86_64__)
#error "the trap flag is that of x86-64; meson.build leaves this test out elsewhere"
#endif

/* Instrumented code has several times the instructions: some of them have to do. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(COUNTED)
#define EVERY 17
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define EVERY 17
#endif
#endif
#ifndef EVERY
#define EVERY 1
#endif

static unsigned stride = EVERY;

#define PORTS 16 /* of slab 0 that the tests claim, from position 0 on */

static struct table t;
static struct tuplebind_lane lane, other_lane;

/* What the interrupted process and the others came to. */
static int result, others_result;
static claim mine, others_claim;

/* The trap. */

#define TRAP_FLAG 0x100

static volatile sig_atomic_t trap_state;
enum { TRAP_ARMED, TRAP_AT_WORK, TRAP_DONE };

static unsigned steps;
static void (*between)(void);

static void on_trap(int signal, siginfo_t *info, void *context)
{
	greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

	if (trap_state == TRAP_AT_WORK) {
		steps++;
		between();
	}
	/* raise() comes here first: stepping begins there. */
	if (trap_state == TRAP_DONE)
		*flags &= ~(greg_t)TRAP_FLAG;
	else
		*flags |= TRAP_FLAG;
}

/* Runs @work and calls @every between any two of its instructions, until TRAP_DONE. */
static void run(void (*work)(void), void (*every)(void))
{
	steps = 0;
	between = every;
	trap_state = TRAP_ARMED;
	raise(SIGTRAP);
	trap_state = TRAP_AT_WORK;
	work();
	trap_state = TRAP_DONE;
}

static uint64_t token;

static void setup(void)
{
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

	sigaction(SIGTRAP, &action, NULL);
	token = process_token(getpid());
	lane = fixture_lane(1);
	other_lane = fixture_lane(2);
}

TestSuite(interrupted, .init = setup, .timeout = 60);

/* What is done on both sides. */

static uint16_t port_at(unsigned position)
{
	return permutation_port(&t.permutation, (uint16_t)position);
}

static int take_of(struct table *table, const struct tuplebind_lane *l, unsigned position, claim *c)
{
	return claim_take_port(table, l, port_at(position), NULL, c);
}

static void take(void)
{
	result = take_of(&t, &lane, 0, &mine);
}

static void give_back(void)
{
	result = claim_give_back(&t, mine);
}

static int take_in_flight(claim *c)
{
	struct tuplebind_flight *f = flight_begin(&t, token);

	return claim_take_port(&t, &lane, port_at(0), flight_what(f), c);
}

static void need_diag(void)
{
	int fd = diag_open();

	if (fd < 0)
		cr_skip_test("no sock_diag here");
	diag_close(fd);
}

/* Death. */

/* The table as it would be, had the process died here: a copy to work on. */
static struct table copy;

static void copy_table(void)
{
	struct tuplebind_header *memory = copy.header;

	copy = t;
	copy.header = memory;
	copy.slabs =
		(struct tuplebind_slab *)((char *)memory + ((char *)t.slabs - (char *)t.header));
	memcpy((void *)copy.slabs, (void *)t.slabs, t.slab_count * sizeof *t.slabs);
}

/* Takes all of the lane's ports that can be had; more than PORTS when one could be had twice. */
static unsigned take_rest(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < PORTS; i++) {
		claim c;

		if (take_of(&copy, &lane, i, &c) < 0)
			continue;
		count++;
		if (take_of(&copy, &lane, i, &c) == 0)
			return 2 * PORTS;
	}
	return count;
}

static uint32_t dead;

static void reap_copy(void)
{
	struct reap reap;

	if (reap_start(&reap, &copy) < 0)
		return;
	for (uint64_t i = 0; i < copy.slab_count; i++) {
		/* In the copy we are as good as dead. */
		if (atomic_load(&copy.slabs[i].owner) == (uint32_t)getpid())
			atomic_store(&copy.slabs[i].owner, dead);
		reap_slab(&reap, &copy.slabs[i], NULL);
	}
	reap_end(&reap);
}

static unsigned least_before_reap;

static const char *after_death(void)
{
	unsigned count;

	copy_table();
	count = take_rest();
	if (count > PORTS)
		return "a port was given out twice";
	if (count < least_before_reap)
		return "ports are out of use that nobody was at work on";
	if (fixture_slabs(&copy, fixture_key(&t, &lane, 0), TUPLEBIND_SLAB_LIVE) > 1)
		return "two slabs of one key are live";
	reap_copy();
	if (fixture_claims(&copy) != 0)
		return "reap does not restore all";
	return take_rest() == PORTS ? "" : "not all ports can be claimed after reap";
}

static const char *wrong;

static void die(void)
{
	if (steps % stride == 0)
		wrong = after_death();
	if (wrong[0] != '\0')
		trap_state = TRAP_DONE;
}

static void die_everywhere(void (*work)(void), unsigned least)
{
	wrong = "";
	least_before_reap = least;
	dead = fixture_dead_pid();
	copy.header = fixture_shared(t.size);
	run(work, die);
	cr_expect_str_empty(wrong, "after %u instructions: %s", steps, wrong);
	cr_expect_gt(steps, 10, "%u instructions", steps);
}

Test(interrupted, dead_while_making_a_slab)
{
	need_diag();
	fixture_table(&t, 4);
	/* Whoever died between steps 3 and 4 keeps all of the slab until reap. */
	die_everywhere(take, 0);
}

/*
 * Between the lane's words and the tag the slab is LIVE with a lane that is not its
 * own: only its dead owner tells reap that it is nobody's.
 */
Test(interrupted, dead_while_recycling_a_slab)
{
	uint64_t tag;

	need_diag();
	fixture_table(&t, 1);
	cr_assert_not_null(fixture_obtain(&t, other_lane, 0, &tag));
	die_everywhere(take, 0);
}

Test(interrupted, dead_while_claiming_in_a_slab_that_is_there)
{
	claim c;

	need_diag();
	fixture_table(&t, 1);
	cr_assert_eq(take_of(&t, &lane, 1, &c), 0);
	die_everywhere(take, PORTS - 2);
}

Test(interrupted, dead_while_giving_back)
{
	need_diag();
	fixture_table(&t, 1);
	cr_assert_eq(take_of(&t, &lane, 0, &mine), 0);
	die_everywhere(give_back, PORTS - 1);
}

/* Others do all their work in between. */

struct between {
	void (*before)(void);
	void (*work)(void);
	void (*others)(void);
	const char *(*wrong)(void); /* when the work is done */
};

static const struct between *now;
static unsigned others_turn;

static void let_others(void)
{
	if (steps < others_turn)
		return;
	now->others();
	trap_state = TRAP_DONE;
}

static void others_everywhere(const struct between *b)
{
	now = b;
	wrong = "";
	for (others_turn = 1; wrong[0] == '\0'; others_turn += stride) {
		memset((void *)t.slabs, 0, t.slab_count * sizeof *t.slabs);
		memset((void *)t.header->flights, 0, sizeof t.header->flights);
		b->before();
		run(b->work, let_others);
		if (steps < others_turn)
			break;
		wrong = b->wrong();
	}
	cr_expect_str_empty(wrong, "after %u instructions: %s", others_turn - stride, wrong);
	cr_expect_gt(others_turn, 10);
}

static unsigned live_slabs(void)
{
	return fixture_slabs(&t, fixture_key(&t, &lane, 0), TUPLEBIND_SLAB_LIVE);
}

/* Whether a claim is one: of its lane, and given back as told. */
static bool good_claim(claim c, const struct tuplebind_lane *of)
{
	struct tuplebind_lane told;

	return claim_lane(&t, c, &told) && memcmp(&told, of, sizeof told) == 0 &&
	       claim_give_back(&t, c);
}

static void nothing(void)
{
}

static void make_empty_slab(void)
{
	claim c = CLAIM_NONE;

	take_of(&t, &lane, 5, &c);
	claim_give_back(&t, c);
}

static void others_take_in_another_lane(void)
{
	others_result = take_of(&t, &other_lane, 7, &others_claim);
}

static const char *only_one_lane_has_the_slab(void)
{
	if (result == 0 && others_result == 0)
		return "two lanes have one slab";
	if (result == 0 && !good_claim(mine, &lane))
		return "the claim is none";
	if (others_result == 0 && !good_claim(others_claim, &other_lane))
		return "the others' claim is none";
	return fixture_claims(&t) == 0 ? "" : "a bit is left";
}

Test(interrupted, the_slab_goes_to_another_lane)
{
	static const struct between b = {
		make_empty_slab, take, others_take_in_another_lane, only_one_lane_has_the_slab};

	fixture_table(&t, 1);
	others_everywhere(&b);
}

static void others_come_and_go(void)
{
	others_take_in_another_lane();
	if (others_result == 0)
		claim_give_back(&t, others_claim);
	others_result = -ENOSPC;
}

/* The slab has been of another lane, and nobody is in it any more. */
static const char *the_claim_was_made(void)
{
	return result != 0 ? "no claim was made" : only_one_lane_has_the_slab();
}

Test(interrupted, the_slab_goes_to_another_lane_and_comes_free_again)
{
	static const struct between b = {
		make_empty_slab, take, others_come_and_go, the_claim_was_made};

	fixture_table(&t, 1);
	others_everywhere(&b);
}

static void others_take_the_same(void)
{
	others_result = take_of(&t, &lane, 0, &others_claim);
}

static const char *one_of_two_has_the_port(void)
{
	if (result == 0 && others_result == 0)
		return "both have the port";
	if (result != 0 && others_result != 0)
		return "nobody has the port";
	if (live_slabs() != 1)
		return "not one slab of the key is live";
	if (fixture_slabs(&t, fixture_key(&t, &lane, 0), TUPLEBIND_SLAB_TENTATIVE) != 0)
		return "a slab of the key is tentative still";
	if (!good_claim(result == 0 ? mine : others_claim, &lane))
		return "the claim is none";
	return fixture_claims(&t) == 0 ? "" : "a bit is left";
}

Test(interrupted, two_make_the_same_slab)
{
	static const struct between b = {
		nothing, take, others_take_the_same, one_of_two_has_the_port};

	fixture_table(&t, 4);
	others_everywhere(&b);
}

static claim in_the_way;

/* The first slab on the lane's way is of another lane. */
static void put_something_in_the_way(void)
{
	struct tuplebind_slab *slab = slab_at(&t, fixture_key(&t, &lane, 0), 0);

	atomic_store(&slab->tag, 1 << 10 | TUPLEBIND_SLAB_LIVE);
	atomic_store(&slab->claims[0], 1);
	in_the_way = claim_make(&t, slab, atomic_load(&slab->tag), 0);
}

/* So that the others make the slab at a place before the one where it is being made. */
static void others_clear_the_way_and_take_the_same(void)
{
	claim_give_back(&t, in_the_way);
	others_take_the_same();
}

Test(interrupted, two_make_the_same_slab_at_two_places)
{
	static const struct between b = {put_something_in_the_way, take,
		others_clear_the_way_and_take_the_same, one_of_two_has_the_port};

	fixture_table(&t, 4);
	others_everywhere(&b);
}

/* As soon as the bit is gone the slab is anybody's. */
static const char *given_back_and_nothing_else(void)
{
	if (!result)
		return "the claim was not there";
	if (others_result == 0 && !good_claim(others_claim, &other_lane))
		return "the others' claim is gone";
	return fixture_claims(&t) == 0 ? "" : "a bit is left";
}

Test(interrupted, the_slab_goes_to_another_lane_while_a_claim_in_it_is_given_back)
{
	static const struct between b = {
		take, give_back, others_take_in_another_lane, given_back_and_nothing_else};

	fixture_table(&t, 1);
	others_everywhere(&b);
}

/* Reap, in the middle of a connect() and around it. */

static void take_mine_in_flight(void)
{
	result = take_in_flight(&mine);
}

static void reap_lane_once(void)
{
	struct reap reap;
	unsigned number = 0;

	if (reap_start(&reap, &t) < 0)
		return;
	reap_lane(&reap, &lane, &number, UINT32_MAX, UINT64_MAX);
	reap_end(&reap);
}

static const char *the_claim_in_flight_is_there(void)
{
	if (result != 0)
		return "no claim was made";
	return good_claim(mine, &lane) ? "" : "a claim in flight was reaped";
}

Test(interrupted, reap_comes_while_a_claim_is_made)
{
	static const struct between b = {
		make_empty_slab, take_mine_in_flight, reap_lane_once, the_claim_in_flight_is_there};

	need_diag();
	fixture_table(&t, 1);
	others_everywhere(&b);
}

/* Ports. */

static struct portorder *order;
static struct portset before_change, after_change, no_ports;

static void set_ports_of_before(void)
{
	portorder_set(order, &t.permutation, &before_change, &no_ports);
}

static void work_out_masks(void)
{
	portorder_mask(order, STAGE_LATE, 0);
}

static void others_change_ports(void)
{
	portorder_set(order, &t.permutation, &after_change, &no_ports);
}

/* Who looked while the ports were changed may have seen old ones; who looks now may not. */
static const char *masks_are_those_of_the_change(void)
{
	const _Atomic uint64_t *mask = portorder_mask(order, STAGE_LATE, 0);

	for (unsigned bit = 0; bit < TUPLEBIND_SLAB_PORTS; bit++)
		if ((atomic_load(&mask[bit / 64]) >> bit % 64 & 1) !=
			portset_has(&after_change, port_at(bit)))
			return "masks of the ports before the change are there to stay";
	return "";
}

Test(interrupted, ports_change_while_their_masks_are_worked_out)
{
	static const struct between b = {set_ports_of_before, work_out_masks, others_change_ports,
		masks_are_those_of_the_change};

	fixture_table(&t, 1);
	portset_add_range(&before_change, 1, 40000);
	portset_add_range(&after_change, 30000, 65535);
	order = fixture_order_of(&t, &before_change);
	/* Tens of instructions for each port, hundreds unoptimized: some of them have to do. */
#ifdef __OPTIMIZE__
	stride = 499;
#else
	stride = 9973;
#endif
	others_everywhere(&b);
}

/* Walks that meet. */

static struct claim_walk here, there;
static struct claim_walk *others_walk;
static unsigned meet_at; /* the step of the interrupted claim at which the others claim */

static unsigned take_next(struct claim_walk *w)
{
	uint16_t port;

	cr_assert_eq(claim_take(&t, &lane, order, STAGE_LATE, w, 0, &mine, &port), 0);
	return permutation_position(&t.permutation, port);
}

static void take_here(void)
{
	result = (int)take_next(&here);
}

static void others_take(void)
{
	if (steps == meet_at)
		take_next(others_walk);
}

/* How often an interrupted walk did not go on behind the port it had got. */
static unsigned went_elsewhere(bool others_are_a_process)
{
	unsigned elsewhere = 0;

	others_walk = others_are_a_process ? &there : &here;
	for (meet_at = 1;; meet_at += stride) {
		there = here;
		run(take_here, others_take);
		if (steps < meet_at)
			return elsewhere;
		unsigned far = (uint16_t)(take_next(&here) - (unsigned)result);
		elsewhere += far > TUPLEBIND_SLAB_PORTS;
	}
}

/* With all masks worked out, which takes long step by step. */
static void prepare_to_meet(void)
{
	fixture_table(&t, 0);
	order = fixture_order(&t, "1-65535", NULL);
	for (unsigned number = 0; number < TUPLEBIND_LANE_SLABS; number++)
		portorder_mask(order, STAGE_LATE, number);
	claim_walk_start(&here);
}

/* Side by side they would pull the same cache line from each other for every claim. */
Test(interrupted, two_processes_that_meet_in_a_lane_part)
{
	prepare_to_meet();
	cr_expect_gt(went_elsewhere(true), 0);
}

/* A port that one of them has given back would come again sooner otherwise. */
Test(interrupted, two_threads_stay_together)
{
	prepare_to_meet();
	cr_expect_eq(went_elsewhere(false), 0);
}

/* Two lanes whose hashes have one place. */

static struct lane_hashes hashes;
static uint64_t got;

static uint64_t hash_of(const struct tuplebind_lane *l)
{
	return lane_hash_get(&hashes, &t, l);
}

static bool is_remembered(uint64_t hash)
{
	for (unsigned i = 0; i < LANE_HASH_PLACES; i++)
		if (hashes.places[i].hash == hash)
			return true;
	return false;
}

static void get_hash(void)
{
	got = hash_of(&lane);
}

static void others_get_hash(void)
{
	if (steps == meet_at)
		hash_of(&other_lane);
}

/* At every step, and whichever of the two was there before. */
Test(interrupted, another_lane_comes_while_a_hash_is_read_or_written)
{
	fixture_table(&t, 1);
	for (unsigned n = 2; other_lane = fixture_lane(n), hash_of(&lane), hash_of(&other_lane),
		      is_remembered(slab_lane_hash(&t, &lane));
		n++)
		;
	for (int mine_first = 0; mine_first <= 1; mine_first++) {
		steps = 0;
		for (meet_at = 1; meet_at <= steps + stride; meet_at += stride) {
			hash_of(mine_first ? &lane : &other_lane);
			run(get_hash, others_get_hash);
			cr_assert_eq(got, slab_lane_hash(&t, &lane), "step %u", meet_at);
			cr_assert_eq(hash_of(&other_lane), slab_lane_hash(&t, &other_lane),
				"step %u", meet_at);
			cr_assert_eq(hash_of(&lane), slab_lane_hash(&t, &lane), "step %u", meet_at);
		}
	}
}

/* Pages that fault. */

#define PAGE_SLABS (4096 / sizeof(struct tuplebind_slab))

static void protect(unsigned page, int protection)
{
	mprotect((void *)(t.slabs + page * PAGE_SLABS), 4096, protection);
}

static void handle_faults(void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler};

	sigaction(SIGSEGV, &action, NULL);
}

/* The holder of @c, whose socket the kernel has let go, gives it back as close() does. */
static void give_back_closed(claim c)
{
	struct tuplebind_flight *f = flight_with(&t, token, c);

	if (f != NULL)
		claim_give_back(&t, c);
	else
		reap_claim(&t, c);
	flight_end(f);
}

static struct fixture_connection connection;

/* Claims the port, connects, lands: the kernel knows of it, and no flight does. */
static void take_and_connect(void)
{
	struct tuplebind_flight *f = flight_begin(&t, token);

	others_result = claim_take_port(&t, &lane, connection.lport, flight_what(f), &others_claim);
	if (others_result == 0)
		fixture_reconnect(&connection);
	flight_end(f);
}

static void change_hands(void)
{
	give_back_closed(mine);
	take_and_connect();
}

/* Makes the claim of a connection that has been closed. */
static void take_closed(void)
{
	if (connection.listener == 0) {
		fixture_connect(&connection);
		lane = connection.lane;
	}
	fixture_disconnect(&connection);
	memset((void *)t.header->inspections, 0, sizeof t.header->inspections);
	others_result = -1;
	result = claim_take_port(&t, &lane, connection.lport, NULL, &mine);
}

static const char *the_port_is_its_new_holders(void)
{
	if (result != 0)
		return "the first claim was not made";
	if (others_result == 0)
		return good_claim(others_claim, &lane) ? "" : "a connection's claim was reaped";
	reap_lane_once();
	return fixture_claims(&t) == 0 ? "" : "a bit is left";
}

/*
 * Reap has asked the kernel, which has no such tuple, has found the claim in nobody's
 * flight, and is about to give it back. Now its holder gives it back himself, having
 * closed before, and somebody else claims it, connects, and is through with that.
 */
static void on_write(int signal)
{
	protect(0, PROT_READ | PROT_WRITE);
	change_hands();
}

Test(interrupted, a_port_does_not_change_hands_while_reap_gives_it_back)
{
	need_diag();
	fixture_table(&t, 1);
	take_closed();
	handle_faults(on_write);
	protect(0, PROT_READ);
	reap_lane_once();
	cr_expect_str_empty(the_port_is_its_new_holders());
}

Test(interrupted, a_port_changes_hands_while_reap_looks_at_it)
{
	static const struct between b = {
		take_closed, reap_lane_once, change_hands, the_port_is_its_new_holders};

	need_diag();
	fixture_table(&t, 1);
	/* Tens of thousands of instructions, the most to look through the flights. */
	stride = 20011;
	others_everywhere(&b);
}

static struct slab_key slow_key;
static struct tuplebind_slab *made_before, *made_behind;
static unsigned faults;

/*
 * First look, of slab_obtain(): pages 1 and 2 fault in turn. Second look, settle()'s first: it
 * has passed page 0 and is about to enter page 1 when another process makes and settles a slab
 * in page 0, and one that had looked before that proposes a slab in page 2.
 */
static void on_look(int signal)
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
	struct tuplebind_slab *slab;
	uint64_t tag;

	fixture_table(&t, 3 * PAGE_SLABS);
	choose_slow_lane();
	for (unsigned i = 0; i < t.slab_count; i++)
		atomic_store(&t.slabs[i].tag, TUPLEBIND_SLAB_DEAD);
	/* One tentative slab left by the dead, for settle() to begin with. */
	atomic_store(&t.slabs[70].tag, slow_key.fingerprint | TUPLEBIND_SLAB_TENTATIVE);
	made_before = slab_at(&t, slow_key, 0);
	made_behind = &t.slabs[80];
	handle_faults(on_look);
	protect(1, PROT_NONE);
	slab = fixture_obtain(&t, lane, 0, &tag);
	cr_expect_eq(faults, 3, "%u", faults);
	cr_expect_eq(slab, made_before);
	cr_expect_eq(live_slabs(), 1);
	cr_expect_eq(slab_state(atomic_load(&made_behind->tag)), TUPLEBIND_SLAB_DEAD);
}
