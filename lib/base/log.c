#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/*
 * The log's own descriptor is moved out of the way of programs that expect the
 * lowest free number.
 */
#define LOG_FD_FLOOR 512

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8 /* Linux 4.14 */
#endif

#define BIT_OF(signal) (UINT64_C(1) << ((signal)-1))

static const char *const level_names[] = {"off", "error", "warn", "info", "debug"};

enum log_level log_level = LOG_WARN;
static int log_fd = STDERR_FILENO;
static dev_t log_device;
static ino_t log_inode;

/* Raw system calls throughout: the wrappers of libc are cancellation points, or taken over by us.
 */
static int open_directory(const char *file, const char **name)
{
	const char *slash = strrchr(file, '/');
	size_t length = slash == NULL ? 0 : (size_t)(slash - file) + 1;
	char *directory = length == 0 ? strdup(".") : strndup(file, length);

	if (directory == NULL)
		return -ENOMEM;
	*name = file + length;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, directory, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	int error = -errno;
	free(directory);
	return fd < 0 ? error : fd;
}

/*
 * Whether somebody else may have put a link into the directory to have us write elsewhere: by its
 * owner and mode. A link in /dev or /proc is as good as a file.
 */
static bool is_trusted(int directory)
{
	static const mode_t others = S_IWGRP | S_IWOTH;
	uid_t me = geteuid();
	struct stat st;

	if (fstat(directory, &st) < 0)
		return false;
	if (st.st_mode & S_ISVTX && st.st_mode & S_IWOTH)
		return false;
	return me != 0 || (st.st_uid == 0 && !(st.st_mode & others));
}

int log_open_file(const char *file, bool make)
{
	int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (make ? O_CREAT : 0);
	const char *name;
	int directory = open_directory(file, &name);

	if (directory < 0)
		return directory;
	if (!is_trusted(directory))
		flags |= O_NOFOLLOW;
	int fd = (int)syscall(SYS_openat, directory, name, flags, 0644);
	int error = -errno;
	syscall(SYS_close, directory);
	if (fd < 0)
		return error;
	int high = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, LOG_FD_FLOOR);
	if (high >= 0) {
		syscall(SYS_close, fd);
		fd = high;
	}
	return fd;
}

static bool remember(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	log_fd = fd;
	log_device = st.st_dev;
	log_inode = st.st_ino;
	return true;
}

int log_open(enum log_level level, const char *file)
{
	int fd = STDERR_FILENO, error = 0;

	log_level = level;
	if (level == LOG_OFF)
		return 0;
	if (file != NULL) {
		fd = log_open_file(file, true);
		if (fd < 0) {
			error = fd;
			fd = STDERR_FILENO;
		}
	}
	if (!remember(fd))
		log_fd = -1;
	return error;
}

static char *put(char *to, const char *s)
{
	while (*s != '\0')
		*to++ = *s++;
	return to;
}

static char *put_number(char *to, uint32_t value)
{
	char digits[11];
	char *p = digits + sizeof digits - 1;

	*p = '\0';
	do {
		*--p = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	return put(to, p);
}

/* Whether the descriptor still is the file it was; *mode is the file's. */
static bool still_ours(mode_t *mode)
{
	struct stat st;

	if (log_fd < 0 || fstat(log_fd, &st) < 0 || st.st_dev != log_device ||
		st.st_ino != log_inode)
		return false;
	*mode = st.st_mode;
	return true;
}

static bool is_writable(void)
{
	static const struct timespec no_wait;
	struct pollfd writable = {.fd = log_fd, .events = POLLOUT};

	return syscall(SYS_ppoll, &writable, 1, &no_wait, NULL, 0) == 1 &&
	       writable.revents & POLLOUT;
}

/*
 * Another open file description of a pipe or terminal, that does not block: the one at log_fd is
 * the program's, and others', and not to be changed. Not kept, or the reader of a pipe would never
 * see its end. -1 where it cannot be had.
 */
static int open_again(void)
{
	char path[32];
	char *end = put(path, "/proc/self/fd/");

	*put_number(end, (uint32_t)log_fd) = '\0';
	return (int)syscall(SYS_openat, AT_FDCWD, path,
		O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
}

/*
 * That a terminal or a pipe is writable now does not say that all of a line has room, nor that
 * nobody else is at it. 0 or -errno.
 */
static int write_to_stream(const struct iovec *parts, int count)
{
	/* Pipes do (Linux 6.4). */
	if (syscall(SYS_pwritev2, log_fd, parts, (long)count, -1L, -1L, RWF_NOWAIT) >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
		return -errno;
	int fd = open_again();
	if (fd < 0 && !is_writable())
		return -EAGAIN;
	int error = syscall(SYS_writev, fd < 0 ? log_fd : fd, parts, (long)count) < 0 ? -errno : 0;
	if (fd >= 0)
		syscall(SYS_close, fd);
	return error;
}

static int write_to_socket(const struct iovec *parts, int count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};

	return syscall(SYS_sendmsg, log_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int write_to(mode_t mode, const struct iovec *parts, int count)
{
	if (S_ISSOCK(mode))
		return write_to_socket(parts, count);
	if (S_ISFIFO(mode) || S_ISCHR(mode))
		return write_to_stream(parts, count);
	return syscall(SYS_writev, log_fd, parts, (long)count) < 0 ? -errno : 0;
}

/*
 * A broken pipe or a file at its size limit would kill the program with a signal that it never
 * caused, a terminal whose foreground is another's would stop it: hold the signals, and take away
 * the one that our write made.
 */
static void write_quietly(mode_t mode, const struct iovec *parts, int count)
{
	static const uint64_t ours = BIT_OF(SIGPIPE) | BIT_OF(SIGXFSZ) | BIT_OF(SIGTTOU);
	static const struct timespec no_wait;
	uint64_t old, pending = 0;

	syscall(SYS_rt_sigpending, &pending, sizeof pending);
	if (syscall(SYS_rt_sigprocmask, SIG_BLOCK, &ours, &old, sizeof ours) < 0)
		return;
	int error = write_to(mode, parts, count);
	uint64_t made = error == -EPIPE ? BIT_OF(SIGPIPE) : error == -EFBIG ? BIT_OF(SIGXFSZ) : 0;

	if (made & ~pending)
		syscall(SYS_rt_sigtimedwait, &made, NULL, &no_wait, sizeof made);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof old);
}

/* In pieces: a line in one more buffer would be large for a stack. */
static void write_line(enum log_level level, const char *message, size_t length)
{
	mode_t mode;
	char head[40];
	char *end = put(head, "tuplebind[");

	end = put(put_number(end, (uint32_t)getpid()), "] ");
	end = put(put(end, level_names[level]), ": ");
	struct iovec parts[] = {
		{.iov_base = head, .iov_len = (size_t)(end - head)},
		{.iov_base = (char *)message, .iov_len = length},
		{.iov_base = (char *)"\n", .iov_len = 1},
	};
	if (still_ours(&mode))
		write_quietly(mode, parts, sizeof parts / sizeof *parts);
}

void log_text(enum log_level level, const struct text *message)
{
	int saved = errno;

	if (log_wants(level))
		write_line(level, message->bytes, message->length);
	errno = saved;
}

void log_line(enum log_level level, const char *message)
{
	int saved = errno;

	if (log_wants(level))
		write_line(level, message, strnlen(message, sizeof(struct text) - 1));
	errno = saved;
}
