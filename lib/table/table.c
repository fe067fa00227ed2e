#include "table/table.h"

#include "base/random.h"
#include "kernel/cgroup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLAB_OFFSET sizeof(struct tuplebind_header)

bool table_name_valid(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length > TABLE_NAME_MAX || name[0] == '.')
		return false;
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)name[i]) && strchr("_-.", name[i]) == NULL)
			return false;
	return true;
}

/* Raw close: ours is taken over, and libc's is a cancellation point. */
static void close_raw(int fd)
{
	syscall(SYS_close, fd);
}

static int refuse(
	struct fault *f, int error, const char *path, const char *why, const char *what_to_do)
{
	fault_set(f, "table %s: %s; %s", path, why, what_to_do);
	return -error;
}

#define REMOVE_IT "remove the file, or name another table with TUPLEBIND_TABLE"

static void take_mapping(struct table *t, void *memory, size_t size)
{
	t->header = memory;
	t->slabs = (struct tuplebind_slab *)((char *)memory + SLAB_OFFSET);
	t->size = size;
	t->slab_count = (size - SLAB_OFFSET) / sizeof *t->slabs;
	memcpy(&t->key, t->header->hash_key, sizeof t->key);
	memcpy(&t->permutation, t->header->rounds, sizeof t->permutation);
	t->stripe = &t->header->stripes[(uint64_t)getpid() % TUPLEBIND_STRIPES];
	t->identity = t->header->identity;
}

/* What binds the order of ports and the places of slabs to the file: all processes must agree on
 * them. */
static uint64_t seal_of(const struct hash_key *key, const struct permutation *p)
{
	uint64_t words[sizeof *p / sizeof(uint64_t)];

	memcpy(words, p, sizeof words);
	return hash_words(key, words, sizeof words / sizeof *words);
}

bool table_intact(const struct table *t)
{
	const volatile uint64_t *now = (const volatile uint64_t *)&t->header->identity;
	const uint64_t *was = (const uint64_t *)&t->identity;
	uint64_t different = 0;

#pragma GCC unroll 7
	for (size_t i = 0; i < sizeof t->identity / sizeof *was; i++)
		different |= was[i] ^ now[i];
	return different == 0;
}

static void fill_header(struct tuplebind_header *h, uint64_t size, const struct netns *ns)
{
	h->identity = (struct tuplebind_identity){
		.magic = TUPLEBIND_TABLE_MAGIC,
		.version = TUPLEBIND_TABLE_VERSION,
		.slab_offset = SLAB_OFFSET,
		.size = size,
		.netns = ns->inode,
		.netns_cookie = ns->cookie,
		.created = (uint64_t)time(NULL),
	};
	random_bytes(h->hash_key, sizeof h->hash_key);
	random_bytes(h->rounds, sizeof h->rounds);
	/* Hosts and containers with a table each are not all to begin with the first address. */
	uint16_t turn;
	random_bytes(&turn, sizeof turn);
	atomic_store_explicit(&h->turns, turn, memory_order_relaxed);
	h->identity.seal = seal_of((struct hash_key *)h->hash_key, (struct permutation *)h->rounds);
}

/*
 * What makes a file safe to map, and to be trusted as far as its owner is. Its
 * identity is read, not mapped, so that a short file is found out without a SIGBUS.
 */
static int validate(
	int fd, const char *path, const struct stat *st, uint64_t *cookie, struct fault *f)
{
	struct tuplebind_identity id;

	if (!S_ISREG(st->st_mode))
		return refuse(f, EINVAL, path, "not a regular file", REMOVE_IT);
	if ((st->st_mode & 07777) != 0600)
		return refuse(f, EPERM, path,
			"its mode is not 0600, so others may have written to it", REMOVE_IT);
	if (syscall(SYS_pread64, fd, &id, sizeof id, 0) != (long)sizeof id)
		return refuse(f, EINVAL, path, "too short for a table", REMOVE_IT);
	if (id.magic != TUPLEBIND_TABLE_MAGIC)
		return refuse(f, EINVAL, path, "not a tuple table", REMOVE_IT);
	if (id.version != TUPLEBIND_TABLE_VERSION || id.slab_offset != SLAB_OFFSET)
		return refuse(f, EPROTO, path, "made by another version of tuplebind",
			"stop the programs that use it and remove the file, or name another table "
			"with TUPLEBIND_TABLE");
	if (id.size != (uint64_t)st->st_size || id.size < TABLE_SIZE_MIN ||
		id.size > TABLE_SIZE_MAX)
		return refuse(f, EINVAL, path, "its size is not what its header says", REMOVE_IT);
	/* A table is allocated in full when it is made. Holes would be filled by whoever maps it,
	 * until the directory is full and he dies of SIGBUS. */
	if ((uint64_t)st->st_blocks * 512 < id.size)
		return refuse(f, EINVAL, path, "has holes, as no table has", REMOVE_IT);
	*cookie = id.netns_cookie;
	return 0;
}

