/*
 * A file read byte by byte, of any length, with little stack: for files of /proc.
 *
 * Raw system calls: libc's are cancellation points. Async-signal-safe, takes no memory.
 */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

struct reader {
	int fd;
	size_t at, length;
	char bytes[512];
};

/* False, with errno set, when the file cannot be opened; else the caller closes r->fd. */
static inline bool reader_open(struct reader *r, const char *file)
{
	r->at = r->length = 0;
	r->fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
	return r->fd >= 0;
}

/* The next byte; -1 at the end of the file, or when it cannot be read. */
static inline int reader_next(struct reader *r)
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
