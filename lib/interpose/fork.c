/*
 * _Fork(): the one fork that runs no pthread_atfork() handlers (POSIX has it
 * async-signal-safe, and so are ours). fork() and what is built on it run them.
 */
#include "interpose/library.h"

#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

EXPORT pid_t _Fork(void)
{
	pid_t (*next)(void) = NEXT(pid_t(void), "_Fork");

	if (next == NULL) {
		errno = ENOSYS; /* a libc older than the call */
		return -1;
	}
	if (!library_active() || !book_usable())
		return next();
	book_forked();
	pid_t child = next();
	int saved = errno;
	if (child == 0)
		library_start_child();
	else
		book_forked();
	errno = saved;
	return child;
}
