/*
 * The list of attached processes: who is in it, who lives, and that every death that may
 * have left claims behind is noticed.
 */
#include "fixture.h"
#include "table/process.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct table t;
static struct process_self self;
static uint64_t namespace;

static void setup(void)
{
	struct stat st;

	fixture_table(&t, 0);
	cr_assert_eq(stat("/proc/self/ns/pid", &st), 0);
	namespace = st.st_ino;
}

TestSuite(process, .init = setup);

/* Writes an entry as process @pid of pid namespace @home would have. */
static struct tuplebind_process *write_entry(unsigned index, uint32_t pid, uint64_t home)
{
	struct tuplebind_process *entry = &t.header->processes[index];

	atomic_store(&entry->pid, pid);
	atomic_store(&entry->pid_namespace, home);
	atomic_store(&entry->start, process_start_time((pid_t)pid));
	if (atomic_load(&t.header->processes_used) <= index)
		atomic_store(&t.header->processes_used, index + 1);
	return entry;
}

static unsigned entries_of(uint32_t pid)
{
	unsigned count = 0;

	for (unsigned i = 0; i < TUPLEBIND_PROCESSES; i++)
		count += atomic_load(&t.header->processes[i].pid) == pid;
	return count;
}

/* A child that has ended and whom nobody has waited for yet. */
static pid_t zombie(void)
{
	siginfo_t info;
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	cr_assert_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	return child;
}

Test(process, enters_under_its_name)
{
	char name[16];

	prctl(PR_SET_NAME, "a (b) c");
	process_enter(&t, &self);
	cr_assert_not_null(self.entry);
	memcpy(name, (void *)self.entry->name, sizeof name);
	cr_expect_str_eq(name, "a (b) c");
	cr_expect_eq(atomic_load(&self.entry->pid), (uint32_t)getpid());
	cr_expect_eq(atomic_load(&self.entry->pid_namespace), namespace);
	cr_expect_neq(atomic_load(&self.entry->start), 0);
	cr_expect_eq(atomic_load(&self.entry->start), process_start_time(getpid()));
	cr_expect(process_alive(self.entry));
}

Test(process, leaves)
{
	process_enter(&t, &self);
	process_leave(&self);
	cr_expect_null(self.entry);
	cr_expect_eq(entries_of((uint32_t)getpid()), 0);
	process_leave(&self);
}

Test(process, finds_its_entry_again_after_exec)
{
	struct tuplebind_process *before;
	uint64_t strays;

	process_enter(&t, &self);
	before = self.entry;
	strays = process_strays(&t);
	process_enter(&t, &self);
	cr_expect_eq(self.entry, before);
	cr_expect_eq(entries_of((uint32_t)getpid()), 1);
	cr_expect_gt(process_strays(&t), strays, "the program before it may have held some");
}

/* The first place was somebody else's at the first time, and is free at the second. */
Test(process, finds_its_entry_again_though_a_better_place_is_free_now)
{
	struct tuplebind_process *before, *first = write_entry(0, 1, namespace);

	process_enter(&t, &self);
	before = self.entry;
	cr_assert_neq(before, first);
	atomic_store(&first->pid, 0);
	process_enter(&t, &self);
	cr_expect_eq(self.entry, before);
	cr_expect_eq(entries_of((uint32_t)getpid()), 1);
}

Test(process, takes_over_the_entry_of_a_dead_one)
{
	struct tuplebind_process *first = write_entry(0, fixture_dead_pid(), namespace);
	uint64_t before = atomic_load(&t.header->strays);

	process_enter(&t, &self);
	cr_expect_eq(self.entry, first);
	cr_expect_gt(atomic_load(&t.header->strays), before);
}

Test(process, leaves_the_living_and_those_it_cannot_know_alone)
{
	write_entry(0, 1, namespace);
	write_entry(1, fixture_dead_pid(), namespace + 1);
	write_entry(2, (uint32_t)getpid(), namespace + 1);
	write_entry(3, UINT32_MAX, namespace);
	process_enter(&t, &self);
	cr_expect_eq(self.entry, &t.header->processes[4]);
	cr_expect_eq(atomic_load(&t.header->processes_used), 5);
}

Test(process, a_full_list_is_done_without)
{
	for (unsigned i = 0; i < TUPLEBIND_PROCESSES; i++)
		write_entry(i, 1, namespace);
	process_enter(&t, &self);
	cr_expect_null(self.entry);
	process_leave(&self);
	cr_expect_eq(entries_of(1), TUPLEBIND_PROCESSES);
}

Test(process, a_count_of_entries_somebody_wrote_over)
{
	atomic_store(&t.header->processes_used, UINT32_MAX);
	process_strays(&t);
	process_enter(&t, &self);
	cr_expect_not_null(self.entry);
}

