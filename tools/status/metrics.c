/*
 * tuplebind metrics: the tables for Prometheus, as text, as a file for node_exporter's textfile
 * collector, or as the answer to one HTTP request.
 */
#include "tools/common/command.h"
#include "tools/common/io.h"
#include "tools/common/options.h"
#include "tools/status/http.h"
#include "tools/status/openmetrics.h"
#include "tools/subcommands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIMIT_MAX 100000

struct request {
	struct openmetrics_limits limits;
	const char *output, *ports;
	bool http, all_users;
};

static const struct option_row rows[] = {
	OPTION_TEXT(struct request, output, "output", "FILE",
		"write FILE, and replace it in one step: for node_exporter's\n"
		"textfile collector, which wants it to end in .prom"),
	OPTION_SWITCH(struct request, http, "http",
		"answer one HTTP request on stdin and stdout, for a socket\n"
		"unit of systemd with Accept=yes"),
	OPTION_SWITCH(
		struct request, all_users, "all-users", "those of other users as well, for root"),
	{"lanes", "N", "of each table so many lanes, the fullest (default 20)", option_number,
		offsetof(struct request, limits.lanes), .max = LIMIT_MAX},
	{"addresses", "N", "so many local addresses (default 50)", option_number,
		offsetof(struct request, limits.addresses), .max = LIMIT_MAX},
	{"destinations", "N", "so many destinations (default 20)", option_number,
		offsetof(struct request, limits.destinations), .max = LIMIT_MAX},
	OPTION_TEXT(struct request, ports, "ports", "LIST",
		"the ports a lane can have, as TUPLEBIND_PORTS has them.\n"
		"Default: what the attached processes were started with, else\n"
		"what the kernel offers"),
	OPTION_END,
};

static const struct options options = {
	.subcommand = "metrics",
	.usage = "usage: tuplebind metrics [--output FILE | --http] [OPTION...]\n"
		 "\n"
		 "Prints this user's tuple tables as OpenMetrics text, for Prometheus\n"
		 "(docs/metrics.md).\n"
		 "\n",
	.column = 20,
	.groups = {{rows, 0}},
};

/* Makes the whole text. 0, or EXIT_TUPLEBIND with the reason told; the caller frees. */
static int make_text(const struct request *r, char **text, size_t *length)
{
	struct snapshots all;

	*text = NULL;
	int code = snapshots_take_told(&all, "metrics", r->ports, r->all_users);
	if (code != 0)
		return code;
	FILE *to = open_memstream(text, length);
	if (to != NULL)
		openmetrics_write(to, &all, &r->limits);
	snapshots_free(&all);
	if (to == NULL || fclose(to) != 0)
		return command_fail("metrics: %s", strerror(errno));
	return 0;
}

/* Puts the text into a new file, on the disk, with the rights of any new file. */
static int fill(int fd, const char *text, size_t length)
{
	mode_t mask = umask(0);

	umask(mask);
	bool written =
		io_write_all(fd, text, length) && fchmod(fd, 0666 & ~mask) == 0 && fsync(fd) == 0;
	int error = written ? 0 : -errno;
	if (close(fd) < 0 && error == 0)
		error = -errno;
	return error;
}

/* Whoever reads FILE sees the old text or the new one, never half of one. */
static int replace(const char *file, const char *text, size_t length)
{
	char *fresh;

	if (asprintf(&fresh, "%s.XXXXXX", file) < 0)
		return command_fail("metrics: %s", strerror(ENOMEM));
	int fd = mkstemp(fresh);
	if (fd < 0) {
		int code = command_fail("metrics: --output %s: %s; its folder must exist and be "
					"writable",
			file, strerror(errno));
		free(fresh);
		return code;
	}
	int error = fill(fd, text, length);
	if (error == 0 && rename(fresh, file) < 0)
		error = -errno;
	if (error < 0)
		unlink(fresh);
	free(fresh);
	return error == 0 ? 0 : command_fail("metrics: --output %s: %s", file, strerror(-error));
}

static int answer(const struct request *r)
{
	static const char unavailable[] = "500 Internal Server Error";
	struct http_request http;
	char *text = NULL;
	size_t length = 0;

	if (http_read(&http) < 0)
		return EXIT_SUCCESS; /* whoever it was has gone again: port scanners, health checks
				      */
	int code = http.refusal == NULL ? make_text(r, &text, &length) : 0;
	if (code != 0)
		http.refusal = unavailable;
	http_answer(&http, OPENMETRICS_TYPE, text, length);
	free(text);
	return code;
}

int metrics_main(int argc, char **argv)
{
	struct request request = {.limits = {.lanes = 20, .addresses = 50, .destinations = 20}};
	char *text = NULL;
	size_t length = 0;
	int code;

	if (!options_read(&options, &request, argc, argv, &code))
		return code;
	if (request.http && request.output != NULL)
		return command_usage("metrics", "--output and --http do not go together");
	if (request.http)
		return answer(&request);
	code = make_text(&request, &text, &length);
	if (code == 0 && request.output != NULL)
		code = replace(request.output, text, length);
	else if (code == 0 && !io_write_all(STDOUT_FILENO, text, length))
		code = command_fail("metrics: %s", strerror(errno));
	free(text);
	return code;
}
