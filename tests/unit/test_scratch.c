/*
 * The scratch memory: one thread has it, others do without; no handler comes in between.
 */
#include "base/scratch.h"
#include "choose/plan.h"
#include "fixture.h"
#include "kernel/diag.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

static void *take(void *unused)
{
	void *taken = scratch_take();

	if (taken != NULL)
		scratch_put();
	return taken;
}

/* What another thread gets. */
static void *take_elsewhere(void)
{
	pthread_t thread;
	void *taken;

	cr_assert_eq(pthread_create(&thread, NULL, take, NULL), 0);
	pthread_join(thread, &taken);
	return taken;
}

Test(scratch, is_had_by_one_at_a_time)
{
	char *mine = scratch_take();

	cr_assert_not_null(mine);
	cr_expect_eq((uintptr_t)mine % sizeof(long double), 0);
	memset(mine, 0xff, SCRATCH_SIZE);
	cr_expect_null(take_elsewhere());
	cr_expect_null(scratch_take());
	scratch_put();
	cr_expect_eq(take_elsewhere(), mine);
	cr_expect_eq(take(NULL), mine);
}

static volatile sig_atomic_t handled, free_in_handler;

static void on_signal(int number)
{
	handled++;
	free_in_handler = take(NULL) != NULL;
}

Test(scratch, a_handler_waits)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGALRM, &action, NULL);
	for (int i = 0; i < 2; i++) {
		cr_assert_not_null(scratch_take());
		raise(SIGALRM);
		cr_expect_eq(handled, i);
		cr_expect_null(scratch_take(), "who did not get it changes nothing");
		raise(SIGALRM);
		cr_expect_eq(handled, i);
		scratch_put();
		/* ThreadSanitizer hands a signal on with the next call of libc only. */
		usleep(1);
		cr_expect_eq(handled, i + 1);
		cr_expect(free_in_handler);
	}
}

static volatile sig_atomic_t faults;

static void on_fault(int number)
{
	faults++;
}

Test(scratch, a_fault_does_not)
{
	struct sigaction action = {.sa_handler = on_fault};

	sigaction(SIGSEGV, &action, NULL);
	cr_assert_not_null(scratch_take());
	raise(SIGSEGV);
	cr_expect_eq(faults, 1);
	scratch_put();
}

Test(scratch, a_fork_gives_it_back)
{
	int status;

	cr_assert_not_null(scratch_take());
	pid_t child = fork();
	if (child == 0) {
		scratch_forked();
		_exit(take(NULL) != NULL ? 0 : 1);
	}
	waitpid(child, &status, 0);
	cr_expect_eq(status, 0);
	cr_expect_null(scratch_take(), "it is the parent's still");
	scratch_put();
}

static void see(
	void *context, const struct tuplebind_lane *lane, uint16_t lport, enum diag_state state)
{
}

/* What needs it says so, and leaves everything as it was. */
Test(scratch, those_who_do_without)
{
	static struct plan plan;
	struct config config;
	struct fault fault;
	struct table t;

	fixture_clean_environment();
	cr_assert_eq(config_read(&config, &fault), 0);
	fixture_table(&t, 0);
	cr_assert_eq(plan_make(&plan, &config, &fault), 0);
	plan.permutation = &t.permutation;
	cr_assert_not_null(scratch_take());
	cr_expect_eq(diag_dump(IPPROTO_TCP, 1, see, NULL), -EBUSY);
	cr_expect_eq(plan_set_ports(&plan), -EBUSY);
	cr_expect_not(plan_look_at_ports(&plan));
	scratch_put();
	cr_expect(plan_look_at_ports(&plan), "it is made up for at once");
	cr_expect_not(plan_look_at_ports(&plan));
	cr_expect_eq(diag_dump(IPPROTO_TCP, 1, see, NULL), 0);
	plan_free(&plan);
}
