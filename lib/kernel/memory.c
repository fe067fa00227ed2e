#include "kernel/memory.h"

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORD ((uintptr_t)8) /* the kernel's signal set */
#define PAGE ((uintptr_t)4096)

/*
 * Nothing is on the first page, and NULL is no set at all. rt_sigprocmask() reads the set before it
 * looks at what is to be done with it, and nothing is done by ~0: EINVAL, or EFAULT. It takes no
 * descriptor, waits for nothing, and is allowed nearly everywhere. (Abseil asks in the same way:
 * absl/debugging/internal/address_is_readable.cc.)
 */
static bool word_readable(uintptr_t at)
{
	return syscall(SYS_rt_sigprocmask, ~0, at & ~(WORD - 1), NULL, (size_t)WORD) == 0 ||
	       errno != EFAULT;
}

bool memory_readable(const void *at, size_t size)
{
	uintptr_t first = (uintptr_t)at, last = first + size - 1;
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	int saved = errno;

	/* On this page of the stack, as most addresses of sockets are. */
	if (first / PAGE == here / PAGE && last / PAGE == here / PAGE)
		return true;
	bool readable = first >= PAGE && first <= last && word_readable(first) &&
			(first / PAGE == last / PAGE || word_readable(last));

	errno = saved;
	return readable;
}
