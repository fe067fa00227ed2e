/*
 * Memory that cannot be had when a program starts: whichever request it is that fails, the plan is
 * refused with a reason, and can be freed. The linker has these calls of the library come here.
 */
#include "choose/plan.h"
#include "fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_reallocarray(void *memory, size_t count, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_reallocarray(void *memory, size_t count, size_t size);
char *__wrap_strdup(const char *text);

/* The number of the request that fails, counted down; 0: none. */
static unsigned left;

static bool fails(void)
{
	return left > 0 && --left == 0;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_reallocarray(void *memory, size_t count, size_t size)
{
	return fails() ? NULL : __real_reallocarray(memory, count, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

/* Of each kind of part and rule one or more, and more rules than there is room for at first. */
static const struct {
	const char *variable, *value;
} settings[] = {
	{"ADDRS", "127.0.0.5,127.0.0.7-127.0.0.9,10.0.0.0/28,lo"},
	{"PORTS", "20000-30000"},
	{"SKIP", "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,10.0.0.9,"
		 "10.0.0.10,10.0.0.11,10.0.0.12,10.0.0.13,10.0.0.14,10.0.0.15,10.0.0.16,10.0.0.17"},
	{"RULES", "10.1.0.0/16:80=127.0.0.3@40000-50000;[2001:db8::/32]:80=::1"},
};

Test(nomemory, a_plan)
{
	struct fault fault = {.text = ""};
	struct config config;
	unsigned number = 0;
	struct plan plan;

	fixture_clean_environment();
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
		fixture_variable(settings[i].variable, settings[i].value);
	cr_assert_eq(config_read(&config, &fault), 0, "%s", fault.text);
	for (;;) {
		fault.text[0] = '\0';
		left = ++number;
		int error = plan_make(&plan, &config, &fault);
		bool failed = left == 0;
		left = 0;
		plan_free(&plan);
		if (!failed) {
			cr_expect_eq(error, 0, "%s", fault.text);
			break;
		}
		cr_expect(error == -ENOMEM || error == -EINVAL, "request %u: %d", number, error);
		cr_expect_not_null(strstr(fault.text, "out of memory at start"), "request %u: %s",
			number, fault.text);
	}
	cr_expect_gt(number, 20, "there are more requests than %u", number);
}
