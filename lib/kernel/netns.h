/*
 * Which network namespace this is.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct netns {
	uint64_t inode;	 /* of /proc/thread-self/ns/net: unique among living namespaces */
	uint64_t cookie; /* SO_NETNS_COOKIE: unique since boot; 0 before Linux 5.14 */
};

/*
 * The network namespace of the calling thread. Without /proc the cookie stands in for
 * the inode. Returns 0, or -errno when neither can be had.
 */
int netns_current(struct netns *ns);

/*
 * True when the calling thread is in namespace @ns: of the threads of a process each may be in
 * another one. Four system calls.
 */
bool netns_is_here(const struct netns *ns);

/* True when socket @fd is of namespace @ns, or the kernel cannot tell. One system call. */
bool netns_has_socket(const struct netns *ns, int fd);
