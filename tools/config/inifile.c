#include "tools/config/inifile.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLANKS		" \t"
#define ITEM_FORM	"accepted: [SECTION], KEY = VALUE, more of a value on indented lines, # comments"
#define BYTE_ORDER_MARK "\xef\xbb\xbf"

/* libinih wants room for "\r\n" and the end of the string as well. */
#define LINE_MORE 3

/* One reading: what is left of the text, and what libinih makes of the line it was given. */
struct reading {
	char *text, *rest, *end;
	unsigned line;
	const char *begin; /* of the line */
	bool awaited;	   /* the line must have a key or go on with a value */
	bool has_key;	   /* since the section began: an indented line goes on with its value */
	char section[128];
	inifile_visit *visit;
	void *context;
	struct inifile_fault *fault;
	int error;
};

int inifile_refuse(struct inifile_fault *fault, unsigned line, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(fault->what.text, sizeof fault->what.text, format, arguments);
	va_end(arguments);
	fault->line = line;
	return -EINVAL;
}

static int read_text(struct reading *r, const char *path)
{
	size_t length = 0;
	ssize_t got = 0;

	r->text = malloc(INIFILE_MAX + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd >= 0 && r->text != NULL)
		while (length <= INIFILE_MAX &&
			(got = read(fd, r->text + length, INIFILE_MAX + 1 - length)) > 0)
			length += (size_t)got;
	int error = r->text == NULL ? -ENOMEM : fd < 0 || got < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	if (error < 0) {
		inifile_refuse(r->fault, 0, "cannot be read: %s; accepted: a readable text file",
			strerror(-error));
		return error;
	}
	if (length > INIFILE_MAX)
		return inifile_refuse(r->fault, 0,
			"has more than %d bytes; accepted: a text file of at most that size",
			INIFILE_MAX);
	r->rest = r->text;
	r->end = r->text + length;
	*r->end = '\0';
	return 0;
}

/* Has libinih's buffer hold the longest line, where its build lets that be chosen. */
static void set_room(const struct reading *r)
{
#ifdef HAVE_INI_MAX_LINE
	size_t longest = 0;

	/* A NUL ends a line here; it will be refused. */
	for (const char *p = r->text; p < r->end;) {
		size_t length = strcspn(p, "\n");

		if (length > longest)
			longest = length;
		p += length + 1;
	}
	ini_use_stack = false;
	ini_max_line = ini_initial_alloc = (int)longest + 2 * LINE_MORE;
#endif
}

/* Nothing but text, blanks and tabulators, as long as @room. */
static int check_line(struct reading *r, size_t length, size_t room)
{
	if (r->line == 1 && length >= 3 && memcmp(r->begin, BYTE_ORDER_MARK, 3) == 0)
		return inifile_refuse(
			r->fault, r->line, "a byte order mark; accepted: plain text without one");
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)r->begin[i];

		if (byte == '\r' && i + 1 == length)
			return inifile_refuse(r->fault, r->line,
				"the line ends in CR LF; accepted: LF alone (dos2unix makes it "
				"so)");
		if ((byte < ' ' && byte != '\t') || byte == 0x7f)
			return inifile_refuse(r->fault, r->line,
				"byte 0x%02x in column %zu is not text; accepted: a text file",
				byte, i + 1);
	}
	if (length + LINE_MORE > room)
		return inifile_refuse(r->fault, r->line,
			"the line has %zu bytes; accepted: up to %zu, a longer value on several "
			"lines, indented from the second on",
			length, room - LINE_MORE);
	return 0;
}

