#include "tools/config/configfile.h"

#include <bsd/string.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define SECTIONS_FORM "accepted: [tuplebind] and [rule NAME]"
#define RULE_FORM     "accepted: dest = DESTINATIONS and either addrs = ADDRESSES or skip = yes"

/* The keys of a rule, and the setting whose grammar each has. */
enum rule_key { RULE_DEST, RULE_ADDRS, RULE_PORTS, RULE_SKIP, RULE_KEYS };

static const struct {
	const char *name, *like;
} rule_keys[RULE_KEYS] = {
	{"dest", "skip"}, {"addrs", "addrs"}, {"ports", "ports"}, {"skip", "disable"}};

/* A value as it is gathered from one or more lines; texts are owned. */
struct value {
	char *text;
	unsigned line; /* 0: there is none */
	/* Where in the text each line ends, and which one it is. */
	struct part {
		size_t end;
		unsigned line;
	} * parts;
	unsigned part_count;
};

struct known_section {
	char *title;
	unsigned line;
	UT_hash_handle hh;
};

struct reading {
	struct configfile *file;
	struct inifile_fault *fault;
	struct known_section *known, *section; /* NULL: before the first one */
	bool is_rule;			       /* the section, else it is [tuplebind] */
	struct value general[SETTINGS], rule[RULE_KEYS];

	/* The value that may go on: its key, and the setting whose grammar it has. */
	struct value *value;
	const char *key;
	unsigned setting;

	char *rules;
	size_t rules_length;
	FILE *rules_stream;
};

static int out_of_memory(struct reading *r)
{
	inifile_refuse(r->fault, 0, "%s", strerror(ENOMEM));
	return -ENOMEM;
}

static void value_clear(struct value *v)
{
	free(v->text);
	free(v->parts);
	*v = (struct value){0};
}

/* Items of a list that are on different lines may have a comma between them, or not. */
static int value_add(struct reading *r, const char *text, bool is_list, unsigned line)
{
	struct value *v = r->value;
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): begin_value() has set it */
	size_t length = strlen(text), before = v->text != NULL ? strlen(v->text) : 0;

	char *longer = realloc(v->text, before + length + 2);
	struct part *more = reallocarray(v->parts, v->part_count + 1, sizeof *more);
	if (longer != NULL)
		v->text = longer;
	if (more != NULL)
		v->parts = more;
	if (longer == NULL || more == NULL)
		return out_of_memory(r);
	if (before > 0 && length > 0 && is_list && longer[before - 1] != ',' && text[0] != ',')
		longer[before++] = ',';
	memcpy(longer + before, text, length);
	longer[before + length] = '\0';
	more[v->part_count++] = (struct part){before + length, line};
	return 0;
}

/* Whether the first @count lines of the value are good by themselves. */
static bool first_lines_good(const struct reading *r, unsigned count, struct fault *f)
{
	struct value *v = r->value;
	char *end = v->text + v->parts[count - 1].end, kept = *end;

	*end = '\0';
	bool good = v->text[0] == '\0' || setting_check(r->setting, v->text, f) == 0;
	*end = kept;
	return good;
}

/* A value is at fault: finds the line, the first that makes it so, and what is wrong up to there.
 */
static unsigned find_line(const struct reading *r, struct fault *f)
{
	unsigned good = 0, bad = r->value->part_count;

	while (bad - good > 1) {
		unsigned middle = good + (bad - good) / 2;

		if (first_lines_good(r, middle, f))
			good = middle;
		else
			bad = middle;
	}
	first_lines_good(r, bad, f);
	return r->value->parts[bad - 1].line;
}

/* yes and no to the 1 and 0 of the library. */
static int finish_switch(struct reading *r)
{
	static const char *const words[] = {"0", "1", "no", "yes", "false", "true", NULL};
	struct value *v = r->value;
	int word = parse_word(v->text, words);

	if (word < 0)
		return inifile_refuse(r->fault, v->line,
			"%s: \"%.60s\" is not a switch; accepted: yes, no, true, false, 1, 0",
			r->key, v->text);
	memcpy(v->text, words[word % 2], 2); /* no longer than what it replaces */
	return 0;
}

/* All lines of a value are there: checks it. */
static int finish_value(struct reading *r)
{
	struct value *v = r->value;
	struct fault f;

	if (v == NULL)
		return 0;
	if (v->text[0] == '\0')
		return inifile_refuse(r->fault, v->line,
			"%s has no value; accepted: a value, or no such line", r->key);
	if (strlen(v->text) > SETTING_VALUE_MAX)
		return inifile_refuse(r->fault, v->line,
			"%s has %zu bytes; accepted: up to %d, what a variable can have", r->key,
			strlen(v->text), SETTING_VALUE_MAX);
	if (setting_kinds[r->setting].form == SETTING_SWITCH) {
		int error = finish_switch(r);
		if (error < 0)
			return error;
	} else if (setting_check(r->setting, v->text, &f) < 0) {
		unsigned line = find_line(r, &f);
		return inifile_refuse(r->fault, line, "%s: %.360s", r->key, f.text);
	}
	r->value = NULL;
	return 0;
}

