/*
 * Where the tables of a user are, whose the files there are, and how one is removed.
 *
 *     tuplebind.<uid>.<inode of the network namespace>[.<name>][~<place>]
 *
 * The uid is the effective user's as the parent of his user namespace has it, so that a rootless
 * container, `unshare -Ur` and the user's other programs have the same table, and root another one.
 * It comes from the kernel alone: fakeroot does not change it.
 *
 * Anybody may make a file in /dev/shm, so a name may be taken. A table therefore has a few places,
 * which all programs of the user go through in the same order: the first sound table there is the
 * one; if there is none it is made at the first place that is free. A table that was made further
 * back stays the one when a place before it becomes free.
 *
 * A file is removed only by who holds a lock on it (flock) and sees it under its name, so nobody
 * removes one that another process has put there since. Whether a process is attached to it is
 * asked of the kernel: a read lease is granted only on a file that nobody has open or mapped for
 * writing, in whatever pid or mount namespace. While the lease is held whoever opens the file for
 * writing is told to try again (EAGAIN), so nobody attaches to one that is about to go.
 */
#pragma once

#include "kernel/netns.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#define TABLE_DIRECTORY "/dev/shm"
#define TABLE_PREFIX	"tuplebind."
#define TABLE_NAME_MAX	64 /* longest TUPLEBIND_TABLE */
#define TABLE_PATH_MAX	160
#define TABLE_PLACES	8
#define TABLE_FRESH	"~new." /* in the names of files that are not complete */

/* Tables that nobody is attached to are removed when nobody has been for so many seconds. */
#define TABLE_IDLE_SECONDS 3600

/* The effective user as stat() shows him here. One system call. */
uid_t place_user(void);

/* The same user as table files are named. Four system calls. */
uid_t place_uid(void);

/* Writes the path of place @place (from 0) of table @name (NULL: the default one). */
void place_path(char path[static TABLE_PATH_MAX], const char *name, uid_t uid,
	const struct netns *ns, unsigned place);

/* Where in a file's name its place begins; its end when it is the first one. */
const char *place_suffix(const char *file);

/* fstat() and lstat() as the kernel answers them, fakeroot or not: 0 or -errno. */
int place_stat_fd(int fd, struct stat *st);
int place_stat(const char *path, struct stat *st);

/* Opens a file without following links or waiting for anything: a descriptor, or -errno. */
int place_open(const char *path, bool writable);

/*
 * Whether no process has the file open or mapped for writing. False also where the kernel grants no
 * leases, and when @path is not the file *st any more.
 */
bool place_unused(const char *path, const struct stat *st);

/*
 * Removes the file *st from @path. Returns 0; -ENOENT: it is not there any more; -EAGAIN:
 * another process is removing it; if @used_too is false, -EBUSY: it is in use, -EOPNOTSUPP: the
 * kernel grants no leases; another -errno.
 */
int place_remove(const char *path, const struct stat *st, bool used_too);

/*
 * Removes this user's tables, whatever their network namespace or version, and what killed makers
 * of tables have left, as far as nobody has them open for writing, or has attached to them for
 * TABLE_IDLE_SECONDS. Looks at 4096 names at most.
 */
void place_clear(uid_t uid);
