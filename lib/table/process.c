#include "table/process.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define THOROUGH_EVERY_NS 1000000

/* What /proc/PID/stat says; all zero when it cannot be read. */
struct process_stat {
	char state;	  /* field 3 */
	uint64_t threads; /* field 20 */
	uint64_t start;	  /* field 22 */
};

static uint64_t read_number(const char *p)
{
	uint64_t value = 0;

	for (; *p >= '0' && *p <= '9'; p++)
		value = value * 10 + (uint64_t)(*p - '0');
	return value;
}

static struct process_stat read_stat(pid_t pid)
{
	struct process_stat stat = {.state = 0};
	struct text path;
	char line[1024];

	text_clear(&path);
	text_put(&path, "/proc/");
	text_put_number(&path, (uint64_t)pid);
	text_put(&path, "/stat");
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path.bytes, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return stat;
	long got = syscall(SYS_read, fd, line, sizeof line - 1);
	syscall(SYS_close, fd);
	if (got <= 0)
		return stat;
	line[got] = '\0';
	/* The name, field 2, is in parentheses and may itself hold blanks and parentheses. */
	const char *p = strrchr(line, ')');
	for (int field = 3; p != NULL && field <= 22; field++) {
		p = strchr(p + 1, ' ');
		if (p != NULL && field == 3)
			stat.state = p[1];
		else if (p != NULL && field == 20)
			stat.threads = read_number(p + 1);
		else if (p != NULL && field == 22)
			stat.start = read_number(p + 1);
	}
	return stat;
}

uint64_t process_start_time(pid_t pid)
{
	return read_stat(pid).start;
}

/*
 * The pid namespace of this process, looked up once: a process stays in its own, and a child
 * in another one comes by process_enter().
 */
static _Atomic uint64_t home_namespace;

static uint64_t look_up_pid_namespace(void)
{
	struct stat st;
	uint64_t inode = stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;

	atomic_store_explicit(&home_namespace, inode, memory_order_relaxed);
	return inode;
}

static uint64_t pid_namespace(void)
{
	uint64_t known = atomic_load_explicit(&home_namespace, memory_order_relaxed);

	return known != 0 ? known : look_up_pid_namespace();
}

