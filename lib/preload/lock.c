/*
 * mlockall(): the table, 8 MB as a rule, must not be what makes it fail.
 *
 * With MCL_CURRENT the kernel compares all memory that is mapped with RLIMIT_MEMLOCK, and the table
 * is mapped though little of it is ever used. If the program would have fitted without it, all but
 * the table is locked, piece by piece.
 */
#include "preload/library.h"

#include "base/reader.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

/* A number of that base, and the byte behind it, -1 at the end of the file. */
static int read_number(struct reader *r, unsigned base, uintptr_t *number)
{
	*number = 0;
	for (;;) {
		int byte = reader_next(r);
		unsigned digit = byte >= '0' && byte <= '9'   ? (unsigned)byte - '0'
				 : byte >= 'a' && byte <= 'f' ? (unsigned)byte - 'a' + 10
							      : 16;

		if (digit >= base)
			return byte;
		*number = *number * base + digit;
	}
}

/* Whether all but the table is within the limit. */
static bool others_fit(void)
{
	struct rlimit limit;
	struct reader r;
	uintptr_t pages;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || !reader_open(&r, "/proc/self/statm"))
		return false;
	bool read = read_number(&r, 10, &pages) == ' ';
	syscall(SYS_close, r.fd);
	return read && pages * (uintptr_t)sysconf(_SC_PAGESIZE) - library.engine.table.size <=
			       limit.rlim_cur;
}

/* As mlockall(), pieces that cannot be locked are left. */
static void lock_piece(uintptr_t first, uintptr_t end, int flags)
{
	uintptr_t table = (uintptr_t)library.engine.table.header;

	if (first < table + library.engine.table.size && end > table)
		return;
	syscall(SYS_mlock2, first, end - first, (flags & MCL_ONFAULT) ? MLOCK_ONFAULT : 0);
}

static bool lock_others(int flags)
{
	struct reader r;
	uintptr_t first, end;
	int byte;

	if (!reader_open(&r, "/proc/self/maps"))
		return false;
	while (read_number(&r, 16, &first) == '-' && read_number(&r, 16, &end) == ' ') {
		lock_piece(first, end, flags);
		do {
			byte = reader_next(&r);
		} while (byte >= 0 && byte != '\n');
	}
	syscall(SYS_close, r.fd);
	return true;
}

EXPORT int mlockall(int flags)
{
	int saved = errno, result = next()->mlockall(flags);

	if (result == 0 || errno != ENOMEM || !(flags & MCL_CURRENT) || !library_active())
		return result;
	if (!others_fit()) {
		errno = ENOMEM;
		return -1;
	}
	/* What is mapped from now on first: it may be refused, and nothing is locked then. */
	if (flags & MCL_FUTURE && next()->mlockall(flags & ~MCL_CURRENT) < 0)
		return -1;
	if (!lock_others(flags)) {
		errno = ENOMEM;
		return -1;
	}
	errno = saved;
	return 0;
}
