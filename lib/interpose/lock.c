/*
 * mlockall(): the table, 8 MB as a rule, must not be what makes it fail.
 *
 * With MCL_CURRENT the kernel compares all memory that is mapped with RLIMIT_MEMLOCK, and the table
 * is mapped though little of it is ever used. If the program would have fitted without it, all but
 * the table is locked, piece by piece.
 */
#include "interpose/library.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

/* A file of /proc, byte by byte. */
struct reader {
	int fd;
	size_t at, length;
	char bytes[512];
};

static bool begin(struct reader *r, const char *file)
{
	r->at = r->length = 0;
	r->fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC, 0);
	return r->fd >= 0;
}

static int next_byte(struct reader *r)
{
	if (r->at == r->length) {
		long got = syscall(SYS_read, r->fd, r->bytes, sizeof r->bytes);

		if (got <= 0)
			return -1;
		r->length = (size_t)got;
		r->at = 0;
	}
	return (unsigned char)r->bytes[r->at++];
}

/* A number of that base, and the byte behind it, -1 at the end of the file. */
static int read_number(struct reader *r, unsigned base, uintptr_t *number)
{
	*number = 0;
	for (;;) {
		int byte = next_byte(r);
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

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || !begin(&r, "/proc/self/statm"))
		return false;
	bool read = read_number(&r, 10, &pages) == ' ';
	syscall(SYS_close, r.fd);
	return read &&
	       pages * (uintptr_t)sysconf(_SC_PAGESIZE) - library.table.size <= limit.rlim_cur;
}

/* As mlockall(), pieces that cannot be locked are left. */
static void lock_piece(uintptr_t first, uintptr_t end, int flags)
{
	uintptr_t table = (uintptr_t)library.table.header;

	if (first < table + library.table.size && end > table)
		return;
	syscall(SYS_mlock2, first, end - first, (flags & MCL_ONFAULT) ? MLOCK_ONFAULT : 0);
}

static bool lock_others(int flags)
{
	struct reader r;
	uintptr_t first, end;
	int byte;

	if (!begin(&r, "/proc/self/maps"))
		return false;
	while (read_number(&r, 16, &first) == '-' && read_number(&r, 16, &end) == ' ') {
		lock_piece(first, end, flags);
		do {
			byte = next_byte(&r);
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
