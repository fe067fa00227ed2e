/*
 * tuplebind top: becomes tuplebind-top, which is a program of its own (tools/status/top/).
 */
#include "tools/common/command.h"
#include "tools/common/preload.h"
#include "tools/subcommands.h"

#include "install.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int top_main(int argc, char **argv)
{
	static const char *const places[] = {"/tuplebind-top", INSTALLED_TOP};
	char path[PATH_MAX];

	int error = preload_find_beside(
		"top", "tuplebind-top", " (built where ncurses is)", places, path);
	if (error != 0)
		return error;
	execv(path, argv);
	return command_fail("top: %s: %s", path, strerror(errno));
}
