/*
 * The log: one line per event, into the file it began with and into no other, without
 * blocking and without signals that the program never caused.
 */
#include "base/log.h"
#include "fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* The log of these tests goes to a file without a name, standing at stderr. */
static int use_stderr(enum log_level level)
{
	int fd = fixture_scratch();

	cr_assert_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	cr_assert_eq(log_open(level, NULL), 0);
	return fd;
}

static unsigned lines(const char *text)
{
	unsigned count = 0;

	for (; *text != '\0'; text++)
		count += *text == '\n';
	return count;
}

Test(log, a_line)
{
	char expected[64];
	int fd = use_stderr(LOG_WARN);

	log_line(LOG_WARN, "something happened");
	snprintf(expected, sizeof expected, "tuplebind[%d] warn: something happened\n",
		(int)getpid());
	cr_expect_str_eq(fixture_contents(fd), expected);
}

Test(log, levels)
{
	static const char *const names[] = {NULL, " error: ", " warn: ", " info: ", " debug: "};

	for (enum log_level wanted = LOG_OFF; wanted <= LOG_DEBUG; wanted++) {
		int fd = use_stderr(wanted);

		for (enum log_level level = LOG_OFF; level <= LOG_DEBUG; level++) {
			log_line(level, "x");
			cr_expect_eq(log_wants(level), level != LOG_OFF && level <= wanted);
		}
		cr_expect_eq(lines(fixture_contents(fd)), (unsigned)wanted);
		for (enum log_level level = LOG_ERROR; level <= wanted; level++)
			cr_expect_not_null(strstr(fixture_contents(fd), names[level]));
	}
}

/* The way to a file that has no name of its own. */
static const char *path_of(int fd)
{
	static char path[64];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return path;
}

Test(log, into_a_file)
{
	int fd = fixture_scratch();

	cr_assert_eq(write(fd, "before\n", 7), 7);
	cr_assert_eq(log_open(LOG_INFO, path_of(fd)), 0);
	log_line(LOG_INFO, "first");
	log_line(LOG_INFO, "second");
	cr_expect_eq(
		strncmp(fixture_contents(fd), "before\ntuplebind[", 17), 0, "it is appended to");
	cr_expect_eq(lines(fixture_contents(fd)), 3);
}

Test(log, its_descriptor_is_out_of_the_way)
{
	int fd = fixture_scratch(), lowest = dup(fd), after;

	close(lowest);
	cr_assert_eq(log_open(LOG_INFO, path_of(fd)), 0);
	after = dup(fd);
	cr_expect_eq(after, lowest);
}

Test(log, a_file_that_cannot_be_opened)
{
	int fd = fixture_scratch();

	cr_assert_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	cr_expect_eq(log_open(LOG_WARN, "/nowhere/at/all"), -ENOENT);
	log_line(LOG_WARN, "to stderr then");
	cr_expect_eq(lines(fixture_contents(fd)), 1);
}

Test(log, long_messages_still_end_as_lines)
{
	char message[2000];
	int fd = use_stderr(LOG_WARN);
	const char *got;

	memset(message, 'x', sizeof message - 1);
	message[sizeof message - 1] = '\0';
	log_line(LOG_WARN, message);
	log_line(LOG_WARN, "next");
	got = fixture_contents(fd);
	cr_expect_eq(lines(got), 2);
	cr_expect_leq(strcspn(got, "\n"), PIPE_BUF);
	cr_expect_not_null(strstr(got, "] warn: next\n"));
}

Test(log, not_into_a_file_that_took_the_descriptors_place)
{
	int other = fixture_scratch(), fd = use_stderr(LOG_WARN);

	close(STDERR_FILENO);
	cr_assert_eq(dup2(other, STDERR_FILENO), STDERR_FILENO);
	log_line(LOG_WARN, "not for you");
	cr_expect_str_eq(fixture_contents(other), "");
	cr_expect_str_eq(fixture_contents(fd), "");
}

