/*
 * What can be read, without reading it: of what is mapped and what is not, with and without the
 * short cuts for the program's own variables, heap and stack.
 */
#include "kernel/memory.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE 4096

static char variable[64] = {1};

/* Three pages, the one in the middle not to be read. */
static char *make_pages(void)
{
	char *pages =
		mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(pages, MAP_FAILED);
	cr_assert_eq(mprotect(pages + PAGE, PAGE, PROT_NONE), 0);
	return pages;
}

static void expect_the_same(void)
{
	char local[64] = {1}, *pages = make_pages(), *heap = malloc(64);

	errno = 0;
	cr_expect(memory_readable(variable, sizeof variable));
	cr_expect(memory_readable(local, sizeof local));
	cr_expect(memory_readable(heap, 64));
	cr_expect(memory_readable(pages, PAGE));
	cr_expect(memory_readable(pages + 2 * PAGE, 1));
	cr_expect_not(memory_readable(pages + PAGE, 1));
	cr_expect_not(memory_readable(pages + PAGE - 1, 2), "its end is on the next page");
	cr_expect_not(memory_readable(pages + 2 * PAGE - 1, 2), "its head is on the page before");
	cr_expect_not(memory_readable(NULL, 1));
	cr_expect_not(memory_readable((void *)8, 1));
	cr_expect_not(memory_readable((void *)(UINTPTR_MAX - 1), 8), "round the end");
	cr_expect_not(memory_readable((void *)((uintptr_t)1 << 60), 8), "no address at all");
	munmap(pages, PAGE);
	cr_expect_not(memory_readable(pages, 1));
	cr_expect_eq(errno, 0);
	free(heap);
}

Test(memory, asked)
{
	expect_the_same();
}

Test(memory, with_what_is_known)
{
	memory_start();
	expect_the_same();
}
