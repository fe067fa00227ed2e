/*
 * How the programs of tools/ speak to their user.
 */
#include "tools/common/command.h"

#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void command_put(FILE *to, const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		putc((unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p, to);
}

bool command_is_utf8(const char *text)
{
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);

	if (utf8 == (locale_t)0)
		return true;
	locale_t before = uselocale(utf8);
	bool is = mbstowcs(NULL, text, 0) != (size_t)-1;
	uselocale(before);
	freelocale(utf8);
	return is;
}

int command_help(const char *text)
{
	fputs(text, stdout);
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_TUPLEBIND;
}

static void put_line(FILE *to, const char *before, const char *format, va_list arguments)
{
	char *line;

	/* Without memory at least what it is about. */
	int length = vasprintf(&line, format, arguments);
	fputs(before, to);
	command_put(to, length >= 0 ? line : format);
	fputc('\n', to);
	if (length >= 0)
		free(line);
}

void command_line(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	put_line(stdout, "", format, arguments);
	va_end(arguments);
}

int command_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	put_line(stderr, "tuplebind: ", format, arguments);
	va_end(arguments);
	return EXIT_TUPLEBIND;
}

int command_usage(const char *subcommand, const char *format, ...)
{
	char message[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof message, format, arguments);
	va_end(arguments);
	return command_fail("%s: %s; see tuplebind %s --help", subcommand, message, subcommand);
}

int command_flush(const char *subcommand)
{
	return fflush(stdout) == 0 ? 0 : command_fail("%s: %s", subcommand, strerror(errno));
}