static bool gone(uint32_t pid)
{
	return kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

/*
 * Whether the process lives that had this id and began at @start (0: not known), as far
 * as @mask says. A zombie has let go of all it had, unless threads of it go on.
 */
static bool lives(uint32_t pid, uint64_t start, uint64_t mask)
{
	/* kill(2) with 0 or a negative number would speak to others. */
	if (pid == 0 || pid > INT32_MAX || gone(pid))
		return false;
	struct process_stat now = read_stat((pid_t)pid);
	if ((now.state == 'Z' || now.state == 'X') && now.threads <= 1)
		return false;
	/* Without /proc on either side the id has to do. */
	return start == 0 || now.start == 0 || (now.start & mask) == start;
}

bool process_alive(const struct tuplebind_process *entry)
{
	uint64_t home = atomic_load_explicit(&entry->pid_namespace, memory_order_relaxed);
	uint32_t pid = atomic_load_explicit(&entry->pid, memory_order_acquire);

	if (pid != 0 && home != 0 && home != pid_namespace())
		return true;
	return lives(pid, atomic_load_explicit(&entry->start, memory_order_relaxed), UINT64_MAX);
}

uint64_t process_token(pid_t pid)
{
	return (uint32_t)pid | process_start_time(pid) << 32;
}

uint64_t process_own_token(void)
{
	static _Atomic uint64_t known;
	uint64_t token = atomic_load_explicit(&known, memory_order_relaxed);
	pid_t pid = getpid();

	if ((uint32_t)token == (uint32_t)pid)
		return token;
	token = process_token(pid);
	atomic_store_explicit(&known, token, memory_order_relaxed);
	return token;
}

bool process_token_alive(uint64_t token)
{
	return lives((uint32_t)token, token >> 32, UINT32_MAX);
}

void process_strayed(struct table *t)
{
	atomic_fetch_add_explicit(&t->header->strays, 1, memory_order_release);
}

/*
 * True when the entry is of a process of this pid namespace that is gone; @thoroughly, also of a
 * zombie.
 */
static bool entry_gone(const struct tuplebind_process *entry, uint64_t home, bool thoroughly)
{
	uint32_t pid = atomic_load_explicit(&entry->pid, memory_order_relaxed);

	if (pid == 0 || pid > INT32_MAX ||
		atomic_load_explicit(&entry->pid_namespace, memory_order_relaxed) != home)
		return false;
	return gone(pid) || (thoroughly && !process_alive(entry));
}

/* Never read past the list, whatever the count says. */
static unsigned entries_used(const struct table *t)
{
	unsigned used = atomic_load_explicit(&t->header->processes_used, memory_order_relaxed);

	return used < TUPLEBIND_PROCESSES ? used : TUPLEBIND_PROCESSES;
}

/* Zombies are told from the living by /proc only, which costs too much for every time. */
static bool thorough_look_due(void)
{
	static _Atomic uint64_t next;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	if (ns < atomic_load_explicit(&next, memory_order_relaxed))
		return false;
	atomic_store_explicit(&next, ns + THOROUGH_EVERY_NS, memory_order_relaxed);
	return true;
}

bool process_may_live(const struct table *t, uint64_t token)
{
	uint64_t home = pid_namespace();

	if (token == 0 || process_token_alive(token))
		return token != 0;
	for (unsigned i = 0, used = entries_used(t); i < used; i++) {
		const struct tuplebind_process *entry = &t->header->processes[i];

		if (atomic_load_explicit(&entry->pid, memory_order_relaxed) != 0 &&
			atomic_load_explicit(&entry->pid_namespace, memory_order_relaxed) != home)
			return true;
	}
	return false;
}

uint64_t process_strays_told(const struct table *t)
{
	return atomic_load_explicit(&t->header->strays, memory_order_acquire);
}

uint64_t process_strays(struct table *t)
{
	static _Atomic unsigned next;
	unsigned used = entries_used(t), looks = used < 64 ? used : 64;
	uint64_t home = pid_namespace();
	bool thoroughly = thorough_look_due();

	for (unsigned i = 0; i < looks; i++) {
		unsigned turn = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
		struct tuplebind_process *entry = &t->header->processes[turn % used];
		uint32_t pid = atomic_load_explicit(&entry->pid, memory_order_relaxed);

		if (entry_gone(entry, home, thoroughly) &&
			atomic_compare_exchange_strong_explicit(
				&entry->pid, &pid, 0, memory_order_relaxed, memory_order_relaxed))
			process_strayed(t);
	}
	return process_strays_told(t);
}

/* Takes an entry that is free, dead, or this process's own from before an exec. */
static bool take(struct table *t, struct tuplebind_process *entry, uint32_t pid, uint64_t home)
{
	uint32_t holder = atomic_load_explicit(&entry->pid, memory_order_relaxed);
	bool ours = atomic_load_explicit(&entry->pid_namespace, memory_order_relaxed) == home;

	if (holder != 0 && !(holder == pid && ours) && !entry_gone(entry, home, false))
		return false;
	/* Not known until it is stored: or the living would be taken for the dead one before. */
	atomic_store_explicit(&entry->start, 0, memory_order_relaxed);
	if (!atomic_compare_exchange_strong_explicit(
		    &entry->pid, &holder, pid, memory_order_acq_rel, memory_order_relaxed))
		return false;
	if (holder != 0)
		process_strayed(t);
	return true;
}

static void count_entry(struct table *t, unsigned index)
{
	uint32_t used = atomic_load_explicit(&t->header->processes_used, memory_order_relaxed);

	while (used <= index &&
		!atomic_compare_exchange_weak_explicit(&t->header->processes_used, &used, index + 1,
			memory_order_relaxed, memory_order_relaxed))
		;
}

/* The entry that says it is this process, or the first one to be had. */
static struct tuplebind_process *find_entry(struct table *t, uint32_t pid, uint64_t home)
{
	struct tuplebind_process *entries = t->header->processes;

	for (unsigned i = 0, used = entries_used(t); i < used; i++)
		if (atomic_load_explicit(&entries[i].pid, memory_order_relaxed) == pid &&
			take(t, &entries[i], pid, home))
			return &entries[i];
	for (unsigned i = 0; i < TUPLEBIND_PROCESSES; i++)
		if (take(t, &entries[i], pid, home))
			return &entries[i];
	return NULL;
}

void process_enter(struct table *t, struct process_self *self)
{
	uint32_t pid = (uint32_t)getpid();
	uint64_t home = look_up_pid_namespace(), name[2] = {0};
	struct tuplebind_process *entry = find_entry(t, pid, home);

	self->entry = entry;
	if (entry == NULL)
		return;
	atomic_store_explicit(&entry->pid_namespace, home, memory_order_relaxed);
	atomic_store_explicit(&entry->start, process_start_time((pid_t)pid), memory_order_relaxed);
	prctl(PR_GET_NAME, name);
	for (int i = 0; i < 2; i++)
		atomic_store_explicit(&entry->name[i], name[i], memory_order_relaxed);
	count_entry(t, (unsigned)(entry - t->header->processes));
}

void process_leave(struct process_self *self)
{
	if (self->entry == NULL)
		return;
	atomic_store_explicit(&self->entry->pid, 0, memory_order_release);
	self->entry = NULL;
}
