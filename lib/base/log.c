#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
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

#define BIT_OF(signal) (UINT64_C(1) << ((signal)-1))

static const char *const level_names[] = {"off", "error", "warn", "info", "debug"};

enum log_level log_level = LOG_WARN;
static int log_fd = STDERR_FILENO;
static dev_t log_device;
static ino_t log_inode;

/* Raw system calls: the wrappers of libc are cancellation points, or taken over by us. */
static int open_for_append(const char *file)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, file,
		O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
	if (fd < 0)
		return -errno;
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
		fd = open_for_append(file);
		if (fd < 0) {
			error = fd;
			fd = STDERR_FILENO;
		}
	}
	if (!remember(fd))
		log_fd = -1;
	return error;
}

static bool still_ours(void)
{
	struct stat st;

	return log_fd >= 0 && fstat(log_fd, &st) == 0 && st.st_dev == log_device &&
	       st.st_ino == log_inode;
}

/*
 * A broken pipe or a file at its size limit would kill the program with a signal
 * that it never caused: hold the signal, and take away the one that our write made.
 */
static void write_quietly(const struct iovec *parts, int count)
{
	static const uint64_t ours = BIT_OF(SIGPIPE) | BIT_OF(SIGXFSZ);
	static const struct timespec no_wait;
	struct pollfd writable = {.fd = log_fd, .events = POLLOUT};
	uint64_t old, pending = 0;

	if (syscall(SYS_ppoll, &writable, 1, &no_wait, NULL, 0) != 1 ||
		!(writable.revents & POLLOUT))
		return;
	syscall(SYS_rt_sigpending, &pending, sizeof pending);
	if (syscall(SYS_rt_sigprocmask, SIG_BLOCK, &ours, &old, sizeof ours) < 0)
		return;
	if (syscall(SYS_writev, log_fd, parts, count) < 0) {
		uint64_t made = errno == EPIPE	 ? BIT_OF(SIGPIPE)
				: errno == EFBIG ? BIT_OF(SIGXFSZ)
						 : 0;

		if (made & ~pending)
			syscall(SYS_rt_sigtimedwait, &made, NULL, &no_wait, sizeof made);
	}
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof old);
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

/* In pieces: a line in one more buffer would be large for a stack. */
static void write_line(enum log_level level, const char *message, size_t length)
{
	char head[40];
	char *end = put(head, "tuplebind[");

	end = put(put_number(end, (uint32_t)getpid()), "] ");
	end = put(put(end, level_names[level]), ": ");
	struct iovec parts[] = {
		{.iov_base = head, .iov_len = (size_t)(end - head)},
		{.iov_base = (char *)message, .iov_len = length},
		{.iov_base = (char *)"\n", .iov_len = 1},
	};
	write_quietly(parts, sizeof parts / sizeof *parts);
}

void log_text(enum log_level level, const struct text *message)
{
	int saved = errno;

	if (log_wants(level) && still_ours())
		write_line(level, message->bytes, message->length);
	errno = saved;
}

void log_line(enum log_level level, const char *message)
{
	int saved = errno;

	if (log_wants(level) && still_ours())
		write_line(level, message, strnlen(message, sizeof(struct text) - 1));
	errno = saved;
}
