#include "table/table.h"

#include "base/random.h"

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

void table_path(
	char path[static TABLE_PATH_MAX], const char *name, uid_t uid, const struct netns *ns)
{
	snprintf(path, TABLE_PATH_MAX, TABLE_DIRECTORY "/" TABLE_PREFIX "%u.%llu%s%s",
		(unsigned)uid, (unsigned long long)ns->inode, name ? "." : "", name ? name : "");
}

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
 * What makes a file safe to map, and to be trusted as far as a table is trusted at all. Its
 * identity is read, not mapped, so that a short file is found out without a SIGBUS.
 */
static int validate(
	int fd, const char *path, uid_t uid, struct stat *st, uint64_t *cookie, struct fault *f)
{
	struct tuplebind_identity id;

	if (fstat(fd, st) < 0)
		return refuse(f, errno, path, strerror(errno), REMOVE_IT);
	if (!S_ISREG(st->st_mode))
		return refuse(f, EINVAL, path, "not a regular file", REMOVE_IT);
	if (st->st_uid != uid)
		return refuse(f, EPERM, path, "belongs to another user", REMOVE_IT);
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
	*cookie = id.netns_cookie;
	return 0;
}

static int open_table(const char *path, bool writable)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path,
		(writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? -errno : fd;
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

/*
 * Makes the table under a name of its own and links it to its real name when it is
 * complete: nobody ever sees half a table, and of several makers one wins. Returns
 * -EEXIST when another process was first.
 */
static int make(const char *path, uint64_t size, const struct netns *ns, struct fault *f)
{
	char fresh[TABLE_PATH_MAX + 16];
	struct rlimit limit;
	int error = 0;

	/* Past RLIMIT_FSIZE the kernel would kill the program with SIGXFSZ. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < size)
		return refuse(f, EFBIG, path, "larger than the file size limit (ulimit -f)",
			"raise the limit or set a smaller TUPLEBIND_TABLE_SIZE");
	snprintf(fresh, sizeof fresh, "%s.new.%d", path, (int)getpid());
	unlink(fresh); /* left by a process with our id that was killed right here */
	int fd = (int)syscall(SYS_openat, AT_FDCWD, fresh,
		O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return refuse(f, errno, path, strerror(errno),
			"tuplebind needs a writable " TABLE_DIRECTORY
			" or TUPLEBIND_TABLE=private");
	do {
		error = (int)syscall(SYS_fallocate, fd, 0, (off_t)0, (off_t)size) < 0 ? errno : 0;
	} while (error == EINTR);
	if (error == 0 && fchmod(fd, 0600) < 0) /* the umask may have taken bits away */
		error = errno;
	if (error != 0) {
		char what[128];

		snprintf(what, sizeof what,
			"%s needs %llu bytes: free some, or set a smaller TUPLEBIND_TABLE_SIZE",
			TABLE_DIRECTORY, (unsigned long long)size);
		refuse(f, error, path, strerror(error), what);
	} else {
		void *memory = mmap(NULL, SLAB_OFFSET, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (memory == MAP_FAILED) {
			error = errno;
			refuse(f, error, path, strerror(error), "TUPLEBIND_TABLE=private may help");
		} else {
			fill_header(memory, size, ns);
			munmap(memory, SLAB_OFFSET);
			if (link(fresh, path) < 0) {
				error = errno;
				refuse(f, error, path, strerror(error), REMOVE_IT);
			}
		}
	}
	unlink(fresh);
	close_raw(fd);
	return -error;
}

static int attach_private(struct table *t, uint64_t size, const struct netns *ns, struct fault *f)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return refuse(f, errno, TABLE_PRIVATE, strerror(errno),
			"set a smaller TUPLEBIND_TABLE_SIZE");
	fill_header(memory, size, ns);
	take_mapping(t, memory, size);
	return 0;
}

int table_attach(
	struct table *t, const char *name, uint64_t size, const struct netns *ns, struct fault *f)
{
	char path[TABLE_PATH_MAX];
	int error;

	size -= size % sizeof(struct tuplebind_slab);
	if (name != NULL && strcmp(name, TABLE_PRIVATE) == 0)
		return attach_private(t, size, ns, f);
	table_path(path, name, geteuid(), ns);
	for (int attempt = 0; attempt < 10; attempt++) {
		struct stat st;
		uint64_t cookie = 0;
		int fd = open_table(path, true);

		if (fd == -ENOENT) {
			error = make(path, size, ns, f);
			if (error < 0 && error != -EEXIST)
				return error;
			continue;
		}
		if (fd < 0)
			return refuse_open(f, -fd, path);
		error = validate(fd, path, geteuid(), &st, &cookie, f);
		if (error == 0 && ns->cookie != 0 && cookie != ns->cookie) {
			/* Of a namespace that is gone and whose inode number came back. */
			unlink(path);
			close_raw(fd);
			continue;
		}
		if (error == 0)
			error = map_file(t, fd, path, (size_t)st.st_size, true, f);
		close_raw(fd);
		return error;
	}
	return refuse(f, EAGAIN, path, "keeps changing", "name another table with TUPLEBIND_TABLE");
}

/* Opens a sound table file, whoever owns it: a descriptor, or -errno with the fault told. */
static int open_sound(const char *path, bool writable, struct stat *st, struct fault *f)
{
	uint64_t cookie;
	int fd = open_table(path, writable);

	if (fd < 0)
		return refuse_open(f, -fd, path);
	/* Root may look at everybody's; the file's owner is whom it must be right for. */
	uid_t owner = fstat(fd, st) == 0 ? st->st_uid : geteuid();
	int error = validate(fd, path, owner, st, &cookie, f);
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
	char path[TABLE_PATH_MAX];
	struct stat st = {.st_size = 0};
	uint64_t cookie = 0;

	table_path(path, name, geteuid(), ns);
	/* As table_attach() does, so that what stands in its way is told alike. */
	int fd = open_table(path, true);
	if (fd == -ENOENT)
		return fd;
	if (fd < 0)
		return refuse_open(f, -fd, path);
	int error = validate(fd, path, geteuid(), &st, &cookie, f);
	if (error == 0 && ns->cookie != 0 && cookie != ns->cookie)
		error = -ENOENT;
	if (error == 0)
		error = map_file(t, fd, path, (size_t)st.st_size, false, f);
	close_raw(fd);
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
