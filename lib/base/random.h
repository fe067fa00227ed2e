/*
 * Random bytes from the kernel.
 */
#pragma once

#include <stddef.h>

/*
 * Fills @bytes from getrandom(2) without ever blocking: early at boot, before the
 * kernel's generator is seeded, it takes what the kernel has. Async-signal-safe.
 */
void random_bytes(void *bytes, size_t length);
