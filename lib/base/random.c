#include "base/random.h"

#include "base/hash.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef GRND_INSECURE
#define GRND_INSECURE 0x0004 /* Linux 5.6 */
#endif

void random_bytes(void *bytes, size_t length)
{
	static const unsigned ways[] = {GRND_INSECURE, GRND_NONBLOCK};
	uint8_t *p = bytes;
	unsigned way = 0;

	while (length > 0 && way < 2) {
		long got = syscall(SYS_getrandom, p, length, ways[way]);

		if (got > 0) {
			p += got;
			length -= (size_t)got;
		} else if (errno != EINTR) {
			way++;
		}
	}
	if (length == 0)
		return;
	/* No generator at all (a filter forbids it): the ports stay spread, but can be guessed. */
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t seed = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 30 ^ (uintptr_t)&now;
	for (; length > 0; length--)
		*p++ = (uint8_t)(seed = hash_mix(seed + 1));
}