Test(process, many_enter_at_once_and_each_has_an_entry)
{
	unsigned used;

	for (int i = 0; i < 20; i++) {
		if (fork() == 0) {
			process_enter(&t, &self);
			_exit(self.entry == NULL || entries_of((uint32_t)getpid()) != 1);
		}
	}
	for (int status; wait(&status) > 0;)
		cr_expect_eq(status, 0);
	used = atomic_load(&t.header->processes_used);
	cr_expect_geq(used, 1);
	cr_expect_leq(used, 20);
}

Test(process, the_killed_are_noticed_once)
{
	uint64_t before = process_strays(&t);

	write_entry(0, fixture_dead_pid(), namespace);
	write_entry(1, (uint32_t)getpid(), namespace);
	cr_expect_eq(process_strays(&t), before + 1);
	cr_expect_eq(process_strays(&t), before + 1);
	cr_expect_eq(entries_of((uint32_t)getpid()), 1);
}

/* lives() knows that a zombie has let go of all it had; whoever is full must learn it too. */
Test(process, the_killed_are_noticed_before_anybody_waited_for_them)
{
	uint64_t before = process_strays(&t);

	write_entry(0, (uint32_t)zombie(), namespace);
	/* Zombies are looked for at most once a millisecond. */
	usleep(2000);
	cr_expect_gt(process_strays(&t), before);
}

Test(process, the_killed_are_noticed_wherever_they_stand)
{
	uint64_t before = process_strays(&t);

	for (unsigned i = 0; i < 300; i++)
		write_entry(i, 1, namespace);
	write_entry(250, fixture_dead_pid(), namespace);
	/* Sixty-four are looked at each time. */
	for (int i = 0; i < 5; i++)
		process_strays(&t);
	cr_expect_eq(process_strays(&t), before + 1);
}

Test(process, who_lives)
{
	struct tuplebind_process *entry = write_entry(0, (uint32_t)getpid(), namespace);

	cr_expect(process_alive(entry));
	atomic_store(&entry->start, atomic_load(&entry->start) + 1);
	cr_expect_not(process_alive(entry), "another process with the same id");
	atomic_store(&entry->start, 0);
	cr_expect(process_alive(entry), "its start was never known");
	atomic_store(&entry->pid, fixture_dead_pid());
	cr_expect_not(process_alive(entry));
	atomic_store(&entry->pid_namespace, namespace + 1);
	cr_expect(process_alive(entry), "of another pid namespace: cannot be known");
	atomic_store(&entry->pid, 0);
	cr_expect_not(process_alive(entry));
}

Test(process, ids_that_would_speak_to_others)
{
	static const uint32_t ids[] = {0, UINT32_MAX, UINT32_C(1) << 31, (uint32_t)-2};
	struct tuplebind_process *entry = write_entry(0, 1, namespace);

	for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
		atomic_store(&entry->pid, ids[i]);
		cr_expect_not(process_alive(entry));
		cr_expect_not(process_token_alive(ids[i]));
	}
}

Test(process, a_zombie_holds_nothing)
{
	pid_t child = zombie();

	cr_expect_not(process_alive(write_entry(0, (uint32_t)child, namespace)));
	cr_expect_not(process_token_alive(process_token(child)));
}

Test(process, tokens)
{
	uint64_t token = process_token(getpid());

	cr_expect_eq((uint32_t)token, (uint32_t)getpid());
	cr_expect(process_token_alive(token));
	cr_expect(process_token_alive((uint32_t)token), "its start was never known");
	cr_expect_not(process_token_alive(token + (UINT64_C(1) << 32)), "another with the same id");
	cr_expect_not(process_token_alive(0));
	cr_expect_not(process_token_alive(process_token((pid_t)fixture_dead_pid())));
}

Test(process, start_times_order_as_the_starts)
{
	cr_expect_neq(process_start_time(getpid()), 0);
	cr_expect_leq(process_start_time(getppid()), process_start_time(getpid()));
	cr_expect_eq(process_start_time((pid_t)fixture_dead_pid()), 0);
}

Test(process, a_token_of_a_namespace_that_is_not_seen)
{
	uint64_t dead = fixture_dead_pid();

	cr_expect_not(process_may_live(&t, 0));
	cr_expect(process_may_live(&t, process_own_token()));
	cr_expect_not(process_may_live(&t, dead));
	write_entry(0, (uint32_t)getpid(), namespace);
	cr_expect_not(process_may_live(&t, dead));
	write_entry(1, 1, namespace + 1);
	cr_expect(process_may_live(&t, dead), "it may be one of the other namespace");
	cr_expect_not(process_may_live(&t, 0));
}
