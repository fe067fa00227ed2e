/*
 * As much of Criterion as the unit tests use, for where Criterion is not: musl, and
 * ThreadSanitizer, whose map of memory does not go with the way Criterion starts tests.
 *
 * As there, each test is a process of its own, an assertion ends it, an expectation does not.
 * Prints TAP. A test that is killed, or that takes longer than its time limit, has failed.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Most checks say nothing more. */
#pragma GCC diagnostic ignored "-Wformat-zero-length"
#ifndef __clang__
/* gcc sees here, and not through Criterion, that a test goes on when an expectation has failed. */
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define MINIMAL_TIMEOUT 120
#define MINIMAL_SKIPPED 77

struct minimal_options {
	void (*init)(void);
	void (*fini)(void);
	unsigned timeout; /* seconds */
};

struct minimal_test {
	const char *suite, *name;
	void (*run)(void);
	struct minimal_options options;
	struct minimal_test *next;
};

/* Of tests and, with no run, of suites. */
static struct minimal_test *minimal_tests, **minimal_last = &minimal_tests;
static unsigned minimal_failures;

#define MINIMAL_REGISTER(id, function, suite_, name_, ...)                                         \
	static struct minimal_test id##_entry = {                                                  \
		.suite = suite_, .name = name_, .run = function, .options = {__VA_ARGS__}};        \
	__attribute__((constructor)) static void id##_register(void)                               \
	{                                                                                          \
		*minimal_last = &id##_entry;                                                       \
		minimal_last = &id##_entry.next;                                                   \
	}

#define TestSuite(suite_, ...) MINIMAL_REGISTER(suite_##_suite, NULL, #suite_, "", __VA_ARGS__)
#define Test(suite_, name_, ...)                                                                   \
	static void suite_##_##name_##_test(void);                                                 \
	MINIMAL_REGISTER(suite_##_##name_, suite_##_##name_##_test, #suite_, #name_, __VA_ARGS__)  \
	static void suite_##_##name_##_test(void)

__attribute__((format(printf, 6, 7))) static inline void minimal_check(bool holds, bool fatal,
	const char *file, int line, const char *condition, const char *format, ...)
{
	va_list arguments;

	if (holds)
		return;
	fprintf(stderr, "%s:%d: not so: %s ", file, line, condition);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	minimal_failures++;
	if (fatal)
		_exit(1);
}

#define MINIMAL(fatal, condition, text, ...)                                                       \
	minimal_check(condition, fatal, __FILE__, __LINE__, text, "" __VA_ARGS__)

#define cr_assert(c, ...)	    MINIMAL(true, (c), #c, __VA_ARGS__)
#define cr_assert_not(c, ...)	    MINIMAL(true, !(c), "not " #c, __VA_ARGS__)
#define cr_assert_eq(a, b, ...)	    MINIMAL(true, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...)    MINIMAL(true, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...)	    MINIMAL(true, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...)    MINIMAL(true, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...)	    MINIMAL(true, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...)    MINIMAL(true, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_null(p, ...)	    MINIMAL(true, (p) == NULL, #p " is NULL", __VA_ARGS__)
#define cr_assert_not_null(p, ...)  MINIMAL(true, (p) != NULL, #p " is not NULL", __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) MINIMAL(true, strcmp(a, b) == 0, #a " is " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...)                                                             \
	MINIMAL(true, memcmp(a, b, n) == 0, #a " is " #b, __VA_ARGS__)
#define cr_expect(c, ...)	    MINIMAL(false, (c), #c, __VA_ARGS__)
#define cr_expect_not(c, ...)	    MINIMAL(false, !(c), "not " #c, __VA_ARGS__)
#define cr_expect_eq(a, b, ...)	    MINIMAL(false, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...)    MINIMAL(false, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...)	    MINIMAL(false, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...)    MINIMAL(false, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...)	    MINIMAL(false, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...)    MINIMAL(false, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_expect_null(p, ...)	    MINIMAL(false, (p) == NULL, #p " is NULL", __VA_ARGS__)
#define cr_expect_not_null(p, ...)  MINIMAL(false, (p) != NULL, #p " is not NULL", __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) MINIMAL(false, strcmp(a, b) == 0, #a " is " #b, __VA_ARGS__)
#define cr_expect_str_empty(a, ...) MINIMAL(false, (a)[0] == '\0', #a " is empty", __VA_ARGS__)
#define cr_expect_arr_eq(a, b, n, ...)                                                             \
	MINIMAL(false, memcmp(a, b, n) == 0, #a " is " #b, __VA_ARGS__)
#define cr_expect_arr_neq(a, b, n, ...)                                                            \
	MINIMAL(false, memcmp(a, b, n) != 0, #a " is not " #b, __VA_ARGS__)
#define cr_skip_test(...)                                                                          \
	do {                                                                                       \
		fprintf(stderr, "skipped: " __VA_ARGS__);                                          \
		fputc('\n', stderr);                                                               \
		_exit(MINIMAL_SKIPPED);                                                            \
	} while (0)

static inline void minimal_call(void (*one)(void), void (*other)(void))
{
	if (one != NULL)
		one();
	if (other != NULL)
		other();
}

/* In a process of its own. */
static inline void minimal_run(const struct minimal_test *t)
{
	static const struct minimal_options none;
	const struct minimal_options *suite = &none;

	for (const struct minimal_test *s = minimal_tests; s != NULL; s = s->next)
		if (s->run == NULL && strcmp(s->suite, t->suite) == 0)
			suite = &s->options;
	unsigned timeout = t->options.timeout ? t->options.timeout : suite->timeout;
	alarm(timeout ? timeout : MINIMAL_TIMEOUT);
	minimal_call(suite->init, t->options.init);
	t->run();
	minimal_call(t->options.fini, suite->fini);
	exit(minimal_failures != 0);
}

int main(void)
{
	unsigned number = 0, failed = 0;

	for (const struct minimal_test *t = minimal_tests; t != NULL; t = t->next) {
		int status = -1;

		if (t->run == NULL)
			continue;
		fflush(NULL);
		pid_t child = fork();
		if (child == 0)
			minimal_run(t);
		if (child < 0 || waitpid(child, &status, 0) != child)
			status = -1;
		bool skipped = WIFEXITED(status) && WEXITSTATUS(status) == MINIMAL_SKIPPED;
		bool good = skipped || status == 0;
		printf("%sok %u - %s::%s%s\n", good ? "" : "not ", ++number, t->suite, t->name,
			skipped ? " # SKIP" : "");
		failed += !good;
	}
	printf("1..%u\n", number);
	return failed != 0;
}
