#include "table/process.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

uint64_t process_start_time(pid_t pid)
{
	struct text path;
	char line[1024];
	uint64_t value = 0;

	text_clear(&path);
	text_put(&path, "/proc/");
	text_put_number(&path, (uint64_t)pid);
	text_put(&path, "/stat");
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path.bytes, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	long got = syscall(SYS_read, fd, line, sizeof line - 1);
	syscall(SYS_close, fd);
	if (got <= 0)
		return 0;
	line[got] = '\0';
	/* The name, field 2, is in parentheses and may itself hold blanks and parentheses. */
	const char *p = strrchr(line, ')');
	for (int field = 2; p != NULL && field < 22; field++)
		p = strchr(p + 1, ' ');
	for (p = p ? p + 1 : ""; *p >= '0' && *p <= '9'; p++)
		value = value * 10 + (uint64_t)(*p - '0');
	return value;
}

static uint64_t pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}

static bool gone(uint32_t pid)
{
	return kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

bool process_alive(const struct tuplebind_process *entry)
{
	uint32_t pid = atomic_load_explicit(&entry->pid, memory_order_acquire);
	uint64_t start = atomic_load_explicit(&entry->start, memory_order_relaxed);
	uint64_t home = atomic_load_explicit(&entry->pid_namespace, memory_order_relaxed);

	/* kill(2) with 0 or a negative number would speak to others. */
	if (pid == 0 || pid > INT32_MAX)
		return false;
	if (home != 0 && home != pid_namespace())
		return true;
	if (gone(pid))
		return false;
	uint64_t now = process_start_time((pid_t)pid);
	return start == 0 || now == 0 || start == now;
}

/* An entry for the taking: free, or of a process of this pid namespace that is gone. */
static bool take(struct tuplebind_process *entry, uint32_t pid, uint64_t home)
{
	uint32_t holder = atomic_load_explicit(&entry->pid, memory_order_relaxed);
	bool ours = atomic_load_explicit(&entry->pid_namespace, memory_order_relaxed) == home;

	/* Same id: what this process was before exec, or a dead one that had the id. */
	if (holder == pid && ours)
		return true;
	if (holder != 0 && (!ours || holder > INT32_MAX || !gone(holder)))
		return false;
	return atomic_compare_exchange_strong_explicit(
		&entry->pid, &holder, pid, memory_order_acq_rel, memory_order_relaxed);
}

void process_enter(struct table *t, struct process_self *self)
{
	uint32_t pid = (uint32_t)getpid();
	uint64_t home = pid_namespace(), name[2] = {0};

	self->entry = NULL;
	for (unsigned step = 0; step < TUPLEBIND_PROCESSES; step++) {
		struct tuplebind_process *entry =
			&t->header->processes[(pid + step) % TUPLEBIND_PROCESSES];

		if (!take(entry, pid, home))
			continue;
		for (int i = 0; i < TUPLEBIND_FLIGHTS; i++)
			atomic_store_explicit(&entry->flights[i], 0, memory_order_relaxed);
		atomic_store_explicit(&entry->pid_namespace, home, memory_order_relaxed);
		atomic_store_explicit(
			&entry->start, process_start_time((pid_t)pid), memory_order_relaxed);
		prctl(PR_GET_NAME, name);
		for (int i = 0; i < 2; i++)
			atomic_store_explicit(&entry->name[i], name[i], memory_order_relaxed);
		self->entry = entry;
		return;
	}
}

void process_leave(struct process_self *self)
{
	if (self->entry != NULL)
		atomic_store_explicit(&self->entry->pid, 0, memory_order_release);
	self->entry = NULL;
}

_Atomic uint64_t *process_flight(struct process_self *self, claim c)
{
	for (int i = 0; self->entry != NULL && i < TUPLEBIND_FLIGHTS; i++) {
		uint64_t none = 0;

		/* Release: reap, which reads flights after claims, must not see the claim alone. */
		if (atomic_compare_exchange_strong_explicit(&self->entry->flights[i], &none, c,
			    memory_order_acq_rel, memory_order_relaxed))
			return &self->entry->flights[i];
	}
	return NULL;
}

void process_landed(_Atomic uint64_t *place)
{
	if (place != NULL)
		atomic_store_explicit(place, 0, memory_order_release);
}
