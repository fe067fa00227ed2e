#include "base/scratch.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT_OF(signal) (UINT64_C(1) << ((signal)-1))

/* A fault of the thread's own, or a sandbox's answer to a system call, would end the program. */
#define NOT_HELD                                                                                   \
	(BIT_OF(SIGSEGV) | BIT_OF(SIGBUS) | BIT_OF(SIGFPE) | BIT_OF(SIGILL) | BIT_OF(SIGTRAP) |    \
		BIT_OF(SIGSYS))

static struct {
	_Atomic int taken;
	uint64_t signals; /* what the thread that has it held before */
	_Alignas(max_align_t) char bytes[SCRATCH_SIZE];
} scratch;

/* The system call: glibc's leaves out the signal by which it cancels threads. */
static void set_signals(uint64_t set, uint64_t *before)
{
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, before, sizeof set);
}

void *scratch_take(void)
{
	uint64_t before = 0;

	if (atomic_load_explicit(&scratch.taken, memory_order_relaxed))
		return NULL;
	set_signals(~NOT_HELD, &before);
	/* Acquire pairs with the release of scratch_put(). */
	if (atomic_exchange_explicit(&scratch.taken, 1, memory_order_acquire)) {
		set_signals(before, NULL);
		return NULL;
	}
	scratch.signals = before;
	return scratch.bytes;
}

void scratch_put(void)
{
	uint64_t before = scratch.signals;

	atomic_store_explicit(&scratch.taken, 0, memory_order_release);
	set_signals(before, NULL);
}

void scratch_forked(void)
{
	atomic_store_explicit(&scratch.taken, 0, memory_order_relaxed);
}