/* "[title]" and nothing behind it but a comment. */
static int begin_section(struct reading *r, const char *title, const char *line_end)
{
	const char *close = memchr(title, ']', (size_t)(line_end - title));
	const char *behind = close != NULL ? close + 1 : line_end;
	struct inifile_item item = {.line = r->line, .section = r->section};

	while (behind < line_end && strchr(BLANKS, *behind) != NULL)
		behind++;
	if (close == NULL || (behind < line_end && *behind != ';' && *behind != '#') ||
		memchr(title, ';', (size_t)(close - title)) != NULL ||
		(size_t)(close - title) >= sizeof r->section)
		return inifile_refuse(r->fault, r->line,
			"\"%.*s\" does not begin a section; accepted: [SECTION] alone in its line",
			line_end - r->begin > 80 ? 80 : (int)(line_end - r->begin), r->begin);
	memcpy(r->section, title, (size_t)(close - title));
	r->section[close - title] = '\0';
	r->has_key = false;
	return r->visit(r->context, &item, r->fault);
}

/* True for a line that goes on with the value before. */
static bool goes_on(const struct reading *r)
{
	return r->has_key && (*r->begin == ' ' || *r->begin == '\t');
}

/* As libinih tells comments, continued values and sections from keys. */
static int look_at_line(struct reading *r, const char *line_end)
{
	const char *first = r->begin;

	while (first < line_end && strchr(BLANKS, *first) != NULL)
		first++;
	r->awaited = false;
	if (first == line_end || *first == ';' || *first == '#')
		return 0;
	if (*first == '[' && !goes_on(r))
		return begin_section(r, first + 1, line_end);
	r->awaited = true;
	return 0;
}

/* The line before had something in it, and libinih found neither key nor value there. */
static int check_understood(struct reading *r)
{
	int length = (int)strcspn(r->begin, "\n");

	if (!r->awaited)
		return 0;
	return inifile_refuse(r->fault, r->line, "\"%.*s\" is no KEY = VALUE; " ITEM_FORM,
		length > 80 ? 80 : length, r->begin);
}

/*
 * Where the line's text ends: before " ;", a comment. libinih sees to that itself, but on lines
 * that go on only in later versions.
 */
static size_t length_of_text(const struct reading *r, size_t length)
{
	for (size_t i = 1; goes_on(r) && i < length; i++)
		if (r->begin[i] == ';' && strchr(BLANKS, r->begin[i - 1]) != NULL)
			return i;
	return length;
}

/* libinih's reader: the next line, or NULL at the end and after a fault. */
static char *next_line(char *out, int room, void *stream)
{
	struct reading *r = stream;

	if (r->error == 0)
		r->error = check_understood(r);
	if (r->error < 0 || r->rest == r->end)
		return NULL;
	char *line_end = memchr(r->rest, '\n', (size_t)(r->end - r->rest));
	if (line_end == NULL)
		line_end = r->end;
	size_t length = (size_t)(line_end - r->rest);
	r->begin = r->rest;
	r->rest = line_end < r->end ? line_end + 1 : line_end;
	r->line++;
	r->error = check_line(r, length, (size_t)room);
	if (r->error == 0)
		r->error = look_at_line(r, line_end);
	if (r->error < 0)
		return NULL;
	length = length_of_text(r, length);
	memcpy(out, r->begin, length);
	memcpy(out + length, "\n", 2);
	return out;
}

/* libinih's handler: 1 for good. */
static int take_value(void *context, const char *section, const char *key, const char *value)
{
	struct reading *r = context;
	struct inifile_item item = {.line = r->line,
		.section = r->section,
		.key = key,
		.value = value,
		.goes_on = goes_on(r)};

	r->awaited = false;
	r->has_key = key[0] != '\0';
	if (r->error == 0)
		r->error = r->visit(r->context, &item, r->fault);
	return r->error == 0;
}

int inifile_read(const char *path, inifile_visit *visit, void *context, struct inifile_fault *fault)
{
	struct reading r = {.visit = visit, .context = context, .fault = fault, .begin = ""};

	r.error = read_text(&r, path);
	if (r.error == 0) {
		set_room(&r);
		int bad_line = ini_parse_stream(next_line, &r, take_value, &r);

		if (bad_line == -2)
			r.error = inifile_refuse(fault, 0, "%s", strerror(ENOMEM));
		else if (bad_line != 0 && r.error == 0)
			r.error = inifile_refuse(fault, (unsigned)bad_line,
				"the line was not understood; " ITEM_FORM);
	}
	free(r.text);
	return r.error;
}
