/*
 * The plan: rules in their order, skips first, the general rule last, and the ports that
 * each rule ends up with for late and for explicit bind.
 */
#include "choose/plan.h"
#include "fixture.h"
#include "kernel/sysctl.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

static struct plan plan;
static struct config config;
static struct fault fault;
static struct table t;

static void setup(void)
{
	fixture_clean_environment();
	cr_assert_eq(config_read(&config, &fault), 0);
	fixture_table(&t, 0);
}

static void teardown(void)
{
	plan_free(&plan);
}

TestSuite(plan, .init = setup, .fini = teardown);

static void make(void)
{
	plan_free(&plan);
	cr_assert_eq(plan_make(&plan, &config, &fault), 0, "%s", fault.text);
	plan.permutation = &t.permutation;
	plan_set_ports(&plan);
}

static const struct rule *rule_for(const char *address, uint16_t port)
{
	struct addr a;

	cr_assert_eq(addr_parse(address, &a), 0);
	return plan_rule(&plan, &a, port);
}

/* The text of the rule's first address for @address; "" when the rule skips. */
static const char *first_address(const char *address, uint16_t port)
{
	static char text[ADDR_TEXT_MAX];
	const struct rule *r = rule_for(address, port);
	struct pool_place place;
	struct addr a;

	if (r->skip)
		return "";
	addr_parse(address, &a);
	if (pool_count(&r->pool, &a) == 0)
		return "auto";
	cr_assert(pool_at(&r->pool, &a, 0, &place));
	addr_format(&place.addr, text);
	return text;
}

static unsigned ports_of(const struct rule *r, enum stage stage)
{
	return atomic_load(&r->ports->order.counts[stage]);
}

Test(plan, without_rules_everything_is_the_general_one)
{
	config.addrs = "10.0.0.1";
	make();
	cr_expect_str_eq(first_address("192.0.2.1", 80), "10.0.0.1");
	cr_expect_str_eq(first_address("2001:db8::1", 80), "auto");
	cr_expect_eq(rule_for("192.0.2.1", 80), plan_general_rule(&plan));
}

Test(plan, first_match_wins)
{
	config.addrs = "10.0.0.1";
	config.rules = "192.0.2.0/24:443=10.0.0.2; 192.0.2.7=10.0.0.3;192.0.0.0/16=10.0.0.4 ;"
		       "[2001:db8::/32]:80=2001:db8::5;";
	make();
	cr_expect_str_eq(first_address("192.0.2.7", 443), "10.0.0.2");
	cr_expect_str_eq(first_address("192.0.2.7", 80), "10.0.0.3");
	cr_expect_str_eq(first_address("192.0.2.8", 80), "10.0.0.4");
	cr_expect_str_eq(first_address("192.1.2.8", 80), "10.0.0.1");
	cr_expect_str_eq(first_address("2001:db8::1", 80), "2001:db8::5");
	cr_expect_str_eq(first_address("2001:db8::1", 81), "auto");
}

Test(plan, skips_come_before_rules)
{
	config.rules = "192.0.2.0/24=10.0.0.2";
	config.skip = "192.0.2.7, [::1]:80,127.0.0.0/8";
	make();
	cr_expect_str_eq(first_address("192.0.2.7", 80), "");
	cr_expect_str_eq(first_address("192.0.2.8", 80), "10.0.0.2");
	cr_expect_str_eq(first_address("::1", 80), "");
	cr_expect_str_eq(first_address("::1", 81), "auto");
	cr_expect_str_eq(first_address("127.9.9.9", 1), "");
}

Test(plan, a_rule_may_skip)
{
	config.addrs = "10.0.0.1";
	config.rules = "192.0.2.7:80=10.0.0.2;192.0.2.7=skip;0.0.0.0/0=auto";
	make();
	cr_expect_str_eq(first_address("192.0.2.7", 80), "10.0.0.2");
	cr_expect_str_eq(first_address("192.0.2.7", 81), "");
	cr_expect_str_eq(first_address("192.0.2.8", 81), "auto");
}

