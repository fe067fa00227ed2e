/*
 * tuplebind top: becomes tuplebind-top, which is a program of its own (tools/status/top/).
 */
#include "tools/common/preload.h"
#include "tools/subcommands.h"

#include "install.h"

int top_main(int argc, char **argv)
{
	return preload_become(
		"top", "tuplebind-top", INSTALLED_TOP, " (built where ncurses is)", argv);
}