static const char *rule_name(const struct reading *r)
{
	return r->section->title + strlen("rule ");
}

/* Characters of an address list that mean something else within TUPLEBIND_RULES. */
static int check_addrs(struct reading *r)
{
	const struct value *addrs = &r->rule[RULE_ADDRS];

	if (strpbrk(addrs->text, ";@[]") == NULL && strcmp(addrs->text, "skip") != 0)
		return 0;
	return inifile_refuse(r->fault, addrs->line,
		"addrs: \"%.60s\" cannot be told in a rule; accepted: addresses instead of an "
		"interface of that name",
		addrs->text);
}

/* One destination of the rule, as TUPLEBIND_RULES has it. */
static int add_rule(struct reading *r, const char *dest)
{
	const char *addrs = r->rule[RULE_ADDRS].text, *ports = r->rule[RULE_PORTS].text;
	struct configfile *file = r->file;
	struct fault f;
	char *text;

	if (asprintf(&text, "%s=%s%s%s", dest, addrs ? addrs : "skip", ports ? "@" : "",
		    ports ? ports : "") < 0)
		return out_of_memory(r);
	unsigned *more = reallocarray(file->rule_lines, file->rule_count + 1, sizeof *more);
	int error = more == NULL ? out_of_memory(r)
				 : setting_check((unsigned)setting_find("rules"), text, &f);
	if (more != NULL) {
		file->rule_lines = more;
		if (error < 0)
			inifile_refuse(r->fault, r->section->line, "rule %.40s: %.340s",
				rule_name(r), f.text);
	}
	if (error == 0) {
		fprintf(r->rules_stream, "%s%s", file->rule_count > 0 ? ";" : "", text);
		file->rule_lines[file->rule_count++] = r->section->line;
		error = fflush(r->rules_stream) != 0 ? out_of_memory(r) : 0;
	}
	free(text);
	if (error == 0 && r->rules_length > SETTING_VALUE_MAX)
		error = inifile_refuse(r->fault, r->section->line,
			"the rules up to this one have %zu bytes; accepted: up to %d, what a "
			"variable can have",
			r->rules_length, SETTING_VALUE_MAX);
	return error;
}

static int finish_rule(struct reading *r)
{
	struct value *rule = r->rule;
	bool skip = rule[RULE_SKIP].line != 0 && strcmp(rule[RULE_SKIP].text, "1") == 0;
	bool has_addrs = rule[RULE_ADDRS].line != 0, has_ports = rule[RULE_PORTS].line != 0;
	const char *wrong = rule[RULE_DEST].line == 0 ? "has no dest"
			    : skip && has_addrs	      ? "has both addrs and skip"
			    : skip && has_ports	      ? "has both ports and skip"
			    : !skip && !has_addrs     ? "has neither addrs nor skip"
						      : NULL;
	const char *rest = rule[RULE_DEST].text;
	char dest[128];
	int error = 0;

	if (wrong != NULL)
		return inifile_refuse(r->fault, r->section->line, "rule %.60s %s; " RULE_FORM,
			rule_name(r), wrong);
	if (has_addrs)
		error = check_addrs(r);
	while (error == 0 && parse_next(&rest, ',', dest, sizeof dest) > 0)
		error = add_rule(r, dest);
	for (unsigned i = 0; i < RULE_KEYS; i++)
		value_clear(&rule[i]);
	return error;
}

static int finish_section(struct reading *r)
{
	int error = finish_value(r);

	if (error == 0 && r->section != NULL && r->is_rule)
		error = finish_rule(r);
	return error;
}

/* Remembers the section, and refuses a second one of the same title. */
static int enter_section(struct reading *r, const char *title, unsigned line)
{
	struct known_section *section;

	HASH_FIND_STR(r->known, title, section);
	if (section != NULL)
		return inifile_refuse(r->fault, line,
			"[%.60s] is there a second time, after line %u; accepted: one of a name",
			title, section->line);
	section = calloc(1, sizeof *section);
	if (section == NULL)
		return out_of_memory(r);
	section->title = strdup(title);
	section->line = line;
	r->section = section;
	if (section->title == NULL) {
		free(section);
		return out_of_memory(r);
	}
	HASH_ADD_KEYPTR(hh, r->known, section->title, strlen(section->title), section);
	return 0;
}

static int begin_section(struct reading *r, const struct inifile_item *item)
{
	int error = finish_section(r);
	bool is_rule = strncmp(item->section, "rule ", 5) == 0 && item->section[5] != '\0';

	if (error < 0)
		return error;
	if (!is_rule && strcmp(item->section, "tuplebind") != 0)
		return inifile_refuse(r->fault, item->line,
			"[%.60s] is not a known section; " SECTIONS_FORM, item->section);
	r->is_rule = is_rule;
	return enter_section(r, item->section, item->line);
}

