/*
 * How much memory the control groups of this process have left.
 *
 * Who takes more than its group allows is killed by the kernel, not refused; so it is asked before.
 */
#pragma once

#include <stdint.h>

#define CGROUP_OF_SELF "/proc/self/cgroup"
#define CGROUP_MOUNTED "/sys/fs/cgroup"

/*
 * The bytes that can still be taken before the first limit is met, of the group of this process and
 * those above it as far as they can be seen, version 2 or 1. What the kernel can take back (the
 * page cache, free swap) counts as left. UINT64_MAX: there is no limit, or it cannot be read.
 * @self and @mounted are CGROUP_OF_SELF and CGROUP_MOUNTED. Some three small files for each group.
 */
uint64_t cgroup_memory_left(const char *self, const char *mounted);
