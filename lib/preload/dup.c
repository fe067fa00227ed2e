/*
 * dup(), dup2(), dup3() and fcntl(F_DUPFD): one more descriptor of the same socket, and
 * dup2() may close another one on the way.
 */

/* Both names of fcntl() are defined here; with this macro libc makes them one. */
#undef _FILE_OFFSET_BITS

#include "preload/library.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>

static int duplicated(int from, int to)
{
	if (to < 0 || from == to || !library_active() || !(book_has(from) || book_has(to)) ||
		!book_usable())
		return to;
	int saved = errno;
	book_duplicate(&library.engine.table, from, to);
	errno = saved;
	return to;
}

EXPORT int dup(int fd)
{
	return duplicated(fd, next()->dup(fd));
}

EXPORT int dup2(int from, int to)
{
	return duplicated(from, next()->dup2(from, to));
}

EXPORT int dup3(int from, int to, int flags)
{
	return duplicated(from, next()->dup3(from, to, flags));
}

static int with_fcntl(int (*call)(int, int, ...), int fd, int command, void *argument)
{
	int result = call(fd, command, argument);

	return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? duplicated(fd, result) : result;
}

/* The argument, whatever its type, is passed on as a pointer: one register or stack slot. */
EXPORT int fcntl(int fd, int command, ...)
{
	va_list arguments;

	va_start(arguments, command);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);
	return with_fcntl(next()->fcntl, fd, command, argument);
}

EXPORT int fcntl64(int fd, int command, ...)
{
	va_list arguments;

	va_start(arguments, command);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);
	return with_fcntl(next()->fcntl64, fd, command, argument);
}
