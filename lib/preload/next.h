/*
 * The definitions that ours stand in front of: the next ones in the chain of loaded
 * objects, which may be another preload's, not libc's.
 *
 * All are looked up at once when the library starts, because dlsym() may not be called from
 * a signal handler; or by the first call, when another library's constructor makes it
 * before that. What libc lacks (close_range() before glibc 2.34, say) stays NULL.
 */
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

/* Only what carries this is in the dynamic symbol table. */
#define EXPORT __attribute__((visibility("default")))

/* The type of sendmmsg()'s flags. */
#ifdef __GLIBC__
typedef int mmsg_flags;
#else
typedef unsigned mmsg_flags;
#endif

struct next {
	int (*socket)(int, int, int);
	int (*bind)(int, const struct sockaddr *, socklen_t);
	int (*getsockname)(int, struct sockaddr *, socklen_t *);
	int (*setsockopt)(int, int, int, const void *, socklen_t);
	int (*connect)(int, const struct sockaddr *, socklen_t);
	ssize_t (*sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
	ssize_t (*sendmsg)(int, const struct msghdr *, int);
	int (*sendmmsg)(int, struct mmsghdr *, unsigned, mmsg_flags);
	int (*close)(int);
	int (*close_range)(unsigned, unsigned, int);
	void (*closefrom)(int);
	int (*dup)(int);
	int (*dup2)(int, int);
	int (*dup3)(int, int, int);
	int (*fcntl)(int, int, ...);
	int (*fcntl64)(int, int, ...);
	pid_t (*fork_)(void); /* _Fork */
	int (*setns)(int, int);
	int (*unshare)(int);
	int (*mlockall)(int);
};

/* The next definitions. One look at a word, after the first call. */
const struct next *next(void);
