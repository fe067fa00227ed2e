/*
 * tuplebind metrics: the tables for Prometheus, as text, as a file for node_exporter's textfile
 * collector, or as the answer to one HTTP request.
 */
#include "tools/common/command.h"
#include "tools/status/http.h"
#include "tools/status/openmetrics.h"
#include "tools/subcommands.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
	"usage: tuplebind metrics [--output FILE | --http] [OPTION...]\n"
	"\n"
	"Prints this user's tuple tables as OpenMetrics text, for Prometheus\n"
	"(docs/metrics.md).\n"
	"\n"
	"  --output FILE     write FILE, and replace it in one step: for node_exporter's\n"
	"                    textfile collector, which wants it to end in .prom\n"
	"  --http            answer one HTTP request on stdin and stdout, for a socket\n"
	"                    unit of systemd with Accept=yes\n"
	"  --all-users       those of other users as well, for root\n"
	"  --lanes N         of each table so many lanes, the fullest (default 20)\n"
	"  --addresses N     so many local addresses (default 50)\n"
	"  --destinations N  so many destinations (default 20)\n"
	"  --ports LIST      the ports a lane can have, as TUPLEBIND_PORTS has them.\n"
	"                    Default: what the attached processes were started with, else\n"
	"                    what the kernel offers\n";

#define LIMIT_MAX 100000

struct request {
	struct openmetrics_limits limits;
	const char *output, *ports;
	bool http, helped, all_users;
};

/* Makes the whole text. 0, or EXIT_TUPLEBIND with the reason told; the caller frees. */
static int make_text(const struct request *r, char **text, size_t *length)
{
	struct capacity_base base;
	struct snapshots all;
	struct fault fault;

	*text = NULL;
	if (capacity_base_read(&base, r->ports, &fault) < 0)
		return command_usage("metrics", "--ports: %s", fault.text);
	if (snapshots_take(&all, &base, r->all_users, &fault) < 0) {
		snapshots_free(&all);
		return command_fail("metrics: %s", fault.text);
	}
	for (size_t i = 0; i < all.fault_count; i++)
		command_fail("metrics: %s", all.faults[i].text);
	FILE *to = open_memstream(text, length);
	if (to != NULL)
		openmetrics_write(to, &all, &r->limits);
	snapshots_free(&all);
	if (to == NULL || fclose(to) != 0)
		return command_fail("metrics: %s", strerror(errno));
	return 0;
}

static int write_all(int fd, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t put = write(fd, text, length);

		if (put < 0 && errno != EINTR)
			return -errno;
		text += put > 0 ? put : 0;
		length -= put > 0 ? (size_t)put : 0;
	}
	return 0;
}

/* Puts the text into a new file, on the disk, with the rights of any new file. */
static int fill(int fd, const char *text, size_t length)
{
	mode_t mask = umask(0);

	umask(mask);
	int error = write_all(fd, text, length);
	if (error == 0 && (fchmod(fd, 0666 & ~mask) < 0 || fsync(fd) < 0))
		error = -errno;
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

static int read_limit(const char *option, const char *value, uint64_t *limit)
{
	if (parse_number(value, 0, LIMIT_MAX, limit) == 0)
		return 0;
	return command_usage(
		"metrics", "--%s: \"%s\" is not a number (0-%d)", option, value, LIMIT_MAX);
}

static int read_options(int argc, char **argv, struct request *r)
{
	static const struct option options[] = {
		{"addresses", required_argument, NULL, 'a'},
		{"all-users", no_argument, NULL, 'u'},
		{"destinations", required_argument, NULL, 'd'},
		{"http", no_argument, NULL, 'w'},
		{"lanes", required_argument, NULL, 'l'},
		{"output", required_argument, NULL, 'o'},
		{"ports", required_argument, NULL, 'p'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option, code = 0;

	opterr = 0;
	while (code == 0 && (option = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (option) {
		case 'a':
			code = read_limit("addresses", optarg, &r->limits.addresses);
			break;
		case 'd':
			code = read_limit("destinations", optarg, &r->limits.destinations);
			break;
		case 'l':
			code = read_limit("lanes", optarg, &r->limits.lanes);
			break;
		case 'o':
			r->output = optarg;
			break;
		case 'p':
			r->ports = optarg;
			break;
		case 'u':
			r->all_users = true;
			break;
		case 'w':
			r->http = true;
			break;
		case 'h':
			r->helped = true;
			return command_help(help);
		case ':':
			return command_usage("metrics", "%s wants a value", argv[optind - 1]);
		default:
			return command_usage("metrics", "%s is not an option", argv[optind - 1]);
		}
	}
	if (code != 0)
		return code;
	if (optind < argc)
		return command_usage("metrics", "\"%s\" is too much", argv[optind]);
	if (r->http && r->output != NULL)
		return command_usage("metrics", "--output and --http do not go together");
	return 0;
}

int metrics_main(int argc, char **argv)
{
	struct request request = {.limits = {.lanes = 20, .addresses = 50, .destinations = 20}};
	char *text = NULL;
	size_t length = 0;

	int code = read_options(argc, argv, &request);
	if (code != 0 || request.helped)
		return code;
	if (request.http)
		return answer(&request);
	code = make_text(&request, &text, &length);
	if (code == 0 && request.output != NULL)
		code = replace(request.output, text, length);
	else if (code == 0 && write_all(STDOUT_FILENO, text, length) < 0)
		code = command_fail("metrics: %s", strerror(errno));
	free(text);
	return code;
}
