/*
 * Events: one line of key=value each, and the limit of those that may come thick and fast.
 */
#include "base/event.h"
#include "fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

static int fd;
static struct event e;

static void setup(void)
{
	fd = fixture_scratch();
	cr_assert_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	cr_assert_eq(log_open(LOG_WARN, NULL), 0);
}

TestSuite(event, .init = setup);

/* What the log has, behind "tuplebind[PID] LEVEL: event=NAME pid=PID". */
static const char *told(const char *level, const char *name)
{
	const char *contents = fixture_contents(fd);
	char head[128];

	snprintf(head, sizeof head, "tuplebind[%d] %s: event=%s pid=%d", (int)getpid(), level, name,
		(int)getpid());
	cr_assert_eq(strncmp(contents, head, strlen(head)), 0, "%s", contents);
	return contents + strlen(head);
}

Test(event, keys_and_values)
{
	struct addr a;

	addr_parse("2001:db8::1", &a);
	cr_assert(event_begin(&e, LOG_WARN, "test"));
	event_number(&e, "fd", 7);
	event_text(&e, "protocol", "tcp");
	event_text(&e, "reason", "several words");
	event_text(&e, "nothing", "");
	event_addr(&e, "laddr", &a);
	event_endpoint(&e, "foreign", &a, 80);
	event_error(&e, 0);
	event_error(&e, ECONNREFUSED);
	event_end(&e);
	cr_expect_str_eq(told("warn", "test"),
		" fd=7 protocol=tcp reason=\"several words\" nothing=\"\" laddr=2001:db8::1 "
		"foreign=[2001:db8::1]:80 error=ECONNREFUSED\n");
}

Test(event, error_without_a_name)
{
	cr_assert(event_begin(&e, LOG_ERROR, "test"));
	event_error(&e, 99999);
	event_end(&e);
	cr_expect_str_eq(told("error", "test"), " error=99999\n");
}

Test(event, what_is_not_wanted_is_not_begun)
{
	static struct event_limit limit;

	cr_expect_not(event_begin(&e, LOG_INFO, "test"));
	cr_expect_not(event_begin_limited(&e, LOG_INFO, "test", &limit));
	cr_expect_eq(atomic_load(&limit.untold), 0);
}

Test(event, limited)
{
	static struct event_limit limit, other;

	cr_expect(event_begin_limited(&e, LOG_WARN, "test", &limit));
	for (int i = 0; i < 10; i++)
		cr_expect_not(event_begin_limited(&e, LOG_WARN, "test", &limit));
	cr_expect(event_begin_limited(&e, LOG_WARN, "test", &other));
	/* A minute later. */
	atomic_store(&limit.next, 0);
	cr_assert(event_begin_limited(&e, LOG_WARN, "test", &limit));
	event_end(&e);
	cr_expect_str_eq(told("warn", "test"), " untold=10\n");
}

Test(event, line_that_is_too_long_ends_as_a_line)
{
	char value[600];

	memset(value, 'x', sizeof value - 1);
	value[sizeof value - 1] = '\0';
	cr_assert(event_begin(&e, LOG_WARN, "test"));
	event_text(&e, "value", value);
	event_end(&e);
	const char *contents = fixture_contents(fd);
	cr_expect_eq(contents[strlen(contents) - 1], '\n');
}