Test(log, not_into_a_connection_that_took_the_descriptors_place)
{
	int pair[2];
	char byte;

	use_stderr(LOG_WARN);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	cr_assert_eq(dup2(pair[0], STDERR_FILENO), STDERR_FILENO);
	log_line(LOG_WARN, "not for you");
	cr_expect_eq(recv(pair[1], &byte, 1, MSG_DONTWAIT), -1);
}

Test(log, a_duplicate_of_the_same_file_is_the_same)
{
	int fd = use_stderr(LOG_WARN);

	close(STDERR_FILENO);
	cr_assert_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	log_line(LOG_WARN, "still here");
	cr_expect_eq(lines(fixture_contents(fd)), 1);
}

Test(log, stderr_that_is_closed_from_the_start)
{
	int other;

	close(STDERR_FILENO);
	cr_expect_eq(log_open(LOG_WARN, NULL), 0);
	other = fixture_scratch();
	dup2(other, STDERR_FILENO);
	log_line(LOG_WARN, "nobody listens");
	cr_expect_str_eq(fixture_contents(other), "");
}

Test(log, errno_is_kept)
{
	use_stderr(LOG_WARN);
	errno = EXDEV;
	log_line(LOG_WARN, "x");
	cr_expect_eq(errno, EXDEV);
	log_line(LOG_DEBUG, "x");
	cr_expect_eq(errno, EXDEV);
}

Test(log, errno_is_kept_when_the_descriptor_is_closed)
{
	use_stderr(LOG_WARN);
	close(STDERR_FILENO);
	errno = EXDEV;
	log_line(LOG_WARN, "x");
	cr_expect_eq(errno, EXDEV);
}

static int use_pipe(int ends[2])
{
	cr_assert_eq(pipe(ends), 0);
	cr_assert_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
	return log_open(LOG_WARN, NULL);
}

/* SIGPIPE at its default: raised, it would end the test. */
Test(log, a_broken_pipe_kills_nobody)
{
	sigset_t pending;
	int ends[2];

	cr_assert_eq(use_pipe(ends), 0);
	signal(SIGPIPE, SIG_DFL);
	close(ends[0]);
	for (int i = 0; i < 3; i++)
		log_line(LOG_WARN, "x");
	sigpending(&pending);
	cr_expect_not(sigismember(&pending, SIGPIPE));
	sigprocmask(SIG_BLOCK, NULL, &pending);
	cr_expect_not(sigismember(&pending, SIGPIPE), "the mask is as it was");
}

Test(log, a_signal_of_the_programs_own_is_left_pending)
{
	sigset_t set;
	int ends[2];

	cr_assert_eq(use_pipe(ends), 0);
	close(ends[0]);
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGPIPE);
	log_line(LOG_WARN, "x");
	sigpending(&set);
	cr_expect(sigismember(&set, SIGPIPE));
}

Test(log, a_full_pipe_does_not_block)
{
	char bytes[4096] = {0};
	int ends[2];

	cr_assert_eq(use_pipe(ends), 0);
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	while (write(ends[1], bytes, sizeof bytes) > 0)
		;
	fcntl(ends[1], F_SETFL, 0);
	/* Blocking here would end in a timeout. */
	for (int i = 0; i < 10; i++)
		log_line(LOG_WARN, "x");
}

Test(log, a_file_at_its_size_limit_kills_nobody)
{
	struct rlimit limit = {.rlim_cur = 20, .rlim_max = RLIM_INFINITY};
	int fd = fixture_scratch();
	sigset_t pending;

	cr_assert_eq(log_open(LOG_WARN, path_of(fd)), 0);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (int i = 0; i < 3; i++)
		log_line(LOG_WARN, "x");
	sigpending(&pending);
	cr_expect_not(sigismember(&pending, SIGXFSZ));
}

Test(log, a_full_disk_changes_nothing)
{
	sigset_t set;

	cr_assert_eq(log_open(LOG_WARN, "/dev/full"), 0);
	errno = EXDEV;
	log_line(LOG_WARN, "x");
	cr_expect_eq(errno, EXDEV);
	sigpending(&set);
	cr_expect(sigisemptyset(&set));
	sigprocmask(SIG_BLOCK, NULL, &set);
	cr_expect_not(sigismember(&set, SIGPIPE), "the mask is as it was");
}

