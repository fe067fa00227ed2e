/*
 * The counters of a build with -Dcoverage=true, in a file that all processes share.
 *
 * gcov's own way is to write them when a program exits. What is tested here are programs that
 * are killed, that exec, that end by _exit(), that run as another user or in a chroot: they
 * would count for nothing, and those that do exit would open 50 files on the way. So the linker
 * puts all counters into pages of their own (counters.ld), and before anything else
 * runs, a file is mapped over them: what is counted is in it at once, and nothing is ever
 * written. Counters are updated atomically (-fprofile-update=atomic).
 *
 * The file is COUNTERS_FOLDER/counters.NAME, NAME that of the program or library that counts;
 * scripts/coverage makes it. (Not NAME first: who looks for the library in a process's memory maps
 * would take that for it.) Without it a process counts for itself, and forgets it. A process that
 * is started with TUPLEBIND_COVERAGE_DUMP has gcov add what is in the file to its own (.gcda), and
 * ends.
 *
 * Raw system calls, since close() may be the one that is tested.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <gcov.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From counters.ld; whole pages. */
extern int64_t __gcov_counters_start[], __gcov_counters_end[];

/* What gcc has every object call when the program exits: nothing is written then. */
void __wrap___gcov_exit(void);

void __wrap___gcov_exit(void)
{
}

/* Opens the file of this program or, in a library (which then tells its path), of this library. */
static int counters_open(void)
{
	const char *own = (const char *)getauxval(AT_EXECFN), *name;
	char path[4096];
	Dl_info of;

	if (dladdr(__gcov_counters_start, &of) && strstr(of.dli_fname, ".so"))
		own = of.dli_fname;
	name = strrchr(own, '/');
	if ((size_t)snprintf(path, sizeof path, "%s/counters.%s", COUNTERS_FOLDER,
		    name ? name + 1 : own) >= sizeof path)
		return -1;
	return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
}

/* Behind gcov's own, by which every object's counters are known to it. */
__attribute__((constructor(101))) static void counters_share(void)
{
	size_t count = (size_t)(__gcov_counters_end - __gcov_counters_start);
	size_t size = count * sizeof *__gcov_counters_start;
	int fd = counters_open();
	void *before, *at;

	if (fd < 0)
		return;
	/* What was called before this, by others' constructors. */
	before = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (before == MAP_FAILED || syscall(SYS_ftruncate, fd, size) != 0)
		abort();
	memcpy(before, __gcov_counters_start, size);
	at = mmap(
		__gcov_counters_start, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	if (at == MAP_FAILED)
		abort();
	syscall(SYS_close, fd);
	for (size_t i = 0; i < count; i++)
		if (((int64_t *)before)[i])
			__atomic_fetch_add(&__gcov_counters_start[i], ((int64_t *)before)[i],
				__ATOMIC_RELAXED);
	munmap(before, size);
	if (secure_getenv("TUPLEBIND_COVERAGE_DUMP")) {
		__gcov_dump();
		_exit(0);
	}
}
