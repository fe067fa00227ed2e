/*
 * The files that belong to this command, and LD_PRELOAD with the library in front.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>

/*
 * Finds the library that belongs to this command. Returns 0, or EXIT_TUPLEBIND with the reason told
 * in the name of @subcommand.
 */
int preload_find(const char *subcommand, char path[static PATH_MAX]);

/*
 * Becomes the program @name of tuplebind with @argv; an argv[0] of NULL stands for its path. In the
 * build folder it is beside the command, and where it is installed at @installed, seen from there,
 * so that a moved installation works. Returns only if that fails: EXIT_TUPLEBIND, with the reason
 * told in the name of @subcommand, and @hint if it is in neither place.
 */
int preload_become(const char *subcommand, const char *name, const char *installed,
	const char *hint, char **argv);

/*
 * Sets LD_PRELOAD: ours first, then what was to be preloaded anyway. A program that cannot load
 * it (@loadable false) goes without, even if a tuplebind around this one has put it there.
 * Also has AddressSanitizer's programs start with another library in front (ASAN_OPTIONS).
 * Returns 0, or EXIT_TUPLEBIND with the reason told in the name of @subcommand.
 */
int preload_set(const char *subcommand, const char *library, bool loadable);
