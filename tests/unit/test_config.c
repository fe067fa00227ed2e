/*
 * The environment variables: what each accepts, and that a value it does not accept is
 * answered with its name and the bad part. Each bad value is set alone.
 */
#include "choose/config.h"
#include "fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static struct config c;
static struct fault f;

TestSuite(config, .init = fixture_clean_environment);

static void expect_good(const char *name, const char *value)
{
	f.text[0] = '\0';
	fixture_variable(name, value);
	cr_expect_eq(config_read(&c, &f), 0, "%s=%s: %s", name, value, f.text);
}

static void expect_bad(const char *name, const char *value)
{
	char begin[128];

	/* Of a long value the first part is enough. */
	snprintf(begin, sizeof begin, "TUPLEBIND_%s: \"%.60s\"", name, value);
	f.text[0] = '\0';
	fixture_variable(name, value);
	cr_expect_eq(config_read(&c, &f), -EINVAL, "%s=%s", name, value);
	cr_expect_eq(strncmp(f.text, begin, strlen(begin)), 0, "%s", f.text);
	cr_expect_not_null(strstr(f.text, "accepted: "), "%s", f.text);
	cr_expect_null(strchr(f.text, '\n'), "%s", f.text);
	fixture_variable(name, NULL);
}

Test(config, defaults)
{
	cr_assert_eq(config_read(&c, &f), 0);
	cr_expect_not(c.disabled);
	cr_expect_not(c.strict);
	cr_expect_eq(c.backend, BACKEND_AUTO);
	cr_expect_eq(c.balance, BALANCE_ROTATE);
	cr_expect_eq(c.when_full, FULL_FAIL);
	cr_expect_eq(c.log_level, LOG_WARN);
	cr_expect_null(c.log_file);
	cr_expect_null(c.table);
	cr_expect_eq(c.table_size, 8 << 20);
	cr_expect_str_eq(c.addrs, "auto");
	cr_expect_str_eq(c.ports, "auto");
	cr_expect_null(c.rules);
	cr_expect_null(c.skip);
}

Test(config, empty_is_unset)
{
	for (int i = 0; config_names[i] != NULL; i++)
		fixture_variable(config_names[i], "");
	cr_assert_eq(config_read(&c, &f), 0, "%s", f.text);
	cr_expect_str_eq(c.addrs, "auto");
	cr_expect_eq(c.table_size, 8 << 20);
	cr_expect_null(c.log_file);
	cr_expect_null(c.table);
	cr_expect_null(c.rules);
}

Test(config, all_names_of_the_documentation)
{
	static const char *const names[] = {"ADDRS", "PORTS", "PROTOCOLS", "BALANCE", "RULES",
		"SKIP", "FULL", "BACKEND", "TABLE", "TABLE_SIZE", "LOG", "LOG_FILE", "DISABLE",
		"STRICT"};
	size_t count = sizeof names / sizeof names[0], found = 0;

	for (size_t i = 0; config_names[i] != NULL; i++)
		for (size_t j = 0; j < count; j++)
			found += strcmp(config_names[i], names[j]) == 0;
	cr_expect_eq(found, count);
}

Test(config, words)
{
	expect_good("BACKEND", "late");
	cr_expect_eq(c.backend, BACKEND_LATE);
	expect_good("BACKEND", "explicit");
	cr_expect_eq(c.backend, BACKEND_EXPLICIT);
	expect_good("BACKEND", "auto");
	cr_expect_eq(c.backend, BACKEND_AUTO);
	expect_good("BALANCE", "rotate");
	cr_expect_eq(c.balance, BALANCE_ROTATE);
	expect_good("BALANCE", "random");
	cr_expect_eq(c.balance, BALANCE_RANDOM);
	expect_good("BALANCE", "hash");
	cr_expect_eq(c.balance, BALANCE_HASH);
	expect_good("BALANCE", "pack");
	cr_expect_eq(c.balance, BALANCE_PACK);
	expect_good("FULL", "kernel");
	cr_expect_eq(c.when_full, FULL_KERNEL);
	expect_good("FULL", "fail");
	cr_expect_eq(c.when_full, FULL_FAIL);
	expect_good("UNUSABLE", "fail");
	cr_expect_eq(c.when_unusable, UNUSABLE_FAIL);
	expect_good("UNUSABLE", "kernel");
	cr_expect_eq(c.when_unusable, UNUSABLE_KERNEL);
	expect_good("PROTOCOLS", "tcp");
	cr_expect_eq(c.protocols, PROTOCOL_TCP);
	expect_good("PROTOCOLS", "udp");
	cr_expect_eq(c.protocols, PROTOCOL_UDP);
	expect_good("PROTOCOLS", "udp, tcp");
	cr_expect_eq(c.protocols, PROTOCOL_TCP | PROTOCOL_UDP);
}

Test(config, log)
{
	static const char *const levels[] = {"off", "error", "warn", "info", "debug"};

	for (int i = 0; i < 5; i++) {
		expect_good("LOG", levels[i]);
		cr_expect_eq((int)c.log_level, i);
	}
	expect_good("LOG_FILE", "a file");
	cr_expect_str_eq(c.log_file, "a file");
}

