#include "tools/common/apart.h"

#include "tools/common/command.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MEMORY_MOST (UINT64_C(2) << 30)

static void limit_memory(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur < MEMORY_MOST)
		return;
	limit.rlim_cur = MEMORY_MOST;
	setrlimit(RLIMIT_AS, &limit);
}

static void become(const struct stat *st)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(APART_SECONDS);
	limit_memory();
	/* In a user namespace groups may not be changed: then there are few rights to give up. */
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		_exit(command_fail("setgroups: %s", strerror(errno)));
	if (setegid(st->st_gid) < 0 || seteuid(st->st_uid) < 0)
		_exit(command_fail(
			"cannot become user %u: %s", (unsigned)st->st_uid, strerror(errno)));
}

pid_t apart_fork(const struct stat *st, struct fault *f)
{
	fflush(NULL);
	pid_t child = fork();
	if (child == 0)
		become(st);
	if (child >= 0)
		return child;
	int error = errno;
	fault_set(f, "%s", strerror(error));
	return -error;
}

int apart_wait(pid_t child, struct fault *f)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR) {
			fault_set(f, "%s", strerror(errno));
			return -ECHILD;
		}
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	if (WTERMSIG(status) == SIGALRM)
		fault_set(f, "not done after %d s", APART_SECONDS);
	else
		fault_set(f, "whoever looked at it was ended by a signal: %s",
			strsignal(WTERMSIG(status)));
	return -ECHILD;
}

int apart_run(const struct stat *st, apart_work *work, void *context, struct fault *f)
{
	pid_t child = apart_fork(st, f);

	if (child == 0) {
		int status = work(context);

		exit(fflush(stdout) == 0 ? status : EXIT_TUPLEBIND);
	}
	return child < 0 ? (int)child : apart_wait(child, f);
}
