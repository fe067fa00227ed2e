/*
 * tuplebind explain: what would become of a connect to one destination now.
 *
 * What is told is the library's own answer (explanation.h): which rule, which address, how full its
 * lane is, and beside that what the kernel alone would do.
 */
#include "tools/common/command.h"
#include "tools/common/json.h"
#include "tools/common/options.h"
#include "tools/config/settings.h"
#include "tools/explain/explanation.h"
#include "tools/subcommands.h"

#include "version.h"

#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_NOT_SERVED 1

/* Addresses in the output for people. */
#define SHOWN_MAX 12

/* What is asked, and with which settings. */
struct question {
	struct settings settings;
	struct config config;
	const char *text; /* the destination as given */
	bool json;
	struct explanation e;
};

static int take_protocol(
	const struct options *o, const struct option_row *row, void *to, const char *value)
{
	uint8_t *protocol = to;

	if (strcmp(value, "udp") != 0 && strcmp(value, "tcp") != 0)
		return command_usage(o->subcommand,
			"--protocol: \"%.40s\" is not a protocol; accepted: tcp, udp", value);
	*protocol = value[0] == 'u' ? IPPROTO_UDP : IPPROTO_TCP;
	return 0;
}

static const struct option_row rows[] = {
	{"protocol", "P", "tcp (the default) or udp", take_protocol,
		offsetof(struct question, e.protocol)},
	OPTION_SWITCH(struct question, json, "json", "one JSON object, for programs"),
	OPTION_END,
};

static const struct options options = {
	.subcommand = "explain",
	.usage = "usage: tuplebind explain [OPTION...] ADDRESS:PORT\n"
		 "\n"
		 "Shows what would become of a connect to ADDRESS:PORT (IPv6: [ADDRESS]:PORT)\n"
		 "now, with the settings in force: which rule it falls under, from which address\n"
		 "it would go, how full the addresses are, why others are not used, and what the\n"
		 "kernel alone would do. Nothing is sent and nothing is claimed.\n"
		 "\n",
	.notes = "  -c, --addrs, ...  the options of tuplebind run; see tuplebind run --help\n"
		 "\n"
		 "  free     tuples to be had      claimed  ports taken in the table\n"
		 "  others   ports that other programs have, or listen on\n"
		 "\n"
		 "Exit status: 0 it would be served, 1 it would not (left to the kernel, or\n"
		 "refused), 125 tuplebind failed.\n",
	.column = 20,
	.words = 1,
	.groups = {{rows, 0}, SETTINGS_UNLISTED(struct question)},
};

static const char *address_text(const struct addr *a)
{
	static struct text text;

	text_clear(&text);
	text_put_addr(&text, a);
	return text.bytes;
}

static const char *protocol_text(const struct explanation *e)
{
	return e->protocol == IPPROTO_UDP ? "udp" : "tcp";
}

static const char *way_text(const struct explanation *e)
{
	return e->chosen->late_free != 0 ? "late" : "explicit";
}

static bool is_served(const struct explanation *e)
{
	return e->verdict == VERDICT_SERVED || e->verdict == VERDICT_AFTER_REAP;
}

/* Item @number of a list without its empty items; the caller frees. */
static char *list_item(const char *list, char separator, unsigned number)
{
	size_t size = strlen(list) + 1;
	char *item = malloc(size);

	while (item != NULL && parse_next(&list, separator, item, size) != 0)
		if (item[0] != '\0' && number-- == 0)
			return item;
	free(item);
	return NULL;
}

/* The rule that decides: the variable's name, where it came from and its words. */
struct rule_text {
	const char *variable; /* NULL: the general rule */
	unsigned number;
	char *place, *words;
};

static struct rule_text rule_text(const struct question *q)
{
	const struct explanation *e = &q->e;
	struct rule_text r = {.variable = NULL};
	bool skip = e->rule < e->skips;

	if (e->rule + 1 >= e->rule_count)
		return r;
	r.variable = skip ? "TUPLEBIND_SKIP" : "TUPLEBIND_RULES";
	r.number = skip ? e->rule : e->rule - e->skips;
	r.words = list_item(skip ? q->config.skip : q->config.rules, skip ? ',' : ';', r.number);
	r.place = setting_place(
		&q->settings, setting_find(skip ? "skip" : "rules"), skip ? 0 : r.number);
	r.number++;
	return r;
}

static void free_rule_text(struct rule_text *r)
{
	free(r->place);
	free(r->words);
}

