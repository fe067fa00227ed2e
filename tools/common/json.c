#include "tools/common/json.h"

#include "tools/common/command.h"

/* What stands before a value: a comma, and its name if it has one. */
static void begin(struct json *j, const char *name)
{
	if (j->follows)
		putc(',', j->to);
	if (name != NULL)
		fprintf(j->to, "\"%s\":", name);
	j->follows = true;
}

void json_open(struct json *j, const char *name, char bracket)
{
	begin(j, name);
	putc(bracket, j->to);
	j->follows = false;
}

void json_close(struct json *j, char bracket)
{
	putc(bracket, j->to);
	j->follows = true;
}

void json_text(struct json *j, const char *name, const char *value)
{
	begin(j, name);
	if (value == NULL) {
		fputs("null", j->to);
		return;
	}
	bool utf8 = command_is_utf8(value);
	putc('"', j->to);
	for (const char *p = value; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;

		if (c == '"' || c == '\\')
			fprintf(j->to, "\\%c", c);
		else if (c < ' ' || c == 0x7f)
			fprintf(j->to, "\\u%04x", c);
		else
			putc(c < 0x80 || utf8 ? c : '?', j->to);
	}
	putc('"', j->to);
}

void json_number(struct json *j, const char *name, uint64_t value)
{
	begin(j, name);
	fprintf(j->to, "%llu", (unsigned long long)value);
}

void json_bool(struct json *j, const char *name, bool value)
{
	begin(j, name);
	fputs(value ? "true" : "false", j->to);
}
