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
 * The same for the file @what: in the build folder and installed it stands where @places say, seen
 * from where the command is, so that a moved installation works. @hint is for when it is in neither
 * place.
 */
int preload_find_beside(const char *subcommand, const char *what, const char *hint,
	const char *const places[static 2], char path[static PATH_MAX]);

/*
 * Sets LD_PRELOAD: ours first, then what was to be preloaded anyway. A program that cannot load
 * it (@loadable false) goes without, even if a tuplebind around this one has put it there.
 * Also has AddressSanitizer's programs start with another library in front (ASAN_OPTIONS).
 * Returns 0, or EXIT_TUPLEBIND with the reason told in the name of @subcommand.
 */
int preload_set(const char *subcommand, const char *library, bool loadable);
