#include "tools/config/settings.h"

#include "tools/common/command.h"
#include "tools/config/configfile.h"

#include "choose/plan.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static int take_file(
	const struct options *o, const struct option_row *row, void *to, const char *value)
{
	const char **file = to;

	if (*file != NULL)
		return command_usage(
			o->subcommand, "two files, %s and %s; there can be one", *file, value);
	*file = value;
	return 0;
}

const struct option_row settings_rows[2] = {
	{"config", "FILE", "a file: weaker than options, stronger than the environment", take_file,
		.offset = offsetof(struct settings, file), .letter = 'c'},
	OPTION_END,
};

void settings_start(struct settings *s, const char *subcommand)
{
	char name[SETTING_NAME_MAX];

	*s = (struct settings){.subcommand = subcommand};
	for (unsigned i = 0; i < SETTINGS; i++) {
		setting_name(i, name);
		const char *value = getenv(name);
		if (value != NULL && value[0] != '\0')
			s->of[i] = (struct setting){value, SETTING_ENVIRONMENT, 0};
	}
}

char *setting_place(const struct settings *s, int setting, unsigned rule)
{
	static const char *const origins[] = {
		[SETTING_DEFAULT] = "default",
		[SETTING_ENVIRONMENT] = "environment",
		[SETTING_OPTION] = "option",
	};
	const struct setting *of = &s->of[setting];
	unsigned line = of->line;
	char *place;

	if (of->origin != SETTING_FILE)
		return strdup(origins[of->origin]);
	if (setting_kinds[setting].form == SETTING_RULES && rule < s->rule_count)
		line = s->rule_lines[rule];
	return asprintf(&place, "%s:%u", s->file, line) < 0 ? NULL : place;
}

/* Writes what is wrong as one text, which the caller frees. Returns -EINVAL. */
__attribute__((format(printf, 2, 3))) static int explain(char **why, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(why, format, arguments) < 0)
		*why = NULL;
	va_end(arguments);
	return -EINVAL;
}

/* What the file says is in force where no option says otherwise. */
static int read_file(struct settings *s, char **why)
{
	struct configfile file = {.rule_count = 0};
	struct inifile_fault fault;

	if (configfile_read(s->file, &file, &fault) < 0) {
		if (fault.line == 0)
			return explain(why, "%s: %s: %s", s->subcommand, s->file, fault.what.text);
		return explain(
			why, "%s: %s:%u: %s", s->subcommand, s->file, fault.line, fault.what.text);
	}
	for (unsigned i = 0; i < SETTINGS; i++) {
		if (s->of[i].origin == SETTING_OPTION)
			free((char *)file.of[i].value);
		else if (file.of[i].value != NULL)
			s->of[i] = file.of[i];
	}
	s->rule_lines = file.rule_lines;
	s->rule_count = file.rule_count;
	return 0;
}

/* Reads and checks the variables as the library will. */
static int check_variables(struct config *config, char **why)
{
	struct fault fault;
	struct plan plan;
	int error = config_read(config, &fault);

	if (error == 0 && !config->disabled) {
		error = plan_make(&plan, config, &fault);
		plan_free(&plan);
	}
	return error < 0 ? explain(why, "%s", fault.text) : 0;
}

int settings_take(struct settings *s, struct config *config, char **why)
{
	char name[SETTING_NAME_MAX];
	int error = s->file != NULL ? read_file(s, why) : 0;

	if (error != 0)
		return error;
	for (unsigned i = 0; i < SETTINGS; i++) {
		setting_name(i, name);
		if (s->of[i].origin > SETTING_ENVIRONMENT && setenv(name, s->of[i].value, 1) < 0)
			return explain(why, "%s: %s", s->subcommand, strerror(errno));
	}
	return check_variables(config, why);
}

int settings_apply(struct settings *s, struct config *config)
{
	char *why = NULL;

	if (settings_take(s, config, &why) == 0)
		return 0;
	command_fail("%s", why != NULL ? why : strerror(ENOMEM));
	free(why);
	return EXIT_TUPLEBIND;
}
