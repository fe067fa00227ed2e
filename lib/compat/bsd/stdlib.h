/* For a libc without libbsd: what is used of it and that the libc has not. */
#pragma once

#include <errno.h>
#include <stdlib.h>

/* strtonum(3) of OpenBSD: 0 and *error for what is no number from @min to @max. */
static inline long long strtonum(const char *text, long long min, long long max, const char **error)
{
	char *end;

	errno = 0;
	long long number = strtoll(text, &end, 10);
	*error = NULL;
	if (end == text || *end != '\0')
		*error = "invalid";
	else if (number < min || (errno == ERANGE && number < 0))
		*error = "too small";
	else if (number > max || errno == ERANGE)
		*error = "too large";
	return *error == NULL ? number : 0;
}
