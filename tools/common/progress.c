#include "tools/common/progress.h"

#include "table/reap.h"
#include "tools/common/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define EVERY_NS      UINT64_C(100000000)
#define COLUMNS_USUAL 80
#define COLUMNS_MAX   255

/* Asked each time: a command may be taken into the background, its terminal made narrower. */
static bool find_width(unsigned *columns)
{
	const char *terminal = getenv("TERM");
	struct winsize size;

	if (!isatty(STDERR_FILENO) || terminal == NULL || strcmp(terminal, "dumb") == 0)
		return false;
	*columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
										   : COLUMNS_USUAL;
	return true;
}

bool progress_due(const struct progress *p)
{
	return reap_now() >= p->next;
}

void progress_show(struct progress *p, const char *format, ...)
{
	char line[COLUMNS_MAX + 1];
	unsigned columns;
	va_list arguments;

	p->next = reap_now() + EVERY_NS;
	if (!find_width(&columns))
		return;
	va_start(arguments, format);
	vsnprintf(line, columns < sizeof line ? columns : sizeof line, format, arguments);
	va_end(arguments);
	fputs("\r\033[K", stderr);
	command_put(stderr, line);
	fflush(stderr);
	p->shown = true;
}

void progress_end(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
