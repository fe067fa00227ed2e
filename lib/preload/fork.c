/*
 * _Fork(): the one fork that runs no pthread_atfork() handlers (POSIX has it
 * async-signal-safe, and so are ours). fork() and what is built on it run them.
 */
#include "preload/library.h"

#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

EXPORT pid_t _Fork(void)
{
	if (next()->fork_ == NULL) {
		errno = ENOSYS; /* a libc older than the call */
		return -1;
	}
	if (!library_active() || !book_usable())
		return next()->fork_();
	book_forked();
	pid_t child = next()->fork_();
	int saved = errno;
	if (child == 0)
		library_start_child();
	else
		book_forked();
	errno = saved;
	return child;
}
