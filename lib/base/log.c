#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * The log's own descriptor is moved out of the way of programs that expect the
 * lowest free number.
 */
#define LOG_FD_FLOOR 512

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
static void write_quietly(const char *bytes, size_t length)
{
	struct pollfd writable = {.fd = log_fd, .events = POLLOUT};
	static const struct timespec no_wait;
	sigset_t ours, old, pending;

	if (syscall(SYS_ppoll, &writable, 1, &no_wait, NULL, 0) != 1 ||
		!(writable.revents & POLLOUT))
		return;
	sigemptyset(&ours);
	sigaddset(&ours, SIGPIPE);
	sigaddset(&ours, SIGXFSZ);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &ours, &old);
	if (syscall(SYS_write, log_fd, bytes, length) < 0) {
		int made = errno == EPIPE ? SIGPIPE : errno == EFBIG ? SIGXFSZ : 0;

		if (made != 0 && !sigismember(&pending, made)) {
			sigemptyset(&ours);
			sigaddset(&ours, made);
			syscall(SYS_rt_sigtimedwait, &ours, NULL, &no_wait, _NSIG / 8);
		}
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void log_text(enum log_level level, const struct text *message)
{
	int saved = errno;
	struct text line;

	if (!log_wants(level))
		return;
	text_clear(&line);
	text_put(&line, "tuplebind[");
	text_put_number(&line, (uint64_t)getpid());
	text_put(&line, "] ");
	text_put(&line, level_names[level]);
	text_put(&line, ": ");
	text_put(&line, message->bytes);
	/* A line that was cut still ends as a line. */
	if (line.length == sizeof line.bytes - 1)
		line.length--;
	line.bytes[line.length++] = '\n';
	if (still_ours())
		write_quietly(line.bytes, line.length);
	errno = saved;
}

void log_line(enum log_level level, const char *message)
{
	struct text text;

	if (!log_wants(level))
		return;
	text_clear(&text);
	text_put(&text, message);
	log_text(level, &text);
}