static int unknown_key(struct reading *r, const struct inifile_item *item)
{
	char accepted[256] = "";

	if (r->is_rule)
		return inifile_refuse(r->fault, item->line,
			"\"%.60s\" is not a key of a rule; accepted: dest, addrs, ports, skip",
			item->key);
	if (strcmp(item->key, "rules") == 0)
		return inifile_refuse(r->fault, item->line,
			"rules is not a key; accepted: a section [rule NAME] for each rule");
	for (unsigned i = 0; i < SETTINGS; i++) {
		if (setting_kinds[i].form == SETTING_RULES)
			continue;
		strlcat(accepted, accepted[0] ? ", " : "", sizeof accepted);
		strlcat(accepted, setting_rows[i].name, sizeof accepted);
	}
	return inifile_refuse(
		r->fault, item->line, "\"%.60s\" is not a key; accepted: %s", item->key, accepted);
}

/* The place for the value of a key, and its grammar. NULL: there is none such. */
static struct value *find_key(struct reading *r, const char *key)
{
	int setting = setting_find(key);

	if (!r->is_rule) {
		if (setting < 0 || setting_kinds[setting].form == SETTING_RULES)
			return NULL;
		r->key = setting_rows[setting].name;
		r->setting = (unsigned)setting;
		return &r->general[setting];
	}
	for (unsigned i = 0; i < RULE_KEYS; i++) {
		if (strcmp(key, rule_keys[i].name) != 0)
			continue;
		r->key = rule_keys[i].name;
		r->setting = (unsigned)setting_find(rule_keys[i].like);
		return &r->rule[i];
	}
	return NULL;
}

static int begin_value(struct reading *r, const struct inifile_item *item)
{
	int error = finish_value(r);

	if (error < 0)
		return error;
	if (r->section == NULL)
		return inifile_refuse(r->fault, item->line,
			"\"%.60s\" stands before the first section; " SECTIONS_FORM, item->key);
	struct value *value = find_key(r, item->key);
	if (value == NULL)
		return unknown_key(r, item);
	if (value->line != 0)
		return inifile_refuse(r->fault, item->line,
			"%s is there a second time, after line %u; accepted: one, its value on "
			"several lines if need be, indented from the second on",
			r->key, value->line);
	value->line = item->line;
	r->value = value;
	return 0;
}

static int take_item(void *context, const struct inifile_item *item, struct inifile_fault *fault)
{
	struct reading *r = context;
	int error;

	if (item->key == NULL)
		return begin_section(r, item);
	if (!item->goes_on && (error = begin_value(r, item)) < 0)
		return error;
	bool is_list = setting_kinds[r->setting].form == SETTING_LIST;
	if (item->goes_on && (!is_list || strchr(item->value, '=') != NULL))
		return inifile_refuse(fault, item->line,
			"\"%.60s\" is indented and so goes on with the value of %s; accepted: %s",
			item->value, r->key,
			is_list ? "more of its list there, a key at the start of a line"
				: "one line, as it is no list");
	return value_add(r, item->value, is_list, item->line);
}

/* Hands the texts over to the caller. */
static void hand_over(struct reading *r)
{
	for (unsigned i = 0; i < SETTINGS; i++) {
		if (r->general[i].line == 0)
			continue;
		r->file->of[i] =
			(struct setting){r->general[i].text, SETTING_FILE, r->general[i].line};
		r->general[i].text = NULL;
	}
	if (r->file->rule_count > 0) {
		r->file->of[setting_find("rules")] =
			(struct setting){r->rules, SETTING_FILE, r->file->rule_lines[0]};
		r->rules = NULL;
	}
}

static void reading_free(struct reading *r)
{
	struct known_section *section, *next;

	HASH_ITER(hh, r->known, section, next)
	{
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): each is freed once */
		HASH_DEL(r->known, section);
		free(section->title);
		free(section);
	}
	for (unsigned i = 0; i < SETTINGS; i++)
		value_clear(&r->general[i]);
	for (unsigned i = 0; i < RULE_KEYS; i++)
		value_clear(&r->rule[i]);
	free(r->rules);
}

int configfile_read(const char *path, struct configfile *file, struct inifile_fault *fault)
{
	struct reading r = {.file = file, .fault = fault};

	r.rules_stream = open_memstream(&r.rules, &r.rules_length);
	if (r.rules_stream == NULL)
		return out_of_memory(&r);
	int error = inifile_read(path, take_item, &r, fault);
	if (error == 0)
		error = finish_section(&r);
	fclose(r.rules_stream);
	if (error == 0) {
		hand_over(&r);
	} else {
		free(file->rule_lines);
		file->rule_lines = NULL;
	}
	reading_free(&r);
	return error;
}
