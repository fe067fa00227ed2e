/*
 * Lines built piece by piece: what does not fit is cut, and the result always ends.
 */
#include "base/text.h"

#include <criterion/criterion.h>
#include <string.h>

Test(text, pieces)
{
	struct text t;
	struct addr v4, v6;

	addr_parse("10.0.0.1", &v4);
	addr_parse("2001:db8::1", &v6);
	text_clear(&t);
	cr_expect_str_eq(t.bytes, "");
	text_put(&t, "from ");
	text_put_endpoint(&t, &v4, 80);
	text_put(&t, " to ");
	text_put_endpoint(&t, &v6, 0);
	text_put(&t, " ");
	text_put_addr(&t, &v6);
	cr_expect_str_eq(t.bytes, "from 10.0.0.1:80 to [2001:db8::1]:0 2001:db8::1");
	cr_expect_eq(t.length, strlen(t.bytes));
}

Test(text, numbers)
{
	struct text t;

	text_clear(&t);
	text_put_number(&t, 0);
	text_put(&t, " ");
	text_put_number(&t, UINT64_MAX);
	cr_expect_str_eq(t.bytes, "0 18446744073709551615");
}

Test(text, what_does_not_fit_is_cut)
{
	struct text t;

	text_clear(&t);
	for (int i = 0; i < 1000; i++)
		text_put_number(&t, 12345678);
	cr_expect_eq(t.length, sizeof t.bytes - 1);
	cr_expect_eq(strlen(t.bytes), sizeof t.bytes - 1);
	text_put(&t, "more");
	cr_expect_eq(strlen(t.bytes), sizeof t.bytes - 1);
	text_clear(&t);
	cr_expect_str_eq(t.bytes, "");
}
