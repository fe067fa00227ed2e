/*
 * System calls that fail, for tests of what is then made of them: a sandbox, a limit, an old
 * kernel.
 */
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>

/*
 * From here on the system call @number of this process, and of those it becomes and makes, gives
 * @error; with @argument >= 0 only where the lower half of that argument is @value. 0 or -1.
 */
static inline int refuse_call(int number, int argument, uint32_t value, int error)
{
	size_t place = offsetof(struct seccomp_data, args);
	struct sock_filter steps[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 3),
		/* Without an argument the number again, which it is. */
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof steps / sizeof *steps, .filter = steps};

	if (argument >= 0) {
		steps[2].k = (uint32_t)(place + sizeof(uint64_t) * (unsigned)argument);
		steps[3].k = value;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
