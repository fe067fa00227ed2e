/*
 * Outages: left out for a while, told once when they begin and once when they are over.
 */
#include "choose/outage.h"

#include <criterion/criterion.h>

#define THIS  UINT64_C(0x1111111100000001)
#define OTHER UINT64_C(0x2222222200000002)

static struct outages o;

Test(outage, left_out)
{
	cr_expect_not(outage_any(&o));
	outage_put(&o, THIS);
	cr_expect(outage_any(&o));
	cr_expect(outage_has(&o, THIS));
	cr_expect_not(outage_has(&o, OTHER));
}

Test(outage, told_once_until_it_is_over)
{
	cr_expect_not(outage_any_told(&o));
	cr_expect(outage_begins(&o, THIS));
	cr_expect_not(outage_begins(&o, THIS));
	cr_expect(outage_any_told(&o));
	cr_expect_not(outage_ends(&o, OTHER), "was none");
	cr_expect(outage_ends(&o, THIS));
	cr_expect_not(outage_ends(&o, THIS), "is over already");
	cr_expect(outage_begins(&o, THIS), "another one");
}

Test(outage, few_lines_whatever_the_number)
{
	unsigned told = 0;

	for (uint64_t i = 1; i <= 500; i++)
		told += outage_begins(&o, i << 32 | i);
	/* A new minute may begin meanwhile. */
	cr_expect(told == 10 || told == 20, "%u", told);
}
