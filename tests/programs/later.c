/*
 * To be preloaded: the clock is as many seconds ahead as the file LATER_FILE has bytes.
 */
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *now)
{
	const char *file = getenv("LATER_FILE");
	long result = syscall(SYS_clock_gettime, id, now);
	struct stat st;

	if (result == 0 && file != NULL && stat(file, &st) == 0)
		now->tv_sec += st.st_size;
	return (int)result;
}
