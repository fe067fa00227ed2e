/*
 * The memory that control groups leave, read from files as the kernel has them.
 */
#include "kernel/cgroup.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

static char root[] = "/tmp/cgroup-XXXXXX", self[64];

static void setup(void)
{
	cr_assert_not_null(mkdtemp(root));
	snprintf(self, sizeof self, "%s/self", root);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	return remove(path);
}

static void teardown(void)
{
	nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(cgroup, .init = setup, .fini = teardown);

/* Writes a file below the root, and makes the folders that it takes. */
static void put(const char *file, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/%s", root, file);
	for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		cr_assert(mkdir(path, 0700) == 0 || errno == EEXIST);
		*p = '/';
	}
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* No group may have swap, unless a test says so. */
static void put_group(const char *group, const char *limit, const char *used)
{
	char file[PATH_MAX];
	const char *const files[][2] = {{"memory.max", limit}, {"memory.current", used},
		{"memory.swap.max", "0\n"}, {"memory.swap.current", "0\n"}};

	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		snprintf(file, sizeof file, "%s/%s", group, files[i][0]);
		put(file, files[i][1]);
	}
}

static uint64_t left(void)
{
	return cgroup_memory_left(self, root);
}

Test(cgroup, nothing_to_be_read)
{
	cr_expect_eq(left(), UINT64_MAX);
	put("self", "");
	cr_expect_eq(left(), UINT64_MAX);
	put("self", "0::/a/b\n");
	cr_expect_eq(left(), UINT64_MAX);
	put("self", "garbage\n::\n0::\n");
	cr_expect_eq(left(), UINT64_MAX);
}

Test(cgroup, the_least_of_all_levels)
{
	put("self", "0::/a/b\n");
	put_group("a/b", "max\n", "1000\n");
	cr_expect_eq(left(), UINT64_MAX);
	put_group("a", "7000\n", "3000\n");
	cr_expect_eq(left(), 4000);
	put_group("a/b", "2500\n", "1000\n");
	cr_expect_eq(left(), 1500);
	put_group("a/b", "2500\n", "9000\n");
	cr_expect_eq(left(), 0);
}

/* In a container the mounted root is its own group. */
Test(cgroup, the_root_of_a_namespace)
{
	put("self", "0::/\n");
	put_group(".", "7000\n", "3000\n");
	cr_expect_eq(left(), 4000);
	put("self", "0::/../elsewhere\n");
	cr_expect_eq(left(), 4000);
}

Test(cgroup, what_the_kernel_can_take_back)
{
	put("self", "0::/a\n");
	put_group("a", "7000\n", "6900\n");
	put("a/memory.stat", "anon 100\nfile 9000\nworkingset_active_file 7\ninactive_file 2000\n"
			     "active_file 500\nshmem 6000\n");
	cr_expect_eq(left(), 2600);
}

/* A machine's swap is what the test says. */
static uint64_t free_swap;

int __wrap_sysinfo(struct sysinfo *info);
int __wrap_sysinfo(struct sysinfo *info)
{
	*info = (struct sysinfo){.freeswap = free_swap / 4, .mem_unit = 4};
	return 0;
}

Test(cgroup, what_the_kernel_can_swap_out)
{
	put("self", "0::/a\n");
	put_group("a", "7000\n", "6000\n");
	free_swap = 8000;
	cr_expect_eq(left(), 1000, "the group may have none");
	put("a/memory.swap.max", "3000\n");
	put("a/memory.swap.current", "500\n");
	cr_expect_eq(left(), 3500);
	free_swap = 400;
	cr_expect_eq(left(), 1400);
	put("a/memory.swap.max", "100\n");
	cr_expect_eq(left(), 1000, "it has more than it may have now");
	put("a/memory.swap.max", "max\n");
	cr_expect_eq(left(), 1400);
}

Test(cgroup, the_first_version)
{
	put("self", "11:cpu,cpuacct:/a\n4:hugetlb,memory:/a\n1:name=systemd:/b\n");
	put("memory/a/memory.limit_in_bytes", "7000\n");
	put("memory/a/memory.usage_in_bytes", "6000\n");
	cr_expect_eq(left(), 1000);
	put("memory/a/memory.stat",
		"inactive_file 1\ntotal_inactive_file 20\ntotal_active_file 3\n");
	cr_expect_eq(left(), 1023);
	/* A path of the host's, of which only the container's own part is mounted. */
	put("self", "4:memory:/docker/x\n");
	put("memory/memory.limit_in_bytes", "500\n");
	put("memory/memory.usage_in_bytes", "100\n");
	cr_expect_eq(left(), 400);
	put("self", "4:memories:/a\n");
	cr_expect_eq(left(), UINT64_MAX);
}

Test(cgroup, numbers_that_are_none)
{
	put("self", "0::/a\n");
	put_group("a", "99999999999999999999999\n", "1\n");
	cr_expect_eq(left(), UINT64_MAX);
	put_group("a", "-5\n", "1\n");
	cr_expect_eq(left(), UINT64_MAX);
	put_group("a", "5\n", "x\n");
	cr_expect_eq(left(), UINT64_MAX);
}

Test(cgroup, a_path_that_does_not_fit)
{
	static char line[4000] = "0::/";

	memset(line + 4, 'x', sizeof line - 6);
	put("self", line);
	put_group(".", "7000\n", "3000\n");
	cr_expect_eq(left(), 4000);
}
