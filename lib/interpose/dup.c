/*
 * dup(), dup2(), dup3() and fcntl(F_DUPFD): one more descriptor of the same socket, and
 * dup2() may close another one on the way.
 */

/* Both names of fcntl() are defined here; with this macro libc makes them one. */
#undef _FILE_OFFSET_BITS

#include "interpose/library.h"

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
	book_duplicate(&library.table, from, to);
	errno = saved;
	return to;
}

EXPORT int dup(int fd)
{
	return duplicated(fd, NEXT(int(int), "dup")(fd));
}

EXPORT int dup2(int from, int to)
{
	return duplicated(from, NEXT(int(int, int), "dup2")(from, to));
}

EXPORT int dup3(int from, int to, int flags)
{
	return duplicated(from, NEXT(int(int, int, int), "dup3")(from, to, flags));
}

typedef int fcntl_function(int, int, ...);

static int with_fcntl(fcntl_function *next, int fd, int command, void *argument)
{
	int result = next(fd, command, argument);

	return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? duplicated(fd, result) : result;
}

/* The argument, whatever its type, is passed on as a pointer: one register or stack slot. */
EXPORT int fcntl(int fd, int command, ...)
{
	va_list arguments;

	va_start(arguments, command);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);
	return with_fcntl(NEXT(fcntl_function, "fcntl"), fd, command, argument);
}

EXPORT int fcntl64(int fd, int command, ...)
{
	va_list arguments;

	va_start(arguments, command);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);
	return with_fcntl(NEXT(fcntl_function, "fcntl64"), fd, command, argument);
}