static void print_verdict(const struct question *q)
{
	const struct explanation *e = &q->e;

	printf("%s %s: ", protocol_text(e), q->text);
	switch (e->verdict) {
	case VERDICT_SERVED:
		printf("served from %s by %s bind\n", address_text(&e->chosen->addr), way_text(e));
		break;
	case VERDICT_AFTER_REAP:
		printf("all tuples are claimed, but not all have a socket: served after a reap\n");
		break;
	case VERDICT_KERNEL:
		command_line("left to the kernel: %s", e->why);
		break;
	case VERDICT_FAILS:
		printf("fails with %s: %s\n", strerrorname_np(e->error), e->why);
		break;
	}
}

static void print_rule(const struct question *q)
{
	struct rule_text r = rule_text(q);

	if (r.variable == NULL)
		command_line("rule    none: addrs %s, ports %s", q->config.addrs, q->config.ports);
	else
		command_line("rule    %u of %s (%s): %s", r.number, r.variable,
			r.place != NULL ? r.place : "?", r.words != NULL ? r.words : "?");
	free_rule_text(&r);
}

static void print_address(const struct explanation *e, const struct explained_address *a)
{
	if (a->error == -EADDRNOTAVAIL)
		printf("%8s %8s %8s  %s  is no address of this host\n", "-", "-", "-",
			address_text(&a->addr));
	else if (a->error != 0)
		printf("%8s %8s %8s  %s  no route from it: %s\n", "-", "-", "-",
			address_text(&a->addr), strerror(-a->error));
	else
		printf("%8u %8u %8u  %s%s\n", a->free, a->claimed, a->others,
			address_text(&a->addr), a == e->chosen ? "  <- this one" : "");
}

/* The balance in words: what the order of the addresses below means. */
static const char *order_text(const struct question *q)
{
	const struct explanation *e = &q->e;

	if (e->automatic)
		return "routing chooses";
	switch (q->config.balance) {
	case BALANCE_ROTATE:
		return e->table_found ? "rotate: a program that starts now begins with the first"
				      : "rotate: where it begins is drawn with the table";
	case BALANCE_RANDOM:
		return "random: the first is one of many draws";
	case BALANCE_HASH:
		return "hash: this destination begins with the first";
	default:
		return "pack: the first until it is full";
	}
}

static void print_addresses(const struct question *q)
{
	const struct explanation *e = &q->e;
	unsigned shown = e->told < SHOWN_MAX ? e->told : SHOWN_MAX;

	printf("pool    %" PRIu64 " address%s; %s\n", e->automatic ? 1 : e->pool_count,
		e->automatic || e->pool_count == 1 ? "" : "es", order_text(q));
	printf("ports   %u: %u by late bind, %u by explicit bind\n", e->ports, e->late_ports,
		e->ports - e->late_ports);
	printf("table   %s\n", e->table_found ? "there" : "none yet");
	if (e->told == 0)
		return;
	printf("%8s %8s %8s\n", "free", "claimed", "others");
	for (unsigned i = 0; i < shown; i++)
		print_address(e, &e->addresses[i]);
	if (e->chosen >= e->addresses + shown)
		print_address(e, e->chosen);
	if (e->looked_at > shown)
		printf("%27s %u more looked at; of all %u, %u cannot be used\n", "",
			e->looked_at - shown, e->looked_at, e->set_aside);
}

static void print_kernel(const struct explanation *e)
{
	unsigned left = e->kernel_ports - e->kernel_used;

	printf("kernel  alone: ");
	if (e->kernel_error != 0) {
		printf("no route (%s)\n", strerror(-e->kernel_error));
		return;
	}
	printf("from %s, %u of %u ports in use %s: %u before %s\n", address_text(&e->kernel_source),
		e->kernel_used, e->kernel_ports,
		e->protocol == IPPROTO_UDP ? "by connected UDP sockets"
					   : "towards this destination",
		left, e->protocol == IPPROTO_UDP ? "EAGAIN" : "EADDRNOTAVAIL");
}

static void print_text(const struct question *q)
{
	const struct explanation *e = &q->e;

	print_verdict(q);
	if (!q->config.disabled)
		print_rule(q);
	if (e->ports != 0 || e->told != 0)
		print_addresses(q);
	if (!q->config.disabled)
		print_kernel(e);
}

