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
	if (d->config.disabled)
		doctor_tell(d, LEVEL_MEND, "disable", "no program is served",
			"unset TUPLEBIND_DISABLE", "set");
	int error = d->config.log_file != NULL ? try_log_file(d->config.log_file) : 0;
	if (error < 0)
		doctor_tell(d, LEVEL_MEND, "log-file",
			"it cannot be appended to: programs run without tuplebind", NULL,
			"%.200s: %s", d->config.log_file,
			error == -ELOOP ? LOG_NO_LINKS : strerror(-error));
}

static void look_at_program(struct doctor *d)
{
	char path[PATH_MAX], why[512];
	static struct program p;

	if (!program_find(d->program, path)) {
		doctor_tell(d, LEVEL_MEND, "program",
			"there is no such program, or this user may not run it", NULL,
			"%s: cannot be run", d->program);
		return;
	}
	program_examine(&p, path);
	if (p.service == PROGRAM_SERVED) {
		doctor_tell(d, LEVEL_OK, "program", NULL, NULL, "%s", path);
		return;
	}
	snprintf(why, sizeof why, "%s; %s",
		p.service == PROGRAM_IN_PART ? "some of its connects may pass unseen"
					     : "it cannot be taken over",
		p.remedy);
	doctor_tell(d, p.service == PROGRAM_IN_PART ? LEVEL_NOTE : LEVEL_MEND, "program", why, NULL,
		"%s %s", p.file, p.why);
}

/* One item of a list of preloads. */
static void look_at_preload(struct doctor *d, const char *where, const char *item, const char *own)
{
	char real[PATH_MAX];
	const char *name = strrchr(item, '/');
	bool tuplebind = strncmp(name != NULL ? name + 1 : item, "libtuplebind.so", 15) == 0;
	bool same = realpath(item, real) != NULL && strcmp(real, own) == 0;

	if (same)
		return;
	doctor_tell(d, tuplebind ? LEVEL_MEND : LEVEL_NOTE, "preload",
		tuplebind ? "another libtuplebind.so: each connect would go through both; take it "
			    "out"
			  : "its calls come behind tuplebind's; it must make them by the next "
			    "definition (dlsym), or its own connects pass unseen",
		NULL, "%s: %s", where, item);
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

	bool found = preload_find("doctor", own) == 0;
	doctor_tell(d, found ? LEVEL_OK : LEVEL_MEND, "library",
		"tuplebind run cannot start a program without it; build or install it", NULL, "%s",
		found ? own : "not found");
	char *copy = items != NULL ? strdup(items) : NULL;
	if (copy != NULL)
		look_at_list(d, "LD_PRELOAD", copy, own);
	free(copy);
	look_at_preload_file(d, own);
	if (d->program != NULL)
		look_at_program(d);
}
