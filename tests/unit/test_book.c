/*
 * The book of descriptors: what was made, connected, duplicated, shared with a child and
 * closed, and that a claim is given back with its last descriptor, and not before.
 *
 * The book does not look at descriptors, so most of the numbers here are of none. Claims
 * that the kernel must know of are of connections over loopback.
 */
#include "fixture.h"
#include "preload/book.h"
#include "kernel/diag.h"
#include "table/process.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct table t;
static struct tuplebind_lane lane;

static unsigned copies;

static void note_copy(void)
{
	copies++;
	book_start_copy();
}

static void setup(void)
{
	fixture_table(&t, 0);
	lane = fixture_lane(1);
	book_start(note_copy);
}

TestSuite(book, .init = setup);

static enum sock_kind kind_of(int fd)
{
	enum sock_kind kind;

	book_find(fd, &kind);
	return kind;
}

static struct record *record_of(int fd)
{
	enum sock_kind kind;

	return book_find(fd, &kind);
}

/* As connect() does: a record for @fd that holds a claim. */
static claim hold(int fd, uint16_t port)
{
	struct record *r = book_record(fd, KIND_TCP4);
	claim c;

	cr_assert_not_null(r);
	cr_assert_eq(claim_take_port(&t, &lane, port, NULL, &c), 0);
	state_set_claim(&r->state, c);
	return c;
}

static void close_fd(int fd)
{
	struct record *r = book_remove(fd);

	book_settle(&t, r);
}

static bool held(uint16_t port)
{
	claim c;

	if (claim_take_port(&t, &lane, port, NULL, &c) < 0)
		return true;
	claim_give_back(&t, c);
	return false;
}

Test(book, nothing_is_known_at_first)
{
	cr_expect(book_usable());
	for (int fd = -1; fd < 10; fd++) {
		cr_expect_not(book_has(fd));
		cr_expect_null(record_of(fd));
		cr_expect_eq(kind_of(fd), KIND_OTHER);
		cr_expect_null(book_remove(fd));
	}
	book_settle(&t, NULL);
}

Test(book, a_fresh_socket)
{
	book_note_socket(&t, 5, KIND_TCP4);
	book_note_socket(&t, 6, KIND_TCP6);
	cr_expect(book_has(5));
	cr_expect_eq(kind_of(5), KIND_TCP4);
	cr_expect_eq(kind_of(6), KIND_TCP6);
	cr_expect_null(record_of(5), "it needs no record");
	cr_expect_null(book_remove(5));
	cr_expect_not(book_has(5));
	book_note_socket(&t, 6, KIND_OTHER);
	cr_expect_not(book_has(6), "something else is there now");
}

Test(book, a_record)
{
	struct record *r;

	book_note_socket(&t, 5, KIND_TCP6);
	r = book_record(5, KIND_TCP6);
	cr_assert_not_null(r);
	cr_expect_eq(book_record(5, KIND_TCP6), r);
	cr_expect_eq(record_of(5), r);
	cr_expect_eq(kind_of(5), KIND_TCP6);
	cr_expect_eq(atomic_load(&r->descriptors), 1);
	cr_expect_eq(atomic_load(&r->state.flags), 0);
	cr_expect_eq(atomic_load(&r->state.claim), CLAIM_NONE);
	cr_expect_eq(book_remove(5), r);
	book_settle(&t, r);
}

Test(book, one_not_seen_made_is_maybe_shared)
{
	struct record *r = book_record(5, KIND_TCP4);

	cr_expect(atomic_load(&r->state.flags) & STATE_SHARED);
}

Test(book, the_claim_goes_with_the_descriptor)
{
	book_note_socket(&t, 5, KIND_TCP4);
	hold(5, 1000);
	cr_expect(held(1000));
	close_fd(5);
	cr_expect_not(held(1000));
	cr_expect_eq(fixture_claims(&t), 0);
}

Test(book, given_back_once)
{
	struct record *r;

	book_note_socket(&t, 5, KIND_TCP4);
	hold(5, 1000);
	r = record_of(5);
	state_give_back(&r->state, &t);
	cr_expect_not(held(1000));
	/* Somebody else's now: a second time must not take it away. */
	hold(6, 1000);
	state_give_back(&r->state, &t);
	close_fd(5);
	cr_expect(held(1000));
}

