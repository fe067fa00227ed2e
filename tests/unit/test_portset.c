/*
 * Sets of ports.
 */
#include "base/portset.h"

#include <criterion/criterion.h>

static struct portset s, other;

Test(portset, ranges)
{
	portset_add_range(&s, 20000, 20009);
	portset_add_range(&s, 65535, 65535);
	cr_expect_eq(portset_count(&s), 11);
	cr_expect(portset_has(&s, 20000));
	cr_expect(portset_has(&s, 20009));
	cr_expect_not(portset_has(&s, 19999));
	cr_expect_not(portset_has(&s, 20010));
	cr_expect(portset_has(&s, 65535));
	portset_clear(&s);
	cr_expect_eq(portset_count(&s), 0);
}

Test(portset, all_ports)
{
	portset_add_range(&s, 0, 65535);
	cr_expect_eq(portset_count(&s), 65536);
}

Test(portset, overlaps_count_once)
{
	portset_add_range(&s, 100, 200);
	portset_add_range(&s, 150, 250);
	cr_expect_eq(portset_count(&s), 151);
}

Test(portset, ranges_are_taken_out)
{
	portset_add_range(&s, 100, 199);
	portset_remove_range(&s, 0, 109);
	portset_remove_range(&s, 150, 150);
	portset_remove_range(&s, 190, 65535);
	cr_expect_eq(portset_count(&s), 79);
	cr_expect(portset_has(&s, 110) && portset_has(&s, 149) && portset_has(&s, 189));
	cr_expect_not(portset_has(&s, 109) || portset_has(&s, 150) || portset_has(&s, 190));
}

Test(portset, remove_and_keep)
{
	portset_add_range(&s, 100, 199);
	portset_add_range(&other, 110, 119);
	portset_add_range(&other, 300, 300);
	portset_remove(&s, &other);
	cr_expect_eq(portset_count(&s), 90);
	cr_expect_not(portset_has(&s, 110));
	cr_expect(portset_has(&s, 120));
	portset_clear(&other);
	portset_add_range(&other, 150, 300);
	portset_keep(&s, &other);
	cr_expect_eq(portset_count(&s), 50);
	cr_expect_not(portset_has(&s, 149));
	cr_expect_not(portset_has(&s, 200));
	portset_add(&s, &other);
	cr_expect_eq(portset_count(&s), 151);
}
