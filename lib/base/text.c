#include "base/text.h"

#include <string.h>

void text_clear(struct text *t)
{
	t->length = 0;
	t->bytes[0] = '\0';
}

void text_put(struct text *t, const char *s)
{
	while (*s != '\0' && t->length < sizeof t->bytes - 1)
		t->bytes[t->length++] = *s++;
	t->bytes[t->length] = '\0';
}

void text_put_number(struct text *t, uint64_t value)
{
	char digits[21];
	char *p = digits + sizeof digits - 1;

	*p = '\0';
	do {
		*--p = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	text_put(t, p);
}

void text_put_addr(struct text *t, const struct addr *a)
{
	char buffer[ADDR_TEXT_MAX];

	addr_format(a, buffer);
	text_put(t, buffer);
}

void text_put_endpoint(struct text *t, const struct addr *a, uint16_t port)
{
	if (!addr_is_v4(a))
		text_put(t, "[");
	text_put_addr(t, a);
	text_put(t, addr_is_v4(a) ? ":" : "]:");
	text_put_number(t, port);
}