/* It is moved out of the program's way where there is a way. */
Test(log, a_limit_of_few_descriptors)
{
	struct rlimit limit = {.rlim_cur = 64, .rlim_max = 64};
	int fd = fixture_scratch();

	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_assert_eq(log_open(LOG_WARN, path_of(fd)), 0);
	log_line(LOG_WARN, "x");
	cr_expect(strstr(fixture_contents(fd), "warn: x") != NULL);
}

/* What is at the other end may have room for a part of the line only: a terminal, say. */
Test(log, a_terminal_that_nobody_reads_does_not_block)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	char name[64];

	cr_assert_geq(master, 0);
	cr_assert_eq(grantpt(master) | unlockpt(master), 0);
	cr_assert_eq(ptsname_r(master, name, sizeof name), 0);
	int terminal = open(name, O_RDWR | O_NOCTTY);
	cr_assert_eq(dup2(terminal, STDERR_FILENO), STDERR_FILENO);
	cr_assert_eq(log_open(LOG_WARN, NULL), 0);
	for (int i = 0; i < 5000; i++)
		log_line(LOG_WARN, "a line of the log");
	cr_expect_not(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, "the program's own is as it was");
	char got[64];
	cr_expect_gt(read(master, got, sizeof got), 0);
	cr_expect_eq(strncmp(got, "tuplebind[", 10), 0);
}

/* A pipe with room for less than a line, and one that was made not to block. */
Test(log, a_pipe_that_is_nearly_full_does_not_block)
{
	static char bytes[4096];
	int ends[2];

	cr_assert_eq(use_pipe(ends), 0);
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	while (write(ends[1], bytes, sizeof bytes) > 0)
		;
	fcntl(ends[1], F_SETFL, 0);
	cr_assert_gt(read(ends[0], bytes, 10), 0);
	log_line(LOG_WARN, "x");
	close(ends[1]);
	close(STDERR_FILENO);
	while (read(ends[0], bytes, sizeof bytes) > 0)
		;
	/* The log has kept no end of its own: the reader has come to the end. */
}

Test(log, a_connection_that_nobody_reads_does_not_block)
{
	int pair[2];
	char got[64];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	cr_assert_eq(dup2(pair[0], STDERR_FILENO), STDERR_FILENO);
	cr_assert_eq(log_open(LOG_WARN, NULL), 0);
	for (int i = 0; i < 5000; i++)
		log_line(LOG_WARN, "a line of the log");
	cr_expect_gt(read(pair[1], got, sizeof got), 0);
	close(pair[1]);
	signal(SIGPIPE, SIG_DFL);
	log_line(LOG_WARN, "nobody there");
}

static const char *link_in(const char *directory, mode_t mode)
{
	static char link[128];
	char target[128];

	chmod(directory, mode);
	snprintf(link, sizeof link, "%s/link", directory);
	snprintf(target, sizeof target, "%s/target", directory);
	unlink(target);
	unlink(link);
	cr_assert_eq(symlink(target, link), 0);
	return link;
}

/* Others may have put it there. Where nobody else can write, a link is the administrator's. */
Test(log, a_link_where_others_may_put_one)
{
	char directory[] = "/tmp/tuplebind.test.XXXXXX";
	char target[128];
	struct stat st;

	cr_assert_not_null(mkdtemp(directory));
	snprintf(target, sizeof target, "%s/target", directory);
	use_stderr(LOG_WARN);
	cr_expect_eq(log_open(LOG_WARN, link_in(directory, 01777)), -ELOOP);
	if (geteuid() == 0)
		cr_expect_eq(log_open(LOG_WARN, link_in(directory, 0770)), -ELOOP);
	cr_expect_neq(stat(target, &st), 0);
	cr_expect_eq(log_open(LOG_WARN, link_in(directory, 0755)), 0);
	cr_expect_eq(stat(target, &st), 0);
	cr_expect_eq(log_open(LOG_WARN, "/dev/stderr"), 0);
	chmod(directory, 01777);
	cr_expect_eq(log_open(LOG_WARN, target), 0, "which is no link");
	unlink(target);
	unlink(link_in(directory, 0700));
	rmdir(directory);
}