Test(plan, pools_of_several_addresses_in_a_rule)
{
	struct addr a;

	config.rules = "192.0.2.7=10.0.0.2,10.0.0.8/30@2000-2009,3000;192.0.2.8=10.0.0.9";
	make();
	addr_parse("192.0.2.7", &a);
	cr_expect_eq(pool_count(&rule_for("192.0.2.7", 80)->pool, &a), 5);
	addr_parse("192.0.2.8", &a);
	cr_expect_eq(pool_count(&rule_for("192.0.2.8", 80)->pool, &a), 1);
}

Test(plan, ports_of_each_rule)
{
	config.backend = BACKEND_EXPLICIT;
	config.ports = "1000-1999";
	config.rules = "192.0.2.7=10.0.0.2@2000-2009,3000;192.0.2.8=10.0.0.2;192.0.2.9=10.0.0.3@"
		       "2000-2009,3000";
	make();
	cr_expect_eq(ports_of(rule_for("192.0.2.7", 80), STAGE_ODD), 5);
	cr_expect_eq(ports_of(rule_for("192.0.2.7", 80), STAGE_EVEN), 6);
	cr_expect_eq(ports_of(rule_for("192.0.2.7", 80), STAGE_LATE), 0);
	cr_expect_eq(ports_of(rule_for("192.0.2.8", 80), STAGE_ODD), 500);
	cr_expect_eq(ports_of(rule_for("192.0.2.1", 80), STAGE_EVEN), 500);
	cr_expect_eq(rule_for("192.0.2.7", 80)->ports, rule_for("192.0.2.9", 80)->ports,
		"rules that name the same ports share them");
	cr_expect_eq(plan.ports_count, 2);
}

/* Late bind can have what the kernel would choose from, and no other port. */
Test(plan, late_bind_has_the_kernels_range)
{
	struct portset range, offered, wanted;

	sysctl_ports(&range, &offered);
	portset_clear(&wanted);
	portset_add_range(&wanted, 1, 65535);
	config.ports = "1-65535";
	make();
	cr_expect_eq(ports_of(rule_for("192.0.2.7", 80), STAGE_LATE), portset_count(&offered));
	portset_remove(&wanted, &offered);
	cr_expect_eq(ports_of(rule_for("192.0.2.7", 80), STAGE_ODD) +
			     ports_of(rule_for("192.0.2.7", 80), STAGE_EVEN),
		portset_count(&wanted));
}

Test(plan, automatic_ports_are_the_kernels)
{
	struct portset range, offered;

	sysctl_ports(&range, &offered);
	make();
	cr_expect_eq(ports_of(rule_for("192.0.2.7", 80), STAGE_LATE), portset_count(&offered));
	cr_expect_not(portorder_has(&rule_for("192.0.2.7", 80)->ports->order, STAGE_ODD));
	/* Late bind proves missing. */
	atomic_store(&plan.late, 0);
	plan_set_ports(&plan);
	cr_expect_not(portorder_has(&rule_for("192.0.2.7", 80)->ports->order, STAGE_LATE));
	cr_expect_eq(ports_of(rule_for("192.0.2.7", 80), STAGE_ODD) +
			     ports_of(rule_for("192.0.2.7", 80), STAGE_EVEN),
		portset_count(&offered));
}

static uint32_t version(void)
{
	return atomic_load(&rule_for("192.0.2.7", 80)->ports->order.version);
}

/* A full lane is looked through anew when the ports are others: so not without need. */
Test(plan, ports_that_stay_are_not_set_again)
{
	make();
	uint32_t before = version();
	cr_expect_eq(plan_set_ports(&plan), 0);
	cr_expect_not(plan_look_at_ports(&plan), "the look at the start was this second's");
	cr_expect_eq(version(), before);
	atomic_store(&plan.late, 0);
	cr_expect_eq(plan_set_ports(&plan), 1);
	cr_expect_neq(version(), before);
}

/* Rather than the default range, which is for a start without /proc. */
Test(plan, what_cannot_be_read_changes_nothing)
{
	struct rlimit usual, none = {.rlim_cur = 0};
	struct netns elsewhere = {.inode = 1, .cookie = 1};

	make();
	uint32_t before = version();
	atomic_store(&plan.late, 0);
	plan.home = &elsewhere;
	cr_expect_eq(plan_set_ports(&plan), 0);
	plan.home = NULL;
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &usual), 0);
	none.rlim_max = usual.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	int result = plan_set_ports(&plan);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &usual), 0);
	cr_expect_eq(result, 0);
	cr_expect_eq(version(), before);
}

