#include "tools/common/io.h"

#include <errno.h>
#include <unistd.h>

bool io_write_all(int fd, const void *bytes, size_t length)
{
	for (const char *p = bytes; length > 0;) {
		ssize_t put = write(fd, p, length);

		if (put < 0 && errno != EINTR)
			return false;
		p += put > 0 ? put : 0;
		length -= put > 0 ? (size_t)put : 0;
	}
	return true;
}

bool io_read_all(int fd, void *bytes, size_t length)
{
	for (char *p = bytes; length > 0;) {
		ssize_t got = read(fd, p, length);

		if (got == 0 || (got < 0 && errno != EINTR))
			return false;
		p += got > 0 ? got : 0;
		length -= got > 0 ? (size_t)got : 0;
	}
	return true;
}
