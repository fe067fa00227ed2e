#include "table/place.h"

#include "tuplebind/table.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CLEAR_MOST 4096 /* names looked at; others can make any number of files there */

uid_t place_user(void)
{
	return (uid_t)syscall(SYS_geteuid);
}

/* Raw close: ours is taken over, and libc's is a cancellation point. */
static void close_raw(int fd)
{
	syscall(SYS_close, fd);
}

/* A file of numbers, of any length; end: there is no more of it. */
struct numbers {
	int fd;
	size_t at, length;
	bool end;
	char bytes[512];
};

/* The next byte, which stays the next one; 0 at the end. */
static char peek(struct numbers *n)
{
	if (n->at == n->length && !n->end) {
		long got = syscall(SYS_read, n->fd, n->bytes, sizeof n->bytes);

		n->end = got <= 0;
		n->at = 0;
		n->length = got > 0 ? (size_t)got : 0;
	}
	return (char)(n->end ? '\0' : n->bytes[n->at]);
}

static uint64_t take_number(struct numbers *n)
{
	uint64_t value = 0;

	while (peek(n) == ' ' || peek(n) == '\n')
		n->at++;
	for (char c; (c = peek(n)) >= '0' && c <= '9'; n->at++)
		value = value * 10 + (uint64_t)(c - '0');
	return value;
}

/* Each line: first user here, the same one in the parent namespace, how many. */
static uid_t translate(struct numbers *map, uid_t uid)
{
	for (;;) {
		uint64_t here = take_number(map), parent = take_number(map);
		uint64_t count = take_number(map);

		if (count == 0)
			return uid;
		if (uid >= here && uid - here < count)
			return (uid_t)(parent + (uid - here));
	}
}

uid_t place_uid(void)
{
	struct numbers map = {.fd = place_open("/proc/self/uid_map", false)};
	uid_t uid = place_user();

	if (map.fd < 0)
		return uid;
	uid = translate(&map, uid);
	close_raw(map.fd);
	return uid;
}

void place_path(char path[static TABLE_PATH_MAX], const char *name, uid_t uid,
	const struct netns *ns, unsigned place)
{
	int length = snprintf(path, TABLE_PATH_MAX, TABLE_DIRECTORY "/" TABLE_PREFIX "%u.%llu%s%s",
		(unsigned)uid, (unsigned long long)ns->inode, name ? "." : "", name ? name : "");

	if (place > 0)
		snprintf(path + length, TABLE_PATH_MAX - (size_t)length, "~%u", place);
}

const char *place_suffix(const char *file)
{
	const char *mark = strrchr(file, '~');

	if (mark != NULL && mark[1] > '0' && mark[1] < '0' + TABLE_PLACES && mark[2] == '\0')
		return mark;
	return file + strlen(file);
}

static int stat_raw(int directory, const char *path, int flags, struct stat *st)
{
	return syscall(SYS_newfstatat, directory, path, st, flags) < 0 ? -errno : 0;
}

int place_stat_fd(int fd, struct stat *st)
{
	return stat_raw(fd, "", AT_EMPTY_PATH, st);
}

int place_stat(const char *path, struct stat *st)
{
	return stat_raw(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, st);
}

int place_open(const char *path, bool writable)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path,
		(writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? -errno : fd;
}

static bool same_file(const struct stat *one, const struct stat *other)
{
	return one->st_ino == other->st_ino && one->st_dev == other->st_dev;
}

/* Opens @path for reading, if it is the file *st: or -errno. */
static int open_same(const char *path, const struct stat *st)
{
	struct stat now;
	int fd = place_open(path, false);

	if (fd < 0)
		return fd;
	if (place_stat_fd(fd, &now) == 0 && same_file(&now, st))
		return fd;
	close_raw(fd);
	return -ENOENT;
}

/*
 * A lease on a file that nobody has open for writing; closing @fd gives it up. Who wants to open
 * the file meanwhile has the kernel send a signal to us, by default SIGIO, which would end the
 * program: SIGURG, which is ignored by default, does no harm.
 */
static int take_lease(int fd)
{
	if (syscall(SYS_fcntl, fd, F_SETSIG, SIGURG) < 0)
		return -EOPNOTSUPP;
	if (syscall(SYS_fcntl, fd, F_SETLEASE, F_RDLCK) == 0)
		return 0;
	return errno == EAGAIN ? -EBUSY : -EOPNOTSUPP;
}

bool place_unused(const char *path, const struct stat *st)
{
	int fd = open_same(path, st);
	bool unused = fd >= 0 && take_lease(fd) == 0;

	if (fd >= 0)
		close_raw(fd);
	return unused;
}

static int remove_open(int fd, const char *path, const struct stat *st, bool used_too)
{
	struct stat now;

	/* Who removes a name holds the lock of its file; who makes one finds it taken till then. */
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	if (place_stat(path, &now) < 0 || !same_file(&now, st))
		return -ENOENT;
	int error = used_too ? 0 : take_lease(fd);
	if (error == 0 && unlink(path) < 0)
		error = -errno;
	return error;
}

int place_remove(const char *path, const struct stat *st, bool used_too)
{
	int fd = open_same(path, st);

	if (fd < 0)
		return fd;
	int error = remove_open(fd, path, st, used_too);
	close_raw(fd);
	return error;
}

/* A table of whatever version, or one that was never completed. */
static bool is_table(int fd, const char *file)
{
	uint64_t magic;

	return strstr(file, TABLE_FRESH) != NULL ||
	       (syscall(SYS_pread64, fd, &magic, sizeof magic, 0) == (long)sizeof magic &&
		       magic == TUPLEBIND_TABLE_MAGIC);
}

static void clear_one(const char *file, time_t now)
{
	char path[sizeof TABLE_DIRECTORY + 256];
	struct stat st;

	snprintf(path, sizeof path, TABLE_DIRECTORY "/%s", file);
	if (place_stat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != place_user() ||
		st.st_mtime > now - TABLE_IDLE_SECONDS)
		return;
	int fd = open_same(path, &st);
	if (fd < 0)
		return;
	if (is_table(fd, file))
		remove_open(fd, path, &st, false);
	close_raw(fd);
}

/* As the kernel writes it: libc's readdir() would need malloc(). */
struct entry {
	uint64_t inode;
	int64_t offset;
	uint16_t length;
	uint8_t type;
	char name[];
};

void place_clear(uid_t uid)
{
	_Alignas(struct entry) char entries[2048];
	char prefix[32];
	unsigned seen = 0;
	time_t now = time(NULL);
	int directory = (int)syscall(
		SYS_openat, AT_FDCWD, TABLE_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (directory < 0)
		return;
	int length = snprintf(prefix, sizeof prefix, TABLE_PREFIX "%u.", (unsigned)uid);
	while (seen < CLEAR_MOST) {
		long got = syscall(SYS_getdents64, directory, entries, sizeof entries);

		if (got <= 0)
			break;
		for (long at = 0; at < got; seen++) {
			const struct entry *entry = (const struct entry *)(entries + at);

			if (strncmp(entry->name, prefix, (size_t)length) == 0)
				clear_one(entry->name, now);
			at += entry->length;
		}
	}
	close_raw(directory);
}