static void json_addresses(struct json *j, const struct explanation *e)
{
	json_open(j, "addresses", '[');
	for (unsigned i = 0; i < e->told; i++) {
		const struct explained_address *a = &e->addresses[i];

		json_open(j, NULL, '{');
		json_text(j, "address", address_text(&a->addr));
		json_text(j, "error", a->error != 0 ? strerrorname_np(-a->error) : NULL);
		if (a->error == 0) {
			json_number(j, "free", a->free);
			json_number(j, "late_free", a->late_free);
			json_number(j, "claimed", a->claimed);
			json_number(j, "sockless", a->sockless);
			json_number(j, "others", a->others);
		}
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void json_rule(struct json *j, const struct question *q)
{
	struct rule_text r = rule_text(q);

	json_open(j, "rule", '{');
	json_number(j, "number", r.number);
	json_text(j, "variable", r.variable);
	json_text(j, "from", r.place);
	json_text(j, "text", r.words);
	json_close(j, '}');
	free_rule_text(&r);
}

static void json_kernel(struct json *j, const struct explanation *e)
{
	bool routed = e->kernel_error == 0 && e->rule_count != 0;

	json_open(j, "kernel", '{');
	json_number(j, "ports", e->kernel_ports);
	json_number(j, "used", e->kernel_used);
	json_text(j, "address", routed ? address_text(&e->kernel_source) : NULL);
	json_text(j, "error", e->kernel_error != 0 ? strerrorname_np(-e->kernel_error) : NULL);
	json_close(j, '}');
}

static void print_json(const struct question *q)
{
	static const char *const verdicts[] = {"served", "after reap", "kernel", "fails"};
	const struct explanation *e = &q->e;
	struct json j = {stdout, false};

	json_open(&j, NULL, '{');
	json_text(&j, "version", TUPLEBIND_VERSION);
	json_text(&j, "destination", q->text);
	json_text(&j, "protocol", protocol_text(e));
	json_text(&j, "verdict", verdicts[e->verdict]);
	json_bool(&j, "served", is_served(e));
	json_text(&j, "why", e->why);
	json_text(&j, "error", e->error != 0 ? strerrorname_np(e->error) : NULL);
	json_text(&j, "address", e->chosen != NULL ? address_text(&e->chosen->addr) : NULL);
	json_text(&j, "way", e->chosen != NULL ? way_text(e) : NULL);
	json_rule(&j, q);
	json_number(&j, "ports", e->ports);
	json_number(&j, "late_ports", e->late_ports);
	json_bool(&j, "table", e->table_found);
	json_bool(&j, "automatic", e->automatic);
	json_number(&j, "pool", e->pool_count);
	json_number(&j, "looked_at", e->looked_at);
	json_number(&j, "unusable", e->set_aside);
	json_addresses(&j, e);
	json_kernel(&j, e);
	json_close(&j, '}');
	putchar('\n');
}

/* "[fe80::1%eth0]:80": takes the %eth0 out, which is no part of a DEST. False: no such interface.
 */
static bool take_scope(char *text, uint32_t *scope)
{
	char *percent = strchr(text, '%'), *end = strchr(text, ']');

	*scope = 0;
	if (percent == NULL || end == NULL || end < percent)
		return percent == NULL;
	*end = '\0';
	*scope = if_nametoindex(percent + 1);
	*end = ']';
	memmove(percent, end, strlen(end) + 1);
	return *scope != 0;
}

static int read_destination(struct question *q)
{
	struct explanation *e = &q->e;
	struct fault fault;
	struct dest d;
	char copy[128];
	uint32_t scope;

	if (snprintf(copy, sizeof copy, "%s", q->text) >= (int)sizeof copy ||
		!take_scope(copy, &scope) || dest_parse(copy, &d, &fault) < 0 || d.bits != 128 ||
		d.port == 0)
		return command_usage("explain",
			"\"%.100s\" is not a destination; accepted: ADDRESS:PORT, IPv6 as "
			"[ADDRESS]:PORT, link-local as [ADDRESS%%INTERFACE]:PORT",
			q->text);
	e->faddr = d.prefix;
	e->fport = d.port;
	e->faddr.scope = addr_reach(&d.prefix) == ADDR_LINK ? scope : 0;
	if (addr_reach(&d.prefix) == ADDR_LINK && scope == 0)
		return command_usage("explain",
			"\"%.100s\" is link-local: name its interface, [ADDRESS%%INTERFACE]:PORT",
			q->text);
	return 0;
}

int explain_main(int argc, char **argv)
{
	static struct question q;
	struct fault fault = {.text = ""};
	int error;

	settings_start(&q.settings, "explain");
	q.e.protocol = IPPROTO_TCP;
	if (!options_read(&options, &q, argc, argv, &error))
		return error;
	if (optind == argc)
		return command_usage("explain", "no destination");
	q.text = argv[optind];
	if ((error = read_destination(&q)) != 0 ||
		(error = settings_apply(&q.settings, &q.config)) != 0)
		return error;
	if (explanation_make(&q.e, &q.config, &fault) < 0)
		return command_fail("explain: %s", fault.text);
	if (q.json)
		print_json(&q);
	else
		print_text(&q);
	if ((error = command_flush("explain")) != 0)
		return error;
	return is_served(&q.e) ? EXIT_SUCCESS : EXIT_NOT_SERVED;
}
