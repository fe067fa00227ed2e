/*
 * Memory for what is too large for the stack that a thread or a signal handler may have.
 *
 * One region for the whole process, part of the library's own data, so that taking it can fail for
 * one reason only: somebody else has it. Who finds it taken does without and never waits. While a
 * thread has it, it takes no signals but those of its own faults: a handler would find the region
 * taken, and one that does not return (siglongjmp()) would keep it for good. So it is for work that
 * neither waits nor calls the program. Async-signal-safe, no cancellation point.
 */
#pragma once

#include <stddef.h>

#define SCRATCH_SIZE 32768

/* The region, aligned for any type, or NULL when it is taken. Two system calls with scratch_put().
 */
void *scratch_take(void);
void scratch_put(void);

/* In a forked child: the thread that had the region, if one had, is not here. */
void scratch_forked(void);
