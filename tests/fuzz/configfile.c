/*
 * The configuration file, as tuplebind run -c reads it. The input is the file.
 *
 * What is accepted must be accepted by the library as well, rule by rule; what is not must be told
 * with a line that the file has.
 */
#include "fuzz.h"

#include "choose/plan.h"
#include "tools/config/configfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

unsigned __wrap_if_nametoindex(const char *name);

unsigned __wrap_if_nametoindex(const char *name)
{
	return 0;
}

static void check_accepted(const struct configfile *s)
{
	struct config config;
	struct fault f = {.text = ""};
	struct plan plan;

	config_start(&config);
	for (unsigned i = 0; i < SETTINGS; i++) {
		fuzz_check((s->of[i].value != NULL) == (s->of[i].origin == SETTING_FILE));
		if (s->of[i].value == NULL)
			continue;
		fuzz_check(s->of[i].line > 0 && s->of[i].value[0] != '\0' &&
			   strlen(s->of[i].value) <= SETTING_VALUE_MAX);
		fuzz_check(config_set(&config, i, s->of[i].value, &f) == 0, "%s", f.text);
	}
	fuzz_check(plan_make(&plan, &config, &f) == 0, "%s", f.text);
	unsigned skipped = 0;
	for (unsigned i = 0; config.skip != NULL && config.skip[i] != '\0'; i++)
		skipped += i == 0 || config.skip[i] == ',';
	/* Those to be skipped, those of the file, and the general one. */
	fuzz_check(plan.rule_count - 1 >= s->rule_count &&
			   plan.rule_count - 1 <= s->rule_count + skipped,
		"%u, of the file %u", plan.rule_count, s->rule_count);
	plan_free(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	static char path[32];
	struct configfile s = {.rule_count = 0};
	struct inifile_fault fault = {.line = 0};
	unsigned lines = 1;

	if (fd < 0) {
		fd = fuzz_file();
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	}
	fuzz_file_set(fd, data, size);
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	int error = configfile_read(path, &s, &fault);
	fuzz_check(error <= 0);
	if (error == 0) {
		check_accepted(&s);
	} else {
		fuzz_check(fault.line <= lines && fault.what.text[0] != '\0');
		fuzz_check(strchr(fault.what.text, '\n') == NULL);
	}
	for (unsigned i = 0; i < SETTINGS; i++)
		free((char *)s.of[i].value);
	free(s.rule_lines);
	return 0;
}