Test(book, a_closed_one_is_forgotten)
{
	struct record *r;

	book_note_socket(&t, 5, KIND_TCP4);
	hold(5, 1000);
	close_fd(5);
	book_note_socket(&t, 5, KIND_TCP4);
	r = book_record(5, KIND_TCP4);
	cr_expect_eq(atomic_load(&r->state.claim), CLAIM_NONE);
	cr_expect_eq(atomic_load(&r->state.flags), 0);
}

Test(book, duplicates_share_and_the_last_gives_back)
{
	book_note_socket(&t, 5, KIND_TCP4);
	hold(5, 1000);
	book_duplicate(&t, 5, 6);
	book_duplicate(&t, 6, 7);
	cr_expect_eq(record_of(5), record_of(7));
	cr_expect_eq(atomic_load(&record_of(5)->descriptors), 3);
	close_fd(5);
	close_fd(7);
	cr_expect(held(1000));
	close_fd(6);
	cr_expect_not(held(1000));
}

Test(book, duplicates_of_a_fresh_socket_share_what_comes)
{
	book_note_socket(&t, 5, KIND_TCP6);
	book_duplicate(&t, 5, 6);
	cr_expect_eq(kind_of(6), KIND_TCP6);
	hold(6, 1000);
	close_fd(6);
	cr_expect(held(1000), "descriptor 5 leads to it");
	close_fd(5);
	cr_expect_not(held(1000));
}

Test(book, a_duplicate_closes_what_it_stands_on)
{
	book_note_socket(&t, 5, KIND_TCP4);
	book_note_socket(&t, 6, KIND_TCP4);
	hold(5, 1000);
	hold(6, 1001);
	book_duplicate(&t, 5, 6);
	cr_expect(held(1000));
	cr_expect_not(held(1001));
	/* A duplicate of something the book does not know closes, too. */
	book_duplicate(&t, 50, 6);
	cr_expect_not(book_has(6));
	cr_expect(held(1000));
	book_duplicate(&t, 50, 5);
	cr_expect_not(held(1000));
}

Test(book, a_duplicate_of_itself_changes_nothing)
{
	book_note_socket(&t, 5, KIND_TCP4);
	hold(5, 1000);
	book_duplicate(&t, 5, 5);
	cr_expect_eq(atomic_load(&record_of(5)->descriptors), 1);
	cr_expect(held(1000));
	close_fd(5);
	cr_expect_not(held(1000));
}

Test(book, duplicates_over_each_other_again_and_again)
{
	book_note_socket(&t, 5, KIND_TCP4);
	hold(5, 1000);
	for (int i = 0; i < 1000; i++) {
		book_duplicate(&t, 5, 6);
		book_duplicate(&t, 6, 5);
	}
	cr_expect_eq(atomic_load(&record_of(5)->descriptors), 2);
	close_fd(6);
	cr_expect(held(1000));
	close_fd(5);
	cr_expect_not(held(1000));
}

/* A stray close, by stdio for one: the number is used again without a word to the book. */
Test(book, what_was_closed_behind_its_back_is_given_back_when_the_kernel_says_so)
{
	book_note_socket(&t, 5, KIND_TCP4);
	hold(5, 1000);
	book_note_socket(&t, 5, KIND_TCP4);
	cr_expect_not(held(1000), "no socket has it");
	cr_expect_eq(kind_of(5), KIND_TCP4);
	cr_expect_null(record_of(5));
}

/* A connection whose claim the book holds at descriptor 5. */
static struct fixture_connection connected(bool fresh)
{
	struct fixture_connection c;

	if (diag_tuple(&lane, 1) < 0)
		cr_skip_test("no sock_diag here");
	fixture_connect(&c);
	lane = c.lane;
	if (fresh)
		book_note_socket(&t, 5, KIND_TCP4);
	hold(5, c.lport);
	return c;
}

Test(book, what_another_process_may_hold_is_kept_while_the_kernel_has_it)
{
	struct fixture_connection c = connected(true);
	uint64_t strays = atomic_load(&t.header->strays);

	book_forked();
	close_fd(5);
	cr_expect(held(c.lport));
	cr_expect_neq(atomic_load(&t.header->strays), strays, "and reap is told");
}

Test(book, what_another_process_may_hold_is_given_back_when_the_kernel_does_not_have_it)
{
	book_note_socket(&t, 5, KIND_TCP4);
	hold(5, 1000);
	book_forked();
	close_fd(5);
	cr_expect_not(held(1000));
}

Test(book, what_was_made_after_the_fork_is_nobody_elses)
{
	struct fixture_connection c;

	book_forked();
	c = connected(true);
	close_fd(5);
	cr_expect_not(held(c.lport), "it is given back without a question");
}

