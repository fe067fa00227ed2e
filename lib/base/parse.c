#include "base/parse.h"

#include <bsd/stdlib.h>
#include <bsd/string.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int fault_set(struct fault *f, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(f->text, sizeof f->text, format, args);
	va_end(args);
	/* What a value has in it must neither end the line nor speak to the terminal. */
	for (char *c = f->text; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	return -EINVAL;
}

int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	const char *error = NULL;

	/* strtonum() takes blanks and signs, which no grammar here has. */
	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	long long number = strtonum(text, (long long)min, (long long)max, &error);
	if (error != NULL)
		return -EINVAL;
	*value = (uint64_t)number;
	return 0;
}

int parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	static const char suffixes[] = "KMG";
	char digits[24];
	size_t length = strlcpy(digits, text, sizeof digits);
	unsigned shift = 0;

	if (length == 0 || length >= sizeof digits)
		return -EINVAL;
	const char *suffix = strchr(suffixes, toupper((unsigned char)digits[length - 1]));
	if (suffix != NULL) {
		shift = 10 * (unsigned)(suffix - suffixes + 1);
		digits[length - 1] = '\0';
	}
	uint64_t number;
	if (parse_number(digits, 0, max >> shift, &number) < 0 || number << shift < min)
		return -EINVAL;
	*value = number << shift;
	return 0;
}

int parse_flag(const char *text, bool *value)
{
	static const char *const words[] = {"0", "1", "", NULL};
	int word = parse_word(text, words);

	if (word < 0)
		return word;
	*value = word == 1;
	return 0;
}

int parse_word(const char *text, const char *const words[])
{
	for (int i = 0; words[i] != NULL; i++)
		if (strcmp(text, words[i]) == 0)
			return i;
	return -EINVAL;
}

int parse_next(const char **cursor, char separator, char *item, size_t size)
{
	const char *start = *cursor, *end;
	int depth = 0;

	if (*start == '\0')
		return 0;
	for (end = start; *end != '\0' && (*end != separator || depth > 0); end++) {
		if (*end == '[')
			depth++;
		else if (*end == ']' && depth > 0)
			depth--;
	}
	*cursor = *end == '\0' ? end : end + 1;
	while (start < end && isspace((unsigned char)*start))
		start++;
	while (end > start && isspace((unsigned char)end[-1]))
		end--;
	size_t length = (size_t)(end - start);
	int result = 1;
	if (length >= size) {
		length = size - 1;
		result = -E2BIG;
	}
	memcpy(item, start, length);
	item[length] = '\0';
	return result;
}
