/*
 * socket(): remembers which descriptors are new sockets of a kind that is served, which saves
 * connect() from asking, and tells it that no other process has them.
 */
#include "preload/library.h"

#include <errno.h>

EXPORT int socket(int family, int type, int protocol)
{
	int fd = next()->socket(family, type, protocol);

	if (fd < 0 || !library_active())
		return fd;
	enum sock_kind kind = sock_kind_of(family, type, protocol);
	bool served = engine_serves(&library.engine, kind);
	if ((served || book_has(fd)) && book_usable()) {
		int saved = errno;

		book_note_socket(&library.engine.table, fd, served ? kind : KIND_OTHER);
		errno = saved;
	}
	return fd;
}
