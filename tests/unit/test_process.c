/*
 * The list of attached processes, and the claims they have in flight.
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
	struct tuplebind_process *entry = &t.header->processes[index % TUPLEBIND_PROCESSES];

	atomic_store(&entry->pid, pid);
	atomic_store(&entry->pid_namespace, home);
	atomic_store(&entry->start, process_start_time((pid_t)pid));
	return entry;
}

static unsigned entries_of(uint32_t pid)
{
	unsigned count = 0;

	for (unsigned i = 0; i < TUPLEBIND_PROCESSES; i++)
		count += atomic_load(&t.header->processes[i].pid) == pid;
	return count;
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

	process_enter(&t, &self);
	before = self.entry;
	process_flight(&self, 77);
	self.entry = NULL;
	process_enter(&t, &self);
	cr_expect_eq(self.entry, before);
	cr_expect_eq(entries_of((uint32_t)getpid()), 1);
	cr_expect_eq(atomic_load(&before->flights[0]), 0, "what was in flight is not any more");
}

/* The first place was somebody else's at the first time, and is free at the second. */
Test(process, finds_its_entry_again_though_a_better_place_is_free_now)
{
	struct tuplebind_process *before, *first = write_entry((unsigned)getpid(), 1, namespace);

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
	struct tuplebind_process *first =
		write_entry((unsigned)getpid(), fixture_dead_pid(), namespace);

	atomic_store(&first->flights[3], 99);
	process_enter(&t, &self);
	cr_expect_eq(self.entry, first);
	cr_expect_eq(atomic_load(&first->flights[3]), 0);
}

Test(process, leaves_the_living_and_those_it_cannot_know_alone)
{
	unsigned place = (unsigned)getpid();

	write_entry(place, 1, namespace);
	write_entry(place + 1, fixture_dead_pid(), namespace + 1);
	write_entry(place + 2, (uint32_t)getpid(), namespace + 1);
	write_entry(place + 3, UINT32_MAX, namespace);
	process_enter(&t, &self);
	cr_expect_eq(self.entry, &t.header->processes[(place + 4) % TUPLEBIND_PROCESSES]);
}

Test(process, a_full_list_is_done_without)
{
	for (unsigned i = 0; i < TUPLEBIND_PROCESSES; i++)
		write_entry(i, 1, namespace);
	process_enter(&t, &self);
	cr_expect_null(self.entry);
	cr_expect_null(process_flight(&self, 1));
	process_landed(NULL);
	process_leave(&self);
	cr_expect_eq(entries_of(1), TUPLEBIND_PROCESSES);
}

Test(process, flights)
{
	_Atomic uint64_t *places[TUPLEBIND_FLIGHTS];

	process_enter(&t, &self);
	for (unsigned i = 0; i < TUPLEBIND_FLIGHTS; i++) {
		places[i] = process_flight(&self, i + 1);
		cr_assert_not_null(places[i]);
		cr_expect_eq(atomic_load(places[i]), i + 1);
	}
	cr_expect_null(process_flight(&self, 100), "there are no more places");
	process_landed(places[5]);
	cr_expect_eq(atomic_load(places[5]), 0);
	cr_expect_eq(process_flight(&self, 100), places[5]);
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
}

Test(process, ids_that_would_speak_to_others)
{
	static const uint32_t ids[] = {0, UINT32_MAX, UINT32_C(1) << 31, (uint32_t)-2};
	struct tuplebind_process *entry = write_entry(0, 1, namespace);

	for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
		atomic_store(&entry->pid, ids[i]);
		cr_expect_not(process_alive(entry));
	}
}

Test(process, a_process_that_waits_to_be_reaped_by_its_parent)
{
	siginfo_t info;
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	cr_assert_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	cr_expect(process_alive(write_entry(0, (uint32_t)child, namespace)));
	waitpid(child, NULL, 0);
}

Test(process, start_times_order_as_the_starts)
{
	cr_expect_neq(process_start_time(getpid()), 0);
	cr_expect_leq(process_start_time(getppid()), process_start_time(getpid()));
	cr_expect_eq(process_start_time((pid_t)fixture_dead_pid()), 0);
}
