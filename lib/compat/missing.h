/*
 * What newer versions of glibc have, and older ones and musl have not; included before each file
 * where meson.build finds something missing. So it includes no header of libc's: some files say
 * first how they want those.
 */
#pragma once

#ifdef MISSING_STRERRORNAME_NP
#include <linux/errno.h>

#define MISSING_NAME(error)                                                                        \
	case error:                                                                                \
		return #error;

/* The name of an error that a call on a socket or a file may give; NULL for others. */
__attribute__((noinline, unused)) static const char *missing_error_name(int error)
{
	switch (error) {
		MISSING_NAME(EACCES)
		MISSING_NAME(EADDRINUSE)
		MISSING_NAME(EADDRNOTAVAIL)
		MISSING_NAME(EAFNOSUPPORT)
		MISSING_NAME(EAGAIN)
		MISSING_NAME(EALREADY)
		MISSING_NAME(EBADF)
		MISSING_NAME(ECONNABORTED)
		MISSING_NAME(ECONNREFUSED)
		MISSING_NAME(ECONNRESET)
		MISSING_NAME(EDESTADDRREQ)
		MISSING_NAME(EEXIST)
		MISSING_NAME(EFAULT)
		MISSING_NAME(EFBIG)
		MISSING_NAME(EHOSTUNREACH)
		MISSING_NAME(EINPROGRESS)
		MISSING_NAME(EINTR)
		MISSING_NAME(EINVAL)
		MISSING_NAME(EIO)
		MISSING_NAME(EISCONN)
		MISSING_NAME(EISDIR)
		MISSING_NAME(ELOOP)
		MISSING_NAME(EMFILE)
		MISSING_NAME(EMSGSIZE)
		MISSING_NAME(ENAMETOOLONG)
		MISSING_NAME(ENETDOWN)
		MISSING_NAME(ENETUNREACH)
		MISSING_NAME(ENFILE)
		MISSING_NAME(ENOBUFS)
		MISSING_NAME(ENODEV)
		MISSING_NAME(ENOENT)
		MISSING_NAME(ENOMEM)
		MISSING_NAME(ENOPROTOOPT)
		MISSING_NAME(ENOSPC)
		MISSING_NAME(ENOSYS)
		MISSING_NAME(ENOTCONN)
		MISSING_NAME(ENOTDIR)
		MISSING_NAME(ENOTSOCK)
		MISSING_NAME(EOPNOTSUPP)
		MISSING_NAME(EPERM)
		MISSING_NAME(EPIPE)
		MISSING_NAME(EPROTO)
		MISSING_NAME(EPROTONOSUPPORT)
		MISSING_NAME(EPROTOTYPE)
		MISSING_NAME(EROFS)
		MISSING_NAME(ETIMEDOUT)
	default:
		return (const char *)0;
	}
}

#define strerrorname_np missing_error_name
#endif

#ifdef MISSING_CLOSE_RANGE
/* Taken over all the same: a program may look for them. Weak, for programs that have them from us
 * alone. */
__attribute__((weak)) int close_range(unsigned first, unsigned last, int flags);
__attribute__((weak)) void closefrom(int first);
int fcntl64(int fd, int command, ...);

#endif
