/*
 * Whether memory that the program has named can be read. Of a bad pointer the kernel says EFAULT,
 * and so must calls that look at it before the kernel does.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * Notes where the program's variables are and its heap begins, of which nothing is asked. Once.
 * Threads that began before may not call memory_readable() until they have acquired what the
 * caller released afterwards (library_active()).
 */
void memory_start(void);

/*
 * @size bytes, at least one and at most a page. None or one system call, two where they are on two
 * pages; errno is left alone. Says yes where the kernel refuses to tell.
 */
bool memory_readable(const void *at, size_t size);