static int refuse_open(struct fault *f, int error, const char *path)
{
	return refuse(f, error, path,
		error == ELOOP	  ? "a symbolic link"
		: error == EISDIR ? "a directory"
				  : strerror(error),
		REMOVE_IT);
}

/* Keys and order of ports as they were made? If not the memory is given back. */
static int check_seal(struct table *t, const char *path, struct fault *f)
{
	if (seal_of(&t->key, &t->permutation) == t->identity.seal)
		return 0;
	table_detach(t);
	return refuse(f, EINVAL, path, "some process has written over it", REMOVE_IT);
}

static int map_file(
	struct table *t, int fd, const char *path, size_t size, bool writable, struct fault *f)
{
	void *memory =
		mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return refuse(
			f, errno, path, strerror(errno), "raise the limit on memory (ulimit -v)");
	take_mapping(t, memory, size);
	return check_seal(t, path, f);
}

static int copy_header(struct table *t, int fd, const char *path, size_t size, struct fault *f)
{
	char *memory =
		mmap(NULL, SLAB_OFFSET, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return refuse(
			f, errno, path, strerror(errno), "raise the limit on memory (ulimit -v)");
	for (size_t at = 0; at < SLAB_OFFSET;) {
		long got = syscall(SYS_pread64, fd, memory + at, SLAB_OFFSET - at, (off_t)at);

		if (got <= 0) {
			munmap(memory, SLAB_OFFSET);
			return refuse(f, EINVAL, path, "cut short while it was read", REMOVE_IT);
		}
		at += (size_t)got;
	}
	take_mapping(t, memory, size);
	t->slabs = NULL;
	t->size = SLAB_OFFSET;
	return check_seal(t, path, f);
}

/* What would end this process if it were tried: or 0. */
static int check_limits(const char *path, uint64_t size, struct fault *f)
{
	struct rlimit limit;
	uint64_t left = cgroup_memory_left(CGROUP_OF_SELF, CGROUP_MOUNTED);

	/* Past RLIMIT_FSIZE the kernel would kill the program with SIGXFSZ. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < size)
		return refuse(f, EFBIG, path, "larger than the file size limit (ulimit -f)",
			"raise the limit or set a smaller TUPLEBIND_TABLE_SIZE");
	/* The kernel has notes of its own on what is allocated, a hundredth of it. */
	if (left < size + size / 64) {
		char why[128];

		snprintf(why, sizeof why,
			"needs %llu bytes, and the memory limit of its control group leaves %llu",
			(unsigned long long)size, (unsigned long long)left);
		return refuse(f, ENOMEM, path, why,
			"raise the limit (memory.max) or set a smaller TUPLEBIND_TABLE_SIZE");
	}
	return 0;
}

/* Makes a file of a name that nobody else thinks of. Its descriptor, or -errno. */
static int open_fresh(const char *path, char fresh[static TABLE_PATH_MAX + 32])
{
	uint64_t drawn;

	random_bytes(&drawn, sizeof drawn);
	snprintf(fresh, TABLE_PATH_MAX + 32, "%s" TABLE_FRESH "%016llx", path,
		(unsigned long long)drawn);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, fresh,
		O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

static int allocate(int fd, uint64_t size)
{
	int error;

	do {
		error = (int)syscall(SYS_fallocate, fd, 0, (off_t)0, (off_t)size) < 0 ? errno : 0;
	} while (error == EINTR);
	/* The umask may have taken bits away. */
	if (error == 0 && syscall(SYS_fchmod, fd, 0600) < 0)
		error = errno;
	return error;
}

/* Makes a whole table of the new file. */
static int fill(int fd, const char *path, uint64_t size, const struct netns *ns, struct fault *f)
{
	int error = allocate(fd, size);

	if (error != 0) {
		char what[128];

		snprintf(what, sizeof what,
			"%s needs %llu bytes: free some, or set a smaller TUPLEBIND_TABLE_SIZE",
			TABLE_DIRECTORY, (unsigned long long)size);
		return refuse(f, error, path, strerror(error), what);
	}
	void *memory = mmap(NULL, SLAB_OFFSET, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return refuse(f, errno, path, strerror(errno), "TUPLEBIND_TABLE=private may help");
	fill_header(memory, size, ns);
	munmap(memory, SLAB_OFFSET);
	return 0;
}

/*
 * Makes the table under a name of its own and links it to its real name when it is
 * complete: nobody ever sees half a table, and of several makers one wins. Returns
 * -EEXIST when another process was first. What a maker that is killed here leaves is removed by
 * a later one (place_clear()).
 */
static int make(const char *path, uint64_t size, const struct netns *ns, struct fault *f)
{
	char fresh[TABLE_PATH_MAX + 32];
	int error = check_limits(path, size, f);

	if (error < 0)
		return error;
	int fd = open_fresh(path, fresh);
	if (fd < 0)
		return refuse(f, -fd, path, strerror(-fd),
			"tuplebind needs a writable " TABLE_DIRECTORY
			" or TUPLEBIND_TABLE=private");
	error = fill(fd, path, size, ns, f);
	if (error == 0 && link(fresh, path) < 0)
		error = refuse(f, errno, path, strerror(errno), REMOVE_IT);
	unlink(fresh);
	close_raw(fd);
	return error;
}

static int attach_private(struct table *t, uint64_t size, const struct netns *ns, struct fault *f)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return refuse(f, errno, TABLE_PRIVATE, strerror(errno),
			"set a smaller TUPLEBIND_TABLE_SIZE");
	fill_header(memory, size, ns);
	take_mapping(t, memory, size);
	memcpy(t->path, TABLE_PRIVATE, sizeof TABLE_PRIVATE);
	return 0;
}

/* What is at one place of a table's name. */
enum holder {
	SOUND,	/* a table to attach to */
	NOBODY, /* nothing, or what is to be replaced */
	TAKEN,	/* another user's file, or in use by programs of another version */
};

/* What is at the places of a name, up to the first sound table. */
struct found {
	int fd; /* of the sound one; -1: there is none */
	struct stat st;
	char path[TABLE_PATH_MAX]; /* of the sound one, or the first place that is free */
	bool free;		   /* there is such a place */
	bool replaced, used_too;   /* a file is there, which is removed first; whoever uses it */
};

/* Who cannot open a file, or cannot open it as what it is, looks whose it is. */
static int judge_unopened(const char *path, int error, struct fault *f)
{
	struct stat st;

	if (error == -ENOENT)
		return NOBODY;
	/* A file of his own he could open, or he has kept himself from it. */
	if (place_stat(path, &st) == 0 && (error == -EACCES || st.st_uid != place_user()))
		return TAKEN;
	/* Of our own with EAGAIN: one that is being removed. */
	return refuse_open(f, -error, path);
}

/* An enum holder, or -errno with the fault told. The descriptor of a sound table stays open. */
static int judge(struct found *found, const char *path, const struct netns *ns, struct fault *f)
{
	uint64_t cookie = 0;
	struct stat *st = &found->st;
	int fd = place_open(path, true);

	if (fd < 0)
		return judge_unopened(path, fd, f);
	int error = place_stat_fd(fd, st);
	if (error < 0)
		error = refuse(f, -error, path, strerror(-error), REMOVE_IT);
	else if (st->st_uid != place_user())
		error = TAKEN;
	else
		error = validate(fd, path, st, &cookie, f);
	/* Of a namespace that is gone and whose inode number came back. */
	found->used_too = error == 0 && ns->cookie != 0 && cookie != ns->cookie;
	if (error == 0 && !found->used_too) {
		found->fd = fd;
		return SOUND;
	}
	close_raw(fd);
	if (error == -EPROTO)
		error = place_unused(path, st) ? NOBODY : TAKEN;
	return found->used_too ? NOBODY : error;
}

/* The table @name, or where to make it: 0, or -errno with the fault told. */
static int find(struct found *found, const char *name, const struct netns *ns, struct fault *f)
{
	uid_t uid = place_uid();

	*found = (struct found){.fd = -1};
	for (unsigned place = 0; place < TABLE_PLACES; place++) {
		struct found here = {.fd = -1};

		place_path(here.path, name, uid, ns, place);
		int holder = judge(&here, here.path, ns, f);
		if (holder < 0 || holder == SOUND) {
			*found = here;
			return holder < 0 ? holder : 0;
		}
		if (holder == NOBODY && !found->free) {
			*found = here;
			found->free = true;
			found->replaced = here.st.st_ino != 0;
		}
	}
	if (found->free)
		return 0;
	place_path(found->path, name, uid, ns, 0);
	return refuse(f, EBUSY, found->path,
		"this name and the next seven, which end in ~1 to ~7, are taken by other users or "
		"by other versions of tuplebind",
		REMOVE_IT);
}

/* Makes the table at the place that was found free. -EEXIST, -EAGAIN: look again. */
static int make_at(
	const struct found *found, uint64_t size, const struct netns *ns, struct fault *f)
{
	int error = 0;

	if (found->replaced)
		error = place_remove(found->path, &found->st, found->used_too);
	if (error < 0 && error != -ENOENT && error != -EBUSY && error != -EAGAIN)
		return refuse(f, -error, found->path, strerror(-error), REMOVE_IT);
	if (error < 0)
		return -EAGAIN;
	error = make(found->path, size, ns, f);
	if (error == 0)
		place_clear(place_uid());
	return error;
}

/* For who removes a file to be done, which takes him a few system calls. */
static void wait_a_little(void)
{
	struct timespec pause = {.tv_nsec = 1000000};

	syscall(SYS_nanosleep, &pause, NULL);
}

#define ATTEMPTS 100

int table_attach(
	struct table *t, const char *name, uint64_t size, const struct netns *ns, struct fault *f)
{
	struct found found;

	size -= size % sizeof(struct tuplebind_slab);
	if (name != NULL && strcmp(name, TABLE_PRIVATE) == 0)
		return attach_private(t, size, ns, f);
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		int error = find(&found, name, ns, f);

		memcpy(t->path, found.path, sizeof t->path);
		if (error == 0 && found.fd >= 0) {
			/* When it was last attached to is told by its time stamp. */
			syscall(SYS_utimensat, found.fd, NULL, NULL, 0);
			error = map_file(
				t, found.fd, found.path, (size_t)found.st.st_size, true, f);
			close_raw(found.fd);
			return error;
		}
		if (error == 0)
			error = make_at(&found, size, ns, f);
		if (error == -EAGAIN)
			wait_a_little();
		else if (error < 0 && error != -EEXIST)
			return error;
	}
	return refuse(
		f, EAGAIN, t->path, "keeps changing", "name another table with TUPLEBIND_TABLE");
}

/* Opens a sound table file, whoever owns it: a descriptor, or -errno with the fault told. */
static int open_sound(const char *path, bool writable, struct stat *st, struct fault *f)
{
	uint64_t cookie;
	int fd = place_open(path, writable);

	if (fd < 0)
		return refuse_open(f, -fd, path);
	int error = place_stat_fd(fd, st);
	if (error < 0)
		error = refuse(f, -error, path, strerror(-error), REMOVE_IT);
	else
		error = validate(fd, path, st, &cookie, f);
	if (error == 0)
		return fd;
	close_raw(fd);
	return error;
}

int table_open(struct table *t, const char *path, bool writable, struct fault *f)
{
	struct stat st = {.st_size = 0};
	int fd = open_sound(path, writable, &st, f);

	if (fd < 0)
		return fd;
	int error = map_file(t, fd, path, (size_t)st.st_size, writable, f);
	close_raw(fd);
	return error;
}

int table_find(struct table *t, const char *name, const struct netns *ns, struct fault *f)
{
	struct found found;
	/* As table_attach() does, so that what stands in its way is told alike. */
	int error = find(&found, name, ns, f);

	memcpy(t->path, found.path, sizeof t->path);
	if (error < 0)
		return error;
	if (found.fd < 0)
		return -ENOENT;
	error = map_file(t, found.fd, found.path, (size_t)found.st.st_size, false, f);
	close_raw(found.fd);
	return error;
}

int table_open_unmapped(struct table *t, const char *path, int *fd, struct fault *f)
{
	struct stat st = {.st_size = 0};

	*fd = open_sound(path, false, &st, f);
	if (*fd < 0)
		return *fd;
	int error = copy_header(t, *fd, path, (size_t)st.st_size, f);
	if (error < 0)
		close_raw(*fd);
	return error;
}

void table_detach(struct table *t)
{
	if (t->header != NULL)
		munmap(t->header, t->size);
	t->header = NULL;
}

uint64_t table_counter(const struct table *t, enum tuplebind_counter counter)
{
	uint64_t sum = 0;

	for (int i = 0; i < TUPLEBIND_STRIPES; i++)
		sum += atomic_load_explicit(
			&t->header->stripes[i].counters[counter], memory_order_relaxed);
	return sum;
}
