/*
 * The settings, the program and what is preloaded beside the library, as doctor looks at them.
 */
#include "tools/common/program.h"
#include "tools/common/command.h"
#include "tools/common/preload.h"
#include "tools/doctor/parts.h"

#include <bsd/string.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PRELOAD_FILE "/etc/ld.so.preload"

/* Whether the log can be written to; a file that is not there yet is not made. 0 or -errno. */
static int try_log_file(const char *file)
{
	char copy[PATH_MAX];
	int fd = log_open_file(file, false);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (fd != -ENOENT || strlcpy(copy, file, sizeof copy) >= sizeof copy)
		return fd;
	return access(dirname(copy), W_OK | X_OK) < 0 ? -errno : 0;
}

void doctor_settings(struct doctor *d)
{
	char figure[DOCTOR_FIGURE];

	if (d->config.disabled)
		doctor_tell(d, LEVEL_MEND, "disable", "set", "no program is served",
			"unset TUPLEBIND_DISABLE");
	int error = d->config.log_file != NULL ? try_log_file(d->config.log_file) : 0;
	if (error < 0) {
		snprintf(figure, sizeof figure, "%.200s: %s", d->config.log_file,
			error == -ELOOP ? LOG_NO_LINKS : strerror(-error));
		doctor_tell(d, LEVEL_MEND, "log-file", figure,
			"it cannot be appended to: programs run without tuplebind", NULL);
	}
}

static void look_at_program(struct doctor *d)
{
	char path[PATH_MAX], figure[PATH_MAX + 64], why[DOCTOR_FIGURE];
	static struct program p;

	if (!program_find(d->program, path)) {
		snprintf(figure, sizeof figure, "%s: cannot be run", d->program);
		doctor_tell(d, LEVEL_MEND, "program", figure,
			"there is no such program, or this user may not run it", NULL);
		return;
	}
	program_examine(&p, path);
	if (p.service == PROGRAM_SERVED) {
		doctor_tell(d, LEVEL_OK, "program", path, NULL, NULL);
		return;
	}
	snprintf(figure, sizeof figure, "%s %s", p.file, p.why);
	snprintf(why, sizeof why, "%s; %s",
		p.service == PROGRAM_IN_PART ? "some of its connects may pass unseen"
					     : "it cannot be taken over",
		p.remedy);
	doctor_tell(d, p.service == PROGRAM_IN_PART ? LEVEL_NOTE : LEVEL_MEND, "program", figure,
		why, NULL);
}

/* One item of a list of preloads. */
static void look_at_preload(struct doctor *d, const char *where, const char *item, const char *own)
{
	char figure[PATH_MAX + 64], real[PATH_MAX];
	const char *name = strrchr(item, '/');
	bool tuplebind = strncmp(name != NULL ? name + 1 : item, "libtuplebind.so", 15) == 0;
	bool same = realpath(item, real) != NULL && strcmp(real, own) == 0;

	if (same)
		return;
	snprintf(figure, sizeof figure, "%s: %s", where, item);
	if (tuplebind)
		doctor_tell(d, LEVEL_MEND, "preload", figure,
			"another libtuplebind.so: each connect would go through both; take it out",
			NULL);
	else
		doctor_tell(d, LEVEL_NOTE, "preload", figure,
			"its calls come behind tuplebind's; it must make them by the next "
			"definition (dlsym), or its own connects pass unseen",
			NULL);
}

static void look_at_list(struct doctor *d, const char *where, char *list, const char *own)
{
	char *rest = list, *item;

	while ((item = strsep(&rest, " :\t\n")) != NULL)
		if (item[0] != '\0')
			look_at_preload(d, where, item, own);
}

static void look_at_preload_file(struct doctor *d, const char *own)
{
	FILE *file = fopen(PRELOAD_FILE, "re");
	char *line = NULL;
	size_t size = 0;

	while (file != NULL && getline(&line, &size, file) > 0) {
		line[strcspn(line, "#")] = '\0';
		look_at_list(d, PRELOAD_FILE, line, own);
	}
	free(line);
	if (file != NULL)
		fclose(file);
}

void doctor_program(struct doctor *d)
{
	char own[PATH_MAX] = "";
	const char *items = getenv("LD_PRELOAD");

	if (preload_find("doctor", own) != 0)
		doctor_tell(d, LEVEL_MEND, "library", "not found",
			"tuplebind run cannot start a program without it; build or install it",
			NULL);
	else
		doctor_tell(d, LEVEL_OK, "library", own, NULL, NULL);
	char *copy = items != NULL ? strdup(items) : NULL;
	if (copy != NULL)
		look_at_list(d, "LD_PRELOAD", copy, own);
	free(copy);
	look_at_preload_file(d, own);
	if (d->program != NULL)
		look_at_program(d);
}