Test(plan, settings_are_carried_over)
{
	config.balance = BALANCE_PACK;
	config.when_full = FULL_KERNEL;
	make();
	cr_expect_eq(plan.balance, BALANCE_PACK);
	cr_expect_eq(plan.when_full, FULL_KERNEL);
	cr_expect_eq(atomic_load(&plan.late), 1);
	config.backend = BACKEND_EXPLICIT;
	make();
	cr_expect_eq(atomic_load(&plan.late), 0);
}

Test(plan, more_rules_than_a_few)
{
	static char rules[64 * 300];
	size_t length = 0;

	for (unsigned i = 0; i < 300; i++)
		length += (size_t)snprintf(rules + length, sizeof rules - length,
			"10.1.%u.%u=10.0.0.%u@%u;", i / 256, i % 256, i % 250 + 1, 1000 + i);
	config.rules = rules;
	make();
	cr_expect_eq(plan.rule_count, 301);
	cr_expect_str_eq(first_address("10.1.1.43", 80), "10.0.0.50");
	cr_expect_eq(rule_for("10.2.0.0", 80), plan_general_rule(&plan));
}

/* A refusal names the variable and the bad part. */
static void expect_bad(const char *variable, const char *part)
{
	fault.text[0] = '\0';
	plan_free(&plan);
	cr_expect_eq(plan_make(&plan, &config, &fault), -EINVAL, "%s %s", variable, part);
	cr_expect_eq(strncmp(fault.text, variable, strlen(variable)), 0, "%s", fault.text);
	cr_expect_eq(strncmp(fault.text + strlen(variable), ": ", 2), 0, "%s", fault.text);
	cr_expect_not_null(strstr(fault.text, part), "%s in %s", part, fault.text);
	cr_expect_null(strchr(fault.text, '\n'));
}

Test(plan, bad_general_values)
{
	config.addrs = "10.0.0.1,nosuch9";
	expect_bad("TUPLEBIND_ADDRS", "\"nosuch9\"");
	config.addrs = "auto";
	config.ports = "1000-";
	expect_bad("TUPLEBIND_PORTS", "\"1000-\"");
	config.ports = "auto,5";
	expect_bad("TUPLEBIND_PORTS", "\"auto\"");
}

Test(plan, bad_skips)
{
	static const char *const bad[] = {
		"10.0.0.256", "localhost", "10.0.0.1/33", "10.0.0.1:0", "[::1"};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		char list[64];

		snprintf(list, sizeof list, "10.0.0.9,%s", bad[i]);
		config.skip = list;
		expect_bad("TUPLEBIND_SKIP", bad[i]);
	}
}

Test(plan, bad_rules)
{
	static const struct {
		const char *rule, *part;
	} bad[] = {{"10.0.0.1", "10.0.0.1"}, {"=10.0.0.1", "\"\""}, {"x=10.0.0.1", "\"x\""},
		{"10.0.0.1=", "address"}, {"10.0.0.1=nosuch9", "\"nosuch9\""},
		{"10.0.0.1=Skip", "\"Skip\""}, {"10.0.0.1=10.0.0.2@x", "\"x\""},
		{"10.0.0.1=10.0.0.2@5-4", "\"5-4\""}, {"10.0.0.1=skip@5", "skip"},
		{"10.0.0.1:99999=10.0.0.2", "10.0.0.1:99999"},
		{"10.0.0.1=10.0.0.2=10.0.0.3", "10.0.0.2=10.0.0.3"}};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		char list[96];

		snprintf(list, sizeof list, "10.0.0.9=skip;%s;10.0.0.8=skip", bad[i].rule);
		config.rules = list;
		expect_bad("TUPLEBIND_RULES", bad[i].part);
	}
}

