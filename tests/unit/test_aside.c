/*
 * The short memory for things to leave alone.
 */
#include "base/aside.h"

#include <criterion/criterion.h>

static struct aside aside;

Test(aside, empty)
{
	cr_expect_not(aside_has(&aside, 0));
	cr_expect_not(aside_has(&aside, UINT64_MAX));
}

Test(aside, what_was_put_is_there)
{
	uint64_t hash = UINT64_C(0x123456789abcdef0);

	aside_put(&aside, hash, 60);
	cr_expect(aside_has(&aside, hash));
	cr_expect_not(aside_has(&aside, hash + 1), "another place");
	cr_expect_not(
		aside_has(&aside, hash ^ UINT64_C(1) << 40), "another hash of the same place");
}

Test(aside, a_newer_one_may_push_out_an_older_one)
{
	aside_put(&aside, 5, 60);
	aside_put(&aside, UINT64_C(1) << 40 | 5, 60);
	cr_expect_not(aside_has(&aside, 5));
	cr_expect(aside_has(&aside, UINT64_C(1) << 40 | 5));
}

Test(aside, time_runs_out)
{
	aside_put(&aside, 77, 0);
	cr_expect_not(aside_has(&aside, 77));
	aside_put(&aside, 77, 60);
	aside_put(&aside, 77, 0);
	cr_expect_not(aside_has(&aside, 77), "the newer word counts");
}
