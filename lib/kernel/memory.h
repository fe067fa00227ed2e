/*
 * Whether memory that the program has named can be read. Of a bad pointer the kernel says EFAULT,
 * and so must calls that look at it before the kernel does.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * @size bytes, at least one and at most a page. A system call, two where they are on two pages;
 * errno is left alone. Says yes where the kernel refuses to tell.
 */
bool memory_readable(const void *at, size_t size);
