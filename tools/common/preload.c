#include "tools/common/preload.h"

#include "tools/common/command.h"

#include "install.h"

#include <bsd/string.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Finds the file @what in one of two places, seen from where the command is. */
static int find_beside(const char *subcommand, const char *what, const char *hint,
	const char *const places[static 2], char path[static PATH_MAX])
{
	char self[PATH_MAX], candidate[PATH_MAX + 64];
	ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

	if (length < 0)
		return command_fail("%s: cannot read /proc/self/exe: %s; /proc must be mounted",
			subcommand, strerror(errno));
	self[length] = '\0';
	*strrchr(self, '/') = '\0';
	for (size_t i = 0; i < 2; i++) {
		snprintf(candidate, sizeof candidate, "%s%s", self, places[i]);
		if (realpath(candidate, path) != NULL && access(path, R_OK) == 0)
			return 0;
	}
	return command_fail("%s: %s%s is neither in %s%s nor in %s%s; build or install it",
		subcommand, what, hint, self, places[0], self, places[1]);
}

int preload_find(const char *subcommand, char path[static PATH_MAX])
{
	static const char *const places[] = {"/../lib/libtuplebind.so", INSTALLED_LIBRARY};

	return find_beside(subcommand, "libtuplebind.so", "", places, path);
}

int preload_become(const char *subcommand, const char *name, const char *installed,
	const char *hint, char **argv)
{
	char beside[64], path[PATH_MAX];
	const char *const places[] = {beside, installed};

	snprintf(beside, sizeof beside, "/%s", name);
	int error = find_beside(subcommand, name, hint, places, path);
	if (error != 0)
		return error;
	if (argv[0] == NULL)
		argv[0] = path;
	execv(path, argv);
	return command_fail("%s: %s: %s", subcommand, path, strerror(errno));
}

/*
 * A program built with gcc's AddressSanitizer refuses to start when another library is in front of
 * the sanitizer's; ours does it no harm there. Children may be such programs, so this is always
 * set, unless the user has set it himself. Behind his options: of two the later one holds.
 */
static int allow_sanitizer(void)
{
	static const char name[] = "verify_asan_link_order";
	const char *options = getenv("ASAN_OPTIONS");
	char *value;

	if (options != NULL && strstr(options, name) != NULL)
		return 0;
	if (options == NULL)
		options = "";
	if (asprintf(&value, "%s%s%s=0", options, options[0] ? ":" : "", name) < 0)
		return -1;
	int error = setenv("ASAN_OPTIONS", value, 1);
	free(value);
	return error;
}

int preload_set(const char *subcommand, const char *library, bool loadable)
{
	static const char separators[] = " :"; /* which cannot be quoted */
	const char *item = getenv("LD_PRELOAD");
	size_t length = strlen(library), size = length + 2 + (item ? strlen(item) : 0);

	if (strpbrk(library, separators) != NULL)
		return command_fail(
			"%s: LD_PRELOAD cannot name \"%s\": blanks and colons separate its items; "
			"install tuplebind elsewhere",
			subcommand, library);
	char *value = calloc(1, size);
	if (value != NULL && loadable)
		strlcpy(value, library, size);
	while (value != NULL && item != NULL && *(item += strspn(item, separators)) != '\0') {
		size_t item_length = strcspn(item, separators);

		if (item_length != length || strncmp(item, library, length) != 0) {
			if (value[0] != '\0')
				strlcat(value, ":", size);
			strncat(value, item, item_length);
		}
		item += item_length;
	}
	int error = value == NULL ||
				    (value[0] ? setenv("LD_PRELOAD", value, 1)
					      : unsetenv("LD_PRELOAD")) < 0 ||
				    allow_sanitizer() < 0
			    ? command_fail("%s: %s", subcommand, strerror(errno))
			    : 0;
	free(value);
	return error;
}