/* As TUPLEBIND_PORTS may not be empty: a rule without any port serves nobody. */
Test(plan, a_rule_that_names_no_ports_behind_its_at)
{
	config.rules = "10.0.0.1=10.0.0.2@";
	expect_bad("TUPLEBIND_RULES", "port");
}

/* A message leads to the place: which rule, and where in the variable the bad part begins. */
Test(plan, bad_rules_are_placed)
{
	static const struct {
		const char *rules, *place;
	} bad[] = {
		{"x", "rule 1, character 1, in "},
		{"10.0.0.9=skip; 10.0.0.8=skip ;  10.0.0.256=skip", "rule 3, character 33, in "},
		{"10.0.0.9=skip;;10.0.0.8 = 10.0.0.2,nosuch9", "rule 2, character 27, in "},
		{"10.0.0.9=10.0.0.2 @ 20-30,x", "rule 1, character 21, in "},
		{"10.0.0.9=10.0.0.2@auto/8:9", "rule 1, character 19, in "},
	};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		config.rules = bad[i].rules;
		expect_bad("TUPLEBIND_RULES", bad[i].place);
	}
}

Test(plan, long_rules)
{
	static char rules[40000];
	size_t length = (size_t)sprintf(rules, "192.0.2.7=10.0.0.1");
	struct addr to;

	for (unsigned i = 0; i < 2000; i++)
		length += (size_t)sprintf(rules + length, ",10.0.%u.%u", i / 250 + 1, i % 250);
	config.rules = rules;
	make();
	addr_parse("192.0.2.7", &to);
	cr_expect_eq(pool_count(&rule_for("192.0.2.7", 80)->pool, &to), 2001);
	memset(rules, '1', sizeof rules - 1);
	expect_bad("TUPLEBIND_RULES", "character 1, in ");
	config.rules = NULL;
	config.skip = rules;
	expect_bad("TUPLEBIND_SKIP", "too long");
}

Test(plan, what_is_left_to_the_kernel)
{
	static const struct {
		const char *to;
		uint16_t port;
		bool served;
		enum tuplebind_counter why;
	} cases[] = {
		{"192.0.2.7", 80, true, 0},
		{"192.0.2.7", 81, false, TUPLEBIND_PASSED_SKIPPED},
		{"10.0.0.1", 80, false, TUPLEBIND_PASSED_SKIPPED},
		{"192.0.2.7", 0, false, TUPLEBIND_PASSED_SPECIAL},
		{"224.0.0.1", 80, false, TUPLEBIND_PASSED_SPECIAL},
		{"ff02::1", 80, false, TUPLEBIND_PASSED_SPECIAL},
		{"255.255.255.255", 80, false, TUPLEBIND_PASSED_SPECIAL},
	};
	const struct rule *rule;
	enum tuplebind_counter why;
	struct addr to;

	config.skip = "10.0.0.0/8";
	config.rules = "192.0.2.7:81=skip";
	make();
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		addr_parse(cases[i].to, &to);
		bool served = plan_serves(&plan, &to, cases[i].port, &rule, &why);
		cr_expect_eq(served, cases[i].served, "%s", cases[i].to);
		cr_expect(served || why == cases[i].why, "%s", cases[i].to);
		cr_expect_eq(rule, plan_rule(&plan, &to, cases[i].port));
	}
}

/* 0.0.0.0 and :: as a destination. */
Test(plan, the_any_address_is_this_host)
{
	struct addr any4, any6, other;
	char text[ADDR_TEXT_MAX];

	config.addrs = "0.0.0.5,10.0.0.1";
	make();
	addr_parse("0.0.0.0", &any4);
	addr_parse("::", &any6);
	addr_parse("192.0.2.7", &other);
	const struct rule *rule = plan_general_rule(&plan);
	/* A pool goes with it; the socket's own address would. */
	cr_expect_not(plan_resolve_any(rule, false, &any4));
	cr_expect_not(plan_resolve_any(rule, true, &any6));
	cr_expect(plan_resolve_any(rule, false, &any6));
	addr_format(&any6, text);
	cr_expect_str_eq(text, "::1");
	cr_expect(plan_resolve_any(rule, true, &other));
	addr_format(&other, text);
	cr_expect_str_eq(text, "192.0.2.7");
}