/* Made before the fork and connected after it: the child has the socket as well. */
Test(book, what_was_made_before_the_fork_is_maybe_shared)
{
	struct fixture_connection c;

	book_note_socket(&t, 5, KIND_TCP4);
	book_forked();
	c = connected(false);
	close_fd(5);
	cr_expect(held(c.lport));
}

Test(book, one_that_came_from_elsewhere_is_maybe_shared)
{
	struct fixture_connection c = connected(false);

	close_fd(5);
	cr_expect(held(c.lport));
}

Test(book, a_forked_child_has_a_copy)
{
	int status;
	pid_t child;

	book_note_socket(&t, 5, KIND_TCP4);
	hold(5, 1000);
	child = fork();
	if (child == 0) {
		bool copy = book_is_copy();

		book_start_copy();
		close_fd(5);
		_exit(copy && !book_is_copy() && book_usable() && copies == 0 && !book_has(5) ? 0
											      : 1);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_expect_eq(status, 0);
	cr_expect(book_has(5), "the parent's is another");
	close_fd(5);
}

/* A fork that runs no handlers is found out by the first call in the child. */
Test(book, a_child_that_nobody_announced)
{
	int status;

	book_note_socket(&t, 5, KIND_TCP4);
	hold(5, 1000);
	pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0)
		_exit(book_usable() && copies == 1 && book_usable() && copies == 1 &&
					book_maybe_shared(record_of(5))
				? 0
				: 1);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_expect_eq(status, 0);
	cr_expect_eq(copies, 0);
	cr_expect(book_usable());
}

static int in_our_memory(void *unused)
{
	return book_usable() || book_is_copy() || copies != 0;
}

Test(book, a_child_in_our_memory)
{
	static _Alignas(16) char stack[1 << 16];
	int status;
	pid_t child =
		clone(in_our_memory, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);

	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_expect_eq(status, 0);
	cr_expect(book_usable());
}

Test(book, one_that_was_passed_on_is_maybe_shared)
{
	for (int fd = 5; fd < 7; fd++) {
		book_note_socket(&t, fd, KIND_TCP4);
		if (fd == 5)
			book_note_passed(fd);
		hold(fd, (uint16_t)(1000 + fd));
		cr_expect_eq(book_maybe_shared(record_of(fd)), fd == 5);
		book_note_passed(fd);
		cr_expect(book_maybe_shared(record_of(fd)));
		cr_expect_not(book_is_pristine(fd));
	}
	book_note_passed(8);
	book_note_passed(-1);
	cr_expect_not(book_has(8));
}

/*
 * A child that closes what its parent holds looks for each in vain: soon at one of a few only. When
 * a look is not in vain, at each again.
 */
Test(book, looks_in_vain_become_fewer)
{
	struct fixture_connection c = connected(true);
	claim theirs = atomic_load(&record_of(5)->state.claim);
	unsigned left = 0;

	for (int i = 0; i < 17; i++) {
		book_forked();
		close_fd(5);
		cr_assert(held(c.lport));
		book_note_socket(&t, 5, KIND_TCP4);
		state_set_claim(&book_record(5, KIND_TCP4)->state, theirs);
	}
	for (uint16_t port = 1; port <= 200; port++) {
		uint64_t strays = process_strays_told(&t);

		book_note_socket(&t, 6, KIND_TCP4);
		hold(6, port);
		book_forked();
		close_fd(6);
		left += held(port);
		cr_assert(!held(port) || process_strays_told(&t) != strays, "reap is told");
	}
	cr_expect_geq(left, 1);
	cr_expect_lt(left, 64);
	cr_expect_not(held(200));
}

Test(book, ranges)
{
	struct record *list;

	for (int fd = 10; fd < 30; fd++) {
		book_note_socket(&t, fd, KIND_TCP4);
		hold(fd, (uint16_t)(1000 + fd));
	}
	book_duplicate(&t, 15, 40);
	list = book_remove_range(12, 19);
	cr_expect_eq(
		fixture_claims(&t), 20, "nothing is given back before the descriptors are closed");
	book_settle_all(&t, list);
	for (int fd = 10; fd < 30; fd++) {
		bool gone = fd >= 12 && fd <= 19;

		cr_expect_eq(book_has(fd), !gone);
		cr_expect_eq(held((uint16_t)(1000 + fd)), !gone || fd == 15, "%d", fd);
	}
	book_settle_all(&t, book_remove_range(0, UINT32_MAX));
	cr_expect_eq(fixture_claims(&t), 0);
	cr_expect_null(book_remove_range(20, 10));
}

