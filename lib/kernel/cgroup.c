#include "kernel/cgroup.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define GROUPS_MOST 32 /* deeper ones than systemd, containers and pods make */

/* The two versions have the same figures under other names. */
struct version {
	const char *mounted; /* below CGROUP_MOUNTED */
	const char *limit, *used, *cache[2];
};

static const struct version first = {"/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
	{"\ntotal_inactive_file ", "\ntotal_active_file "}};
static const struct version second = {
	"", "memory.max", "memory.current", {"\ninactive_file ", "\nactive_file "}};

/* A longer path is not looked at, nor more of a file: the library takes little stack anywhere. */
#define PATH_MOST 1024
#define TEXT_MOST 2048

/* A file of a folder, behind one newline. False: it cannot be read. */
static bool read_file(const char *folder, const char *file, char *text, size_t size)
{
	char path[PATH_MOST];
	size_t length = 1;

	if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path)
		return false;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	text[0] = '\n';
	while (length < size - 1) {
		long got = syscall(SYS_read, fd, text + length, size - 1 - length);

		if (got <= 0)
			break;
		length += (size_t)got;
	}
	syscall(SYS_close, fd);
	text[length] = '\0';
	return length > 1;
}

/* UINT64_MAX for what is no number, such as "max". */
static uint64_t read_number(const char *p)
{
	uint64_t value = 0;

	if (*p < '0' || *p > '9')
		return UINT64_MAX;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
			return UINT64_MAX;
	return value;
}

static uint64_t read_figure(const char *group, const char *file)
{
	char text[64];

	if (!read_file(group, file, text, sizeof text))
		return UINT64_MAX;
	return read_number(text + 1);
}

static uint64_t add(uint64_t a, uint64_t b)
{
	return __builtin_add_overflow(a, b, &a) ? UINT64_MAX : a;
}

/* Pages of files, which the kernel drops when the group needs memory. */
static uint64_t read_cache(const char *group, const struct version *v)
{
	char text[TEXT_MOST];
	uint64_t cache = 0;

	if (!read_file(group, "memory.stat", text, sizeof text))
		return 0;
	for (int i = 0; i < 2; i++) {
		const char *line = strstr(text, v->cache[i]);

		if (line != NULL)
			cache = add(cache, read_number(line + strlen(v->cache[i])));
	}
	return cache;
}

/* What of a table the kernel could swap out. Version 1 counts it together with memory: none. */
static uint64_t read_swap(const char *group, const struct version *v)
{
	struct sysinfo info;
	uint64_t most, used;

	if (v == &first || sysinfo(&info) < 0 || info.freeswap == 0)
		return 0;
	most = read_figure(group, "memory.swap.max");
	used = read_figure(group, "memory.swap.current");
	uint64_t unused = (uint64_t)info.freeswap * info.mem_unit;
	if (most == UINT64_MAX || used == UINT64_MAX)
		return unused;
	most = most > used ? most - used : 0;
	return most < unused ? most : unused;
}

static uint64_t left_in(const char *group, const struct version *v)
{
	uint64_t limit = read_figure(group, v->limit), used;

	if (limit == UINT64_MAX)
		return UINT64_MAX;
	used = read_figure(group, v->used);
	if (used == UINT64_MAX)
		return UINT64_MAX;
	uint64_t most = add(add(limit, read_cache(group, v)), read_swap(group, v));
	return most > used ? most - used : 0;
}

/* The least of a group's and those above it. @group is cut. */
static uint64_t left_upwards(char *group, size_t mounted, const struct version *v)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < GROUPS_MOST; i++) {
		uint64_t left = left_in(group, v);
		char *end = strrchr(group + mounted, '/');

		if (left < least)
			least = left;
		if (end == NULL)
			break;
		*end = '\0';
	}
	return least;
}

/* The group that a line of /proc/self/cgroup names: "0::PATH", or "N:LIST:PATH" with memory. */
static bool find_group(const char *lines, const char *mark, const char **path, size_t *length)
{
	const char *line = lines;

	while ((line = strchr(line, '\n')) != NULL) {
		const char *list = strchr(++line, ':');
		const char *end = list != NULL ? strchr(list + 1, ':') : NULL;

		if (end == NULL)
			return false;
		for (const char *word = list + 1; word <= end; word += strcspn(word, ",:") + 1) {
			if (strcspn(word, ",:") != strlen(mark) ||
				strncmp(word, mark, strlen(mark)) != 0)
				continue;
			*path = end + 1;
			*length = strcspn(*path, "\n");
			return true;
		}
	}
	return false;
}

static uint64_t left_by(
	const char *lines, const char *mounted, const char *mark, const struct version *v)
{
	char group[PATH_MOST];
	const char *path;
	size_t length;

	if (!find_group(lines, mark, &path, &length))
		return UINT64_MAX;
	int root = snprintf(group, sizeof group, "%s%s", mounted, v->mounted);
	/* In a container the path may be the host's: then what is mounted is the container's. */
	if (length <= 1 || root + (int)length >= (int)sizeof group)
		return left_in(group, v);
	memcpy(group + root, path, length);
	group[root + (int)length] = '\0';
	return left_upwards(group, (size_t)root, v);
}

uint64_t cgroup_memory_left(const char *self, const char *mounted)
{
	char lines[TEXT_MOST];

	if (!read_file("", self + (self[0] == '/'), lines, sizeof lines))
		return UINT64_MAX;
	uint64_t by_first = left_by(lines, mounted, "memory", &first);
	uint64_t by_second = left_by(lines, mounted, "", &second);
	return by_first < by_second ? by_first : by_second;
}
