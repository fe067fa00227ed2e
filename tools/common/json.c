#include "tools/common/json.h"

#include "tools/common/command.h"

void json_put(FILE *to, const char *text)
{
	bool utf8 = command_is_utf8(text);

	putc('"', to);
	for (const char *p = text; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;

		if (c == '"' || c == '\\')
			fprintf(to, "\\%c", c);
		else if (c < ' ' || c == 0x7f)
			fprintf(to, "\\u%04x", c);
		else
			putc(c < 0x80 || utf8 ? c : '?', to);
	}
	putc('"', to);
}