Test(book, ranges_across_distant_descriptors)
{
	static const int fds[] = {0, 4095, 4096, 100000, (1 << 20) - 1};

	for (size_t i = 0; i < 5; i++) {
		book_note_socket(&t, fds[i], KIND_TCP4);
		hold(fds[i], (uint16_t)(1000 + i));
	}
	book_settle_all(&t, book_remove_range(1, 99999));
	cr_expect_eq(fixture_claims(&t), 3);
	book_settle_all(&t, book_remove_range(0, UINT32_MAX));
	cr_expect_eq(fixture_claims(&t), 0);
}

/* Where an administrator has raised fs.nr_open. */
Test(book, descriptors_past_a_million_are_kept)
{
	int fd = (1 << 20) + 5;

	book_note_socket(&t, fd, KIND_TCP4);
	cr_expect(book_is_pristine(fd));
	hold(fd, 1000);
	book_duplicate(&t, fd, 1 << 25);
	close_fd(fd);
	cr_expect_eq(fixture_claims(&t), 1);
	book_settle_all(&t, book_remove_range(1 << 20, UINT32_MAX));
	cr_expect_eq(fixture_claims(&t), 0);
}

Test(book, descriptors_past_the_end_are_not_kept)
{
	static const int fds[] = {-1, BOOK_DESCRIPTORS, INT32_MAX, INT32_MIN};

	for (size_t i = 0; i < 4; i++) {
		book_note_socket(&t, fds[i], KIND_TCP4);
		cr_expect_not(book_has(fds[i]));
		cr_expect_null(book_record(fds[i], KIND_TCP4));
		cr_expect_null(book_remove(fds[i]));
		book_duplicate(&t, fds[i], fds[i]);
	}
}

Test(book, a_duplicate_past_the_end_makes_it_maybe_shared)
{
	book_note_socket(&t, 5, KIND_TCP4);
	hold(5, 1000);
	book_duplicate(&t, 5, BOOK_DESCRIPTORS);
	cr_expect(atomic_load(&record_of(5)->state.flags) & STATE_SHARED);
	cr_expect_eq(atomic_load(&record_of(5)->descriptors), 1);
}

Test(book, records_are_used_again)
{
	uint32_t most = 0;

	for (int i = 0; i < 10000; i++) {
		struct record *r;

		book_note_socket(&t, 5, KIND_TCP4);
		hold(5, 1000);
		r = record_of(5);
		most = r->number > most ? r->number : most;
		close_fd(5);
	}
	cr_expect_eq(most, 0);
}

/* Each thread has descriptors of its own, as threads of a program do. */
static void *open_and_close(void *argument)
{
	int base = (int)(intptr_t)argument;
	uintptr_t wrong = 0;

	for (int i = 0; i < 5000; i++) {
		int fd = base + i % 7;
		struct record *r;

		book_note_socket(&t, fd, KIND_TCP4);
		r = book_record(fd, KIND_TCP4);
		book_duplicate(&t, fd, base + 8);
		wrong += r == NULL || atomic_load(&r->descriptors) != 2 || record_of(base + 8) != r;
		close_fd(fd);
		wrong += atomic_load(&r->descriptors) != 1;
		close_fd(base + 8);
		wrong += book_has(fd) || book_has(base + 8);
	}
	return (void *)wrong;
}

Test(book, threads_do_not_get_each_others_records)
{
	pthread_t threads[8];
	uintptr_t wrong = 0;

	for (int i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, open_and_close, (void *)(intptr_t)(100 * i + 10));
	for (int i = 0; i < 8; i++) {
		void *result;

		pthread_join(threads[i], &result);
		wrong += (uintptr_t)result;
	}
	cr_expect_eq(wrong, 0);
}

/* Then the descriptor is none that the library knows, and nothing else is wrong. */
Test(book, memory_that_cannot_be_had)
{
	int status = -1;
	pid_t child = fork();

	if (child == 0) {
		book_start_copy();
		fixture_refuse(SYS_mmap, -1, 0, ENOMEM);
		book_note_socket(&t, 3, KIND_TCP4);
		_exit(book_record(3, KIND_TCP4) == NULL && !book_has(3) && record_of(3) == NULL &&
					kind_of(3) == KIND_OTHER
				? 0
				: 1);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_expect_eq(status, 0);
}