Test(config, table)
{
	expect_good("TABLE", "mine-1");
	cr_expect_str_eq(c.table, "mine-1");
	expect_good("TABLE", "private");
	expect_good("TABLE_SIZE", "256K");
	cr_expect_eq(c.table_size, 256 << 10);
	expect_good("TABLE_SIZE", "16G");
	cr_expect_eq(c.table_size, UINT64_C(16) << 30);
	expect_good("TABLE_SIZE", "1048576");
	cr_expect_eq(c.table_size, 1 << 20);
}

Test(config, texts_are_taken_as_they_are)
{
	expect_good("ADDRS", "10.0.0.1, nonsense");
	expect_good("PORTS", "x");
	expect_good("RULES", "y");
	expect_good("SKIP", "z");
	cr_expect_str_eq(c.addrs, "10.0.0.1, nonsense");
	cr_expect_str_eq(c.ports, "x");
	cr_expect_str_eq(c.rules, "y");
	cr_expect_str_eq(c.skip, "z");
}

Test(config, disabled_looks_no_further)
{
	fixture_variable("LOG", "nonsense");
	fixture_variable("TABLE_SIZE", "nonsense");
	expect_good("DISABLE", "1");
	cr_expect(c.disabled);
	fixture_variable("DISABLE", "0");
	cr_expect_eq(config_read(&c, &f), -EINVAL);
}

Test(config, bad_values)
{
	static const char *const words[] = {"x", "Late", "late ", " auto", "auto,late", "0", "1"};
	static const char *const flags[] = {"2", "yes", "on", "true", " 1", "-1", "11"};
	static const char *const sizes[] = {"0", "255K", "262143", "16385M", "17G", "-8M", "8 M",
		"8MB", "8T", "M", "1e9", "99999999999999999999"};
	static const char *const names[] = {".", "..", ".x", "a/b", "../x", "a b", "a:b"};

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		expect_bad("BACKEND", words[i]);
		expect_bad("BALANCE", words[i]);
		expect_bad("FULL", words[i]);
		expect_bad("LOG", words[i]);
		expect_bad("PROTOCOLS", words[i]);
	}
	for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
		expect_bad("DISABLE", flags[i]);
		expect_bad("STRICT", flags[i]);
	}
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		expect_bad("TABLE_SIZE", sizes[i]);
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		expect_bad("TABLE", names[i]);
}

Test(config, very_long_values_leave_room_for_what_is_accepted)
{
	char value[1000];

	memset(value, 'x', sizeof value - 1);
	value[sizeof value - 1] = '\0';
	expect_bad("BACKEND", value);
	expect_bad("BALANCE", value);
	expect_bad("FULL", value);
	expect_bad("LOG", value);
	expect_bad("PROTOCOLS", value);
	expect_bad("DISABLE", value);
	expect_bad("STRICT", value);
	expect_bad("TABLE", value);
	expect_bad("TABLE_SIZE", value);
}

/* config.h: "strict, disabled and the log's settings are right even then". */
Test(config, what_decides_about_the_line_is_right_in_spite_of_a_bad_value)
{
	static const char *const others[] = {
		"BACKEND", "BALANCE", "FULL", "PROTOCOLS", "TABLE", "TABLE_SIZE"};

	fixture_variable("STRICT", "1");
	fixture_variable("LOG", "off");
	fixture_variable("LOG_FILE", "a file");
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
		expect_bad(others[i], "/");
		cr_expect(c.strict, "%s", others[i]);
		cr_expect_not(c.disabled, "%s", others[i]);
		cr_expect_eq(c.log_level, LOG_OFF, "%s", others[i]);
		cr_expect_str_eq(c.log_file, "a file", "%s", others[i]);
	}
}

Test(config, a_bad_switch_leaves_the_log_settings_right)
{
	fixture_variable("LOG", "off");
	expect_bad("DISABLE", "yes");
	cr_expect_eq(c.log_level, LOG_OFF, "DISABLE");
	expect_bad("STRICT", "yes");
	cr_expect_eq(c.log_level, LOG_OFF, "STRICT");
}

Test(config, a_bad_switch_leaves_the_other_right)
{
	fixture_variable("DISABLE", "1");
	fixture_variable("STRICT", "yes");
	config_read(&c, &f);
	cr_expect(c.disabled);
}

Test(config, one_value)
{
	static const char *const texts[] = {"ADDRS", "PORTS", "RULES", "SKIP", "LOG_FILE", NULL};
	struct config before;
	unsigned size = 0;

	while (strcmp(config_names[size], "TABLE_SIZE") != 0)
		size++;
	fixture_variable("TABLE_SIZE", "1M");
	config_start(&c);
	cr_expect_eq(c.table_size, 8 << 20, "not from the environment");
	cr_expect_eq(config_set(&c, size, "2M", &f), 0);
	cr_expect_eq(c.table_size, 2 << 20);
	before = c;
	cr_expect_eq(config_set(&c, size, "", &f), 0);
	cr_expect_eq(config_set(&c, size, NULL, &f), 0);
	for (unsigned i = 0; config_names[i] != NULL; i++) {
		if (parse_word(config_names[i], texts) >= 0)
			continue;
		cr_expect_eq(config_set(&c, i, "/", &f), -EINVAL, "%s", config_names[i]);
		cr_expect_eq(strncmp(f.text, "TUPLEBIND_", 10), 0, "%s", f.text);
		cr_expect_eq(strncmp(f.text + 10, config_names[i], strlen(config_names[i])), 0,
			"%s", f.text);
		cr_expect_eq(memcmp(&c, &before, sizeof c), 0, "%s", config_names[i]);
	}
}
