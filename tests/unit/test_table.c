/*
 * Table files: made whole, found again, and refused with a reason when they are not what
 * a table has to be. Each test has a table of its own and leaves none behind.
 */
#include "fixture.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct netns ns;
static struct fault fault;
static char name[32], path[TABLE_PATH_MAX];
static struct table t;

static void setup(void)
{
	cr_assert_eq(netns_current(&ns), 0);
	snprintf(name, sizeof name, "unit-%d", (int)getpid());
	place_path(path, name, place_uid(), &ns, 0);
}

static void teardown(void)
{
	if (unlink(path) < 0 && errno == EISDIR)
		rmdir(path);
}

TestSuite(table, .init = setup, .fini = teardown);

static int attach(struct table *table)
{
	return table_attach(table, name, TABLE_SIZE_MIN, &ns, &fault);
}

/*
 * A refusal: the error, and one line that names the file and says @why. Who only looks for the
 * table hears the same, unless there is none.
 */
static void expect_refusal(int error, const char *why)
{
	struct fault found = {.text = ""};
	struct stat st;
	int looked = table_find(&t, name, &ns, &found);

	fault.text[0] = '\0';
	cr_expect_eq(attach(&t), error);
	cr_expect_not_null(strstr(fault.text, path), "%s", fault.text);
	cr_expect_not_null(strstr(fault.text, why), "%s", fault.text);
	cr_expect_null(strchr(fault.text, '\n'), "%s", fault.text);
	if (lstat(path, &st) < 0) {
		cr_expect_eq(looked, -ENOENT);
		return;
	}
	cr_expect_eq(looked, error);
	cr_expect_str_eq(found.text, fault.text);
}

Test(table, is_found_and_never_made)
{
	struct table made;

	cr_expect_eq(table_find(&t, name, &ns, &fault), -ENOENT);
	cr_expect_lt(access(path, F_OK), 0);
	cr_assert_eq(attach(&made), 0, "%s", fault.text);
	cr_assert_eq(table_find(&t, name, &ns, &fault), 0, "%s", fault.text);
	cr_expect_arr_eq(&t.key, &made.key, sizeof t.key);
	cr_expect_eq(t.slab_count, made.slab_count);
	table_detach(&t);
	ns.cookie++;
	/* One of an earlier namespace is none, and stays. */
	cr_expect_eq(table_find(&t, name, &ns, &fault), -ENOENT);
	cr_expect_eq(access(path, F_OK), 0);
	table_detach(&made);
}

/* A good table file, open for spoiling. */
static int good_file(void)
{
	int fd;

	cr_assert_eq(attach(&t), 0, "%s", fault.text);
	table_detach(&t);
	fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	return fd;
}

static void spoil(size_t offset, const void *bytes, size_t length)
{
	int fd = good_file();

	cr_assert_eq(pwrite(fd, bytes, length, (off_t)offset), (ssize_t)length);
	close(fd);
}

Test(table, is_made_whole_and_private_to_the_user)
{
	struct stat st;

	cr_assert_eq(attach(&t), 0, "%s", fault.text);
	cr_assert_eq(lstat(path, &st), 0);
	cr_expect_eq(st.st_mode, S_IFREG | 0600);
	cr_expect_eq(st.st_uid, geteuid());
	cr_expect_eq(st.st_nlink, 1);
	cr_expect_eq((uint64_t)st.st_size, TABLE_SIZE_MIN);
	cr_expect_geq((uint64_t)st.st_blocks * 512, TABLE_SIZE_MIN, "all of it is allocated");
	cr_expect_eq(t.size, TABLE_SIZE_MIN);
	cr_expect_eq(t.header->identity.magic, TUPLEBIND_TABLE_MAGIC);
	cr_expect_eq(t.header->identity.netns, ns.inode);
	cr_expect_eq(t.header->identity.slab_offset + t.slab_count * sizeof *t.slabs, t.size);
}

Test(table, a_size_is_cut_to_whole_slabs)
{
	cr_assert_eq(table_attach(&t, name, TABLE_SIZE_MIN + 100, &ns, &fault), 0);
	cr_expect_eq(t.size, TABLE_SIZE_MIN);
}

Test(table, the_second_sees_what_the_first_has_claimed)
{
	struct tuplebind_lane lane = fixture_lane(1);
	struct table second;
	claim c, again;

	cr_assert_eq(attach(&t), 0);
	cr_assert_eq(claim_take_port(&t, &lane, 5555, NULL, &c), 0);
	/* Who comes second takes the size that is there. */
	cr_assert_eq(table_attach(&second, name, 2 * TABLE_SIZE_MIN, &ns, &fault), 0);
	cr_expect_eq(second.size, TABLE_SIZE_MIN);
	cr_expect_eq(claim_take_port(&second, &lane, 5555, NULL, &again), -EADDRNOTAVAIL);
	cr_expect_eq(claim_port(&second, c), 5555);
	cr_expect(claim_give_back(&second, c));
	cr_expect_eq(claim_take_port(&t, &lane, 5555, NULL, &again), 0);
	table_detach(&second);
}

Test(table, two_tables_have_keys_of_their_own)
{
	struct table second;

	cr_assert_eq(attach(&t), 0);
	unlink(path);
	cr_assert_eq(attach(&second), 0);
	cr_expect_arr_neq(&t.key, &second.key, sizeof t.key);
	cr_expect_arr_neq(&t.permutation, &second.permutation, sizeof t.permutation);
}

Test(table, counters_add_up_over_stripes)
{
	cr_assert_eq(attach(&t), 0);
	table_count(&t, TUPLEBIND_BOUND);
	t.stripe = &t.header->stripes[(t.stripe - t.header->stripes + 1) % TUPLEBIND_STRIPES];
	table_count(&t, TUPLEBIND_BOUND);
	table_count(&t, TUPLEBIND_FULL);
	cr_expect_eq(table_counter(&t, TUPLEBIND_BOUND), 2);
	cr_expect_eq(table_counter(&t, TUPLEBIND_FULL), 1);
	cr_expect_eq(table_counter(&t, TUPLEBIND_LATE), 0);
}

Test(table, any_umask_gives_the_same_mode)
{
	static const mode_t masks[] = {0, 022, 077, 0177, 0777};

	for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
		mode_t before = umask(masks[i]);
		struct stat st = {.st_mode = 0};

		cr_expect_eq(attach(&t), 0, "umask %03o: %s", masks[i], fault.text);
		cr_expect_eq(stat(path, &st), 0);
		cr_expect_eq(st.st_mode & 07777, 0600, "umask %03o", masks[i]);
		unlink(path);
		umask(before);
	}
}

Test(table, nothing_else_is_left_in_the_directory)
{
	DIR *directory;
	unsigned ours = 0;

	cr_assert_eq(attach(&t), 0);
	directory = opendir(TABLE_DIRECTORY);
	cr_assert_not_null(directory);
	for (struct dirent *e; (e = readdir(directory)) != NULL;)
		ours += strncmp(e->d_name, strrchr(path, '/') + 1,
				strlen(strrchr(path, '/') + 1)) == 0;
	closedir(directory);
	cr_expect_eq(ours, 1);
}

/* Makes a file that was last touched so many seconds ago. */
static int old_file(const char *file, const char *content, time_t seconds)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - seconds}};
	int fd = open(file, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	cr_assert_eq(futimens(fd, times), 0);
	return fd;
}

/* All processes of all pid namespaces may have the same id, so it is not in the name. */
Test(table, a_file_under_the_name_that_a_maker_had_before_is_no_hindrance)
{
	char fresh[TABLE_PATH_MAX + 16];

	snprintf(fresh, sizeof fresh, "%s.new.%d", path, (int)getpid());
	cr_assert_eq(mkdir(fresh, 0700), 0);
	cr_expect_eq(attach(&t), 0, "%s", fault.text);
	cr_expect_eq(rmdir(fresh), 0);
}

Test(table, what_a_killed_maker_left_goes_when_it_is_old_and_nobody_is_at_it)
{
	static const char *const tails[] = {"~new.old", "~new.young", "~new.open"};
	char files[3][TABLE_PATH_MAX + 16];

	for (int i = 0; i < 3; i++)
		snprintf(files[i], sizeof files[i], "%s%s", path, tails[i]);
	close(old_file(files[0], "half", TABLE_IDLE_SECONDS + 5));
	close(old_file(files[1], "half", TABLE_IDLE_SECONDS - 60));
	int fd = old_file(files[2], "half", TABLE_IDLE_SECONDS + 5);
	cr_expect_eq(attach(&t), 0, "%s", fault.text);
	cr_expect_neq(access(files[0], F_OK), 0);
	cr_expect_eq(access(files[1], F_OK), 0);
	cr_expect_eq(access(files[2], F_OK), 0);
	close(fd);
	unlink(files[1]);
	unlink(files[2]);
}

/* Tables of namespaces that are gone, of names no longer in use, of other versions. */
Test(table, one_that_nobody_uses_goes_when_another_is_made)
{
	struct timespec old[2] = {
		{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - TABLE_IDLE_SECONDS - 5}};
	static const char *const kinds[] = {"unused", "used", "young", "foreign", "text"};
	char names[5][48], paths[5][TABLE_PATH_MAX];
	struct table used;

	for (int i = 0; i < 5; i++) {
		struct table made;

		snprintf(names[i], sizeof names[i], "%s-%s", name, kinds[i]);
		place_path(paths[i], names[i], place_uid(), &ns, 0);
		if (i == 4) {
			close(old_file(
				paths[i], "a text of the user's own", TABLE_IDLE_SECONDS + 5));
			continue;
		}
		cr_assert_eq(table_attach(&made, names[i], TABLE_SIZE_MIN, &ns, &fault), 0);
		if (i == 1)
			used = made;
		else
			table_detach(&made);
		if (i != 2)
			cr_assert_eq(utimensat(AT_FDCWD, paths[i], old, 0), 0);
	}
	if (geteuid() == 0)
		cr_assert_eq(chown(paths[3], 65534, (gid_t)-1), 0);
	cr_assert_eq(attach(&t), 0, "%s", fault.text);
	cr_expect_neq(access(paths[0], F_OK), 0, "nobody's");
	cr_expect_eq(access(paths[1], F_OK), 0, "somebody has it mapped");
	cr_expect_eq(access(paths[2], F_OK), 0, "somebody had it lately");
	cr_expect_eq(access(paths[3], F_OK) == 0, geteuid() == 0, "another user's");
	cr_expect_eq(access(paths[4], F_OK), 0, "no table");
	table_detach(&used);
	for (int i = 1; i < 5; i++)
		unlink(paths[i]);
}

Test(table, when_it_was_attached_to_is_told_by_the_file)
{
	struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	struct stat st;

	cr_assert_eq(attach(&t), 0);
	cr_assert_eq(utimensat(AT_FDCWD, path, old, 0), 0);
	cr_assert_eq(attach(&t), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_gt(st.st_mtime, 1000);
}

Test(table, of_many_makers_all_get_the_same)
{
	uint64_t *keys = fixture_shared(16 * sizeof *keys);

	for (int i = 0; i < 16; i++) {
		if (fork() == 0) {
			if (attach(&t) == 0)
				keys[i] = t.key.words[0];
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	cr_expect_neq(keys[0], 0);
	for (int i = 1; i < 16; i++)
		cr_expect_eq(keys[i], keys[0]);
}

Test(table, symbolic_link)
{
	cr_assert_eq(symlink("/dev/null", path), 0);
	expect_refusal(-ELOOP, "symbolic link");
}

Test(table, dangling_symbolic_link)
{
	cr_assert_eq(symlink("nowhere", path), 0);
	expect_refusal(-ELOOP, "symbolic link");
}

Test(table, directory)
{
	cr_assert_eq(mkdir(path, 0700), 0);
	expect_refusal(-EISDIR, "directory");
}

Test(table, fifo_does_not_hang)
{
	cr_assert_eq(mkfifo(path, 0600), 0);
	expect_refusal(-EINVAL, "regular file");
}

Test(table, wrong_modes)
{
	static const mode_t modes[] = {0644, 0660, 0606, 0700, 0601, 01600, 04600};

	close(good_file());
	for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
		struct stat st;

		cr_assert_eq(chmod(path, modes[i]), 0);
		expect_refusal(-EPERM, "0600");
		cr_expect_eq(stat(path, &st), 0);
		cr_expect_eq(st.st_mode & 07777, modes[i], "it is left as it was");
	}
}

static void place(char at[TABLE_PATH_MAX], unsigned number)
{
	place_path(at, name, place_uid(), &ns, number);
}

/* What another user may put there: a file, a good table, a directory, a link, a pipe. */
static void squat(const char *at, unsigned kind)
{
	if (kind == 0)
		close(open(at, O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
	else if (kind == 1)
		cr_assert_eq(mkdir(at, 0777), 0);
	else if (kind == 2)
		cr_assert_eq(symlink("/dev/null", at), 0);
	else
		cr_assert_eq(mkfifo(at, 0666), 0);
	cr_assert_eq(lchown(at, 65534, (gid_t)-1), 0);
}

Test(table, another_users_files_are_passed_over)
{
	char at[TABLE_PATH_MAX];
	struct table second;

	if (geteuid() != 0)
		cr_skip_test("only root can give a file away");
	close(good_file());
	cr_assert_eq(chown(path, 65534, (gid_t)-1), 0);
	for (unsigned i = 0; i < 4; i++) {
		place(at, i + 1);
		squat(at, i);
	}
	cr_expect_eq(table_find(&second, name, &ns, &fault), -ENOENT);
	cr_assert_eq(attach(&t), 0, "%s", fault.text);
	place(at, 5);
	cr_expect_str_eq(t.path, at);
	cr_assert_eq(attach(&second), 0);
	cr_expect_arr_eq(&t.key, &second.key, sizeof t.key);
	cr_expect_eq(table_find(&second, name, &ns, &fault), 0);
	cr_expect_str_eq(second.path, at);
	/* Who comes when the first place is free again goes where the others are. */
	unlink(path);
	cr_assert_eq(attach(&second), 0);
	cr_expect_arr_eq(&t.key, &second.key, sizeof t.key);
	cr_expect_neq(access(path, F_OK), 0);
	for (unsigned i = 1; i <= 5; i++) {
		place(at, i);
		if (unlink(at) < 0)
			rmdir(at);
	}
}

/* Who has a lease on his file keeps others from opening it, and they need not. */
Test(table, another_users_file_that_cannot_be_opened)
{
	char next[TABLE_PATH_MAX];
	int fd;

	if (geteuid() != 0)
		cr_skip_test("only root can give a file away");
	place(next, 1);
	squat(path, 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	signal(SIGURG, SIG_IGN);
	cr_assert_eq(fcntl(fd, F_SETSIG, SIGURG), 0);
	cr_assert_eq(fcntl(fd, F_SETLEASE, F_WRLCK), 0);
	cr_assert_eq(attach(&t), 0, "%s", fault.text);
	cr_expect_str_eq(t.path, next);
	close(fd);
	unlink(next);
}

Test(table, all_places_taken)
{
	char at[TABLE_PATH_MAX];

	if (geteuid() != 0)
		cr_skip_test("only root can give a file away");
	for (unsigned i = 0; i < TABLE_PLACES; i++) {
		place(at, i);
		squat(at, 0);
	}
	expect_refusal(-EBUSY, "taken by other users");
	for (unsigned i = 0; i < TABLE_PLACES; i++) {
		place(at, i);
		unlink(at);
	}
}

/* Root finds one in an ordinary user's name, or his own: whoever maps it fills the directory. */
Test(table, a_file_with_holes)
{
	int fd = good_file();

	cr_assert_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			     TABLE_SIZE_MIN - 65536, 65536),
		0);
	close(fd);
	expect_refusal(-EINVAL, "has holes");
	cr_expect_eq(table_open(&t, path, true, &fault), -EINVAL);
	cr_expect_eq(table_open_unmapped(&t, path, &fd, &fault), -EINVAL);
}

Test(table, short_files)
{
	static const off_t lengths[] = {0, 1, sizeof(struct tuplebind_identity) - 1};
	int fd = good_file();

	for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
		cr_assert_eq(ftruncate(fd, lengths[i]), 0);
		expect_refusal(-EINVAL, "short");
	}
	close(fd);
}

Test(table, files_cut_behind_the_identity)
{
	static const off_t lengths[] = {sizeof(struct tuplebind_identity), 4096,
		sizeof(struct tuplebind_header), TABLE_SIZE_MIN - 1, TABLE_SIZE_MIN + 1};

	for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
		int fd = good_file();

		cr_assert_eq(ftruncate(fd, lengths[i]), 0);
		expect_refusal(-EINVAL, "size");
		close(fd);
		unlink(path);
	}
}

/* Header and file agree, on a size that no table has. */
Test(table, sizes_out_of_bounds)
{
	static const uint64_t sizes[] = {
		sizeof(struct tuplebind_header), TABLE_SIZE_MIN - 128, TABLE_SIZE_MAX + 128};

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		int fd = good_file();

		cr_assert_eq(
			pwrite(fd, &sizes[i], 8, offsetof(struct tuplebind_identity, size)), 8);
		/* A hole: no memory is taken. */
		cr_assert_eq(ftruncate(fd, (off_t)sizes[i]), 0);
		expect_refusal(-EINVAL, "size");
		close(fd);
		unlink(path);
	}
}

Test(table, wrong_magic)
{
	spoil(offsetof(struct tuplebind_identity, magic), "x", 1);
	expect_refusal(-EINVAL, "not a tuple table");
}

/* One of another version or layout: nobody uses it, so it is replaced. */
static void expect_replaced(size_t offset, uint32_t number)
{
	struct stat before, now;

	spoil(offset, &number, sizeof number);
	cr_assert_eq(stat(path, &before), 0);
	cr_expect_eq(table_find(&t, name, &ns, &fault), -ENOENT);
	cr_assert_eq(attach(&t), 0, "%s", fault.text);
	cr_expect_str_eq(t.path, path);
	cr_assert_eq(stat(path, &now), 0);
	cr_expect_neq(before.st_ino, now.st_ino);
	table_detach(&t);
	unlink(path);
}

Test(table, another_version_that_nobody_uses)
{
	static const uint32_t versions[] = {
		0, TUPLEBIND_TABLE_VERSION - 1, TUPLEBIND_TABLE_VERSION + 1, UINT32_MAX};

	for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++)
		expect_replaced(offsetof(struct tuplebind_identity, version), versions[i]);
}

Test(table, another_layout_that_nobody_uses)
{
	static const uint32_t offsets[] = {
		0, 1, sizeof(struct tuplebind_header) - 4096, UINT32_MAX};

	for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++)
		expect_replaced(offsetof(struct tuplebind_identity, slab_offset), offsets[i]);
}

/* An upgrade: programs of the version before go on with theirs. */
Test(table, another_version_in_use_is_left_to_those_who_use_it)
{
	uint32_t version = TUPLEBIND_TABLE_VERSION - 1;
	char next[TABLE_PATH_MAX];
	struct stat before, now;
	struct table old, second;

	cr_assert_eq(attach(&old), 0);
	cr_assert_eq(stat(path, &before), 0);
	memcpy((char *)old.header + offsetof(struct tuplebind_identity, version), &version, 4);
	cr_assert_eq(attach(&t), 0, "%s", fault.text);
	place(next, 1);
	cr_expect_str_eq(t.path, next);
	cr_assert_eq(stat(path, &now), 0);
	cr_expect_eq(before.st_ino, now.st_ino);
	/* Its last user gone, those of the new version stay together. */
	table_detach(&old);
	cr_assert_eq(attach(&second), 0);
	cr_expect_arr_eq(&t.key, &second.key, sizeof t.key);
	unlink(next);
}

/* Who opens it is told to come back; then it is gone. */
Test(table, nobody_attaches_to_one_that_is_being_removed)
{
	struct stat st;
	int go[2];

	cr_assert_eq(pipe(go), 0);
	close(good_file());
	cr_assert_eq(stat(path, &st), 0);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	signal(SIGURG, SIG_IGN);
	cr_assert_eq(fcntl(fd, F_SETSIG, SIGURG), 0);
	cr_assert_eq(fcntl(fd, F_SETLEASE, F_RDLCK), 0);
	pid_t child = fork();
	if (child == 0) {
		struct stat now;

		close(fd);
		cr_assert_eq(write(go[1], "g", 1), 1);
		_exit(attach(&t) == 0 && stat(path, &now) == 0 && now.st_ino != st.st_ino ? 0 : 1);
	}
	char byte;
	int status;
	cr_assert_eq(read(go[0], &byte, 1), 1);
	cr_assert_eq(unlink(path), 0);
	close(fd);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_expect_eq(status, 0);
}

/* Two that judged the same file: the second must not take what the first has put there. */
Test(table, what_another_has_put_there_meanwhile_is_not_removed)
{
	struct stat judged, now;
	int fd = good_file(); /* keeps its inode's number from coming back */

	cr_assert_eq(stat(path, &judged), 0);
	cr_expect_eq(place_remove(path, &judged, true), 0);
	cr_expect_eq(place_remove(path, &judged, true), -ENOENT);
	cr_assert_eq(attach(&t), 0);
	cr_expect_eq(place_remove(path, &judged, true), -ENOENT);
	cr_assert_eq(stat(path, &now), 0);
	cr_expect_neq(now.st_ino, judged.st_ino);
	/* In use it goes only if it is to; while another removes it, it is left to him. */
	cr_expect_eq(place_remove(path, &now, false), -EBUSY);
	int other = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(flock(other, LOCK_EX), 0);
	cr_expect_eq(place_remove(path, &now, true), -EAGAIN);
	close(other);
	cr_expect_eq(place_remove(path, &now, true), 0);
	close(fd);
}

Test(table, header_lies_about_the_size)
{
	static const uint64_t sizes[] = {0, TABLE_SIZE_MIN - 128, TABLE_SIZE_MIN + 128, UINT64_MAX};

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		spoil(offsetof(struct tuplebind_identity, size), &sizes[i], 8);
		expect_refusal(-EINVAL, "size");
		unlink(path);
	}
}

/* Processes that do not agree on these would not see each other's claims. */
Test(table, key_or_order_of_ports_written_over)
{
	static const size_t offsets[] = {offsetof(struct tuplebind_header, hash_key),
		offsetof(struct tuplebind_header, rounds),
		offsetof(struct tuplebind_header, stripes) - 1};

	for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
		int fd = good_file();
		uint8_t byte;

		cr_assert_eq(pread(fd, &byte, 1, (off_t)offsets[i]), 1);
		byte ^= 1;
		cr_assert_eq(pwrite(fd, &byte, 1, (off_t)offsets[i]), 1);
		close(fd);
		expect_refusal(-EINVAL, path);
		unlink(path);
	}
}

Test(table, one_written_over_after_it_was_attached_is_found_out)
{
	cr_assert_eq(attach(&t), 0);
	cr_expect(table_intact(&t));
	for (size_t i = 0; i < sizeof t.header->identity; i++) {
		uint8_t *byte = (uint8_t *)&t.header->identity + i;

		*byte ^= 1;
		cr_expect_not(table_intact(&t), "byte %zu", i);
		*byte ^= 1;
	}
	cr_expect(table_intact(&t));
}

/* SIGXFSZ is at its default here: raised, it would end the test. */
Test(table, file_size_limit)
{
	struct rlimit limit = {.rlim_cur = TABLE_SIZE_MIN - 1, .rlim_max = RLIM_INFINITY};

	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	expect_refusal(-EFBIG, "ulimit -f");
	cr_expect_neq(access(path, F_OK), 0, "nothing is left");
	limit.rlim_cur = TABLE_SIZE_MIN;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_expect_eq(attach(&t), 0, "%s", fault.text);
}

/* Writing through the mapping is no growth: a limit set later does no harm. */
Test(table, file_size_limit_on_a_table_that_is_there)
{
	struct rlimit limit = {.rlim_cur = 0, .rlim_max = RLIM_INFINITY};
	struct tuplebind_lane lane = fixture_lane(1);
	claim c;

	close(good_file());
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_assert_eq(attach(&t), 0, "%s", fault.text);
	cr_expect_eq(claim_take_port(&t, &lane, 80, NULL, &c), 0);
}

Test(table, no_room)
{
	struct statvfs room;

	/* Of a directory without a limit the kernel would take all memory first. */
	if (statvfs(TABLE_DIRECTORY, &room) < 0 || room.f_blocks == 0)
		cr_skip_test("shared memory has no limit here");
	fault.text[0] = '\0';
	cr_expect_lt(table_attach(&t, name, UINT64_C(1) << 50, &ns, &fault), 0);
	cr_expect_not_null(strstr(fault.text, path), "%s", fault.text);
	cr_expect_neq(access(path, F_OK), 0, "nothing is left");
}

Test(table, one_of_an_earlier_namespace_is_replaced)
{
	struct tuplebind_lane lane = fixture_lane(1);
	struct table old;
	claim c;

	ns.cookie = 1111;
	cr_assert_eq(attach(&old), 0);
	cr_assert_eq(claim_take_port(&old, &lane, 5555, NULL, &c), 0);
	ns.cookie = 2222;
	cr_assert_eq(attach(&t), 0);
	cr_expect_eq(fixture_claims(&t), 0);
	cr_expect_eq(t.header->identity.netns_cookie, 2222);
	cr_expect_eq(claim_take_port(&t, &lane, 5555, NULL, &c), 0);
	cr_expect_eq(fixture_claims(&old), 1, "who still has the old one is not disturbed");
}

Test(table, a_kernel_without_cookies_takes_what_is_there)
{
	struct table old;

	ns.cookie = 1111;
	cr_assert_eq(attach(&old), 0);
	ns.cookie = 0;
	cr_assert_eq(attach(&t), 0);
	cr_expect_arr_eq(&t.key, &old.key, sizeof t.key);
}

Test(table, private_one_is_shared_with_children_only)
{
	struct tuplebind_lane lane = fixture_lane(1);
	struct table other;
	int status;
	claim c;
	pid_t child;

	cr_assert_eq(table_attach(&t, TABLE_PRIVATE, TABLE_SIZE_MIN, &ns, &fault), 0);
	cr_assert_eq(table_attach(&other, TABLE_PRIVATE, TABLE_SIZE_MIN, &ns, &fault), 0);
	child = fork();
	if (child == 0)
		_exit(claim_take_port(&t, &lane, 80, NULL, &c) == 0 ? 0 : 1);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_expect_eq(status, 0);
	cr_expect_eq(claim_take_port(&t, &lane, 80, NULL, &c), -EADDRNOTAVAIL);
	cr_expect_eq(claim_take_port(&other, &lane, 80, NULL, &c), 0);
	place_path(path, TABLE_PRIVATE, place_uid(), &ns, 0);
	cr_expect_neq(access(path, F_OK), 0, "it is no file");
}

Test(table, readers_see_and_cannot_write)
{
	struct tuplebind_lane lane = fixture_lane(1);
	struct table reader;
	claim c;

	cr_expect_eq(table_open(&reader, path, false, &fault), -ENOENT);
	cr_assert_eq(attach(&t), 0);
	cr_assert_eq(claim_take_port(&t, &lane, 5555, NULL, &c), 0);
	cr_assert_eq(table_open(&reader, path, false, &fault), 0);
	cr_expect_eq(fixture_claims(&reader), 1);
	cr_expect_eq(reader.slab_count, t.slab_count);
	/* The kernel refuses what the program must not be able to do either. */
	cr_expect_neq(mprotect(reader.header, 4096, PROT_READ | PROT_WRITE), 0);
	table_detach(&reader);
	cr_assert_eq(table_open(&reader, path, true, &fault), 0);
	cr_expect(claim_give_back(&reader, c), "who opens it for writing may");
	chmod(path, 0644);
	cr_expect_eq(table_open(&reader, path, false, &fault), -EPERM);
}

Test(table, a_reader_without_a_mapping)
{
	struct tuplebind_lane lane = fixture_lane(1);
	struct tuplebind_slab slab;
	struct table reader;
	unsigned number, found = 0;
	claim c;
	int fd;

	cr_expect_eq(table_open_unmapped(&reader, path, &fd, &fault), -ENOENT);
	cr_assert_eq(attach(&t), 0);
	cr_assert_eq(claim_take_port(&t, &lane, 5555, NULL, &c), 0);
	table_count(&t, TUPLEBIND_BOUND);
	cr_assert_eq(table_open_unmapped(&reader, path, &fd, &fault), 0);
	cr_expect_null(reader.slabs);
	cr_expect_eq(reader.slab_count, t.slab_count);
	cr_expect_eq(table_counter(&reader, TUPLEBIND_BOUND), 1);
	cr_expect_eq(memcmp(&reader.permutation, &t.permutation, sizeof t.permutation), 0);
	for (uint64_t i = 0; i < reader.slab_count; i++) {
		struct tuplebind_lane there;

		cr_assert_eq(pread(fd, &slab, sizeof slab, (off_t)table_slab_offset(i)),
			(ssize_t)sizeof slab);
		if (slab_read(&slab, &there, &number))
			found += memcmp(&there, &lane, sizeof lane) == 0;
	}
	cr_expect_eq(found, 1);
	/* Cut short under it the copy is what it was, and there is nothing more to read. */
	table_detach(&t);
	cr_assert_eq(truncate(path, 4096), 0);
	cr_expect_eq(table_counter(&reader, TUPLEBIND_BOUND), 1);
	cr_expect_eq(pread(fd, &slab, sizeof slab, (off_t)table_slab_offset(0)), 0);
	table_detach(&reader);
	close(fd);
	cr_expect_eq(table_open_unmapped(&reader, path, &fd, &fault), -EINVAL);
}

Test(table, paths)
{
	struct netns other = {.inode = 4026531840};
	char text[TABLE_PATH_MAX];

	place_path(text, NULL, 1000, &other, 0);
	cr_expect_str_eq(text, "/dev/shm/tuplebind.1000.4026531840");
	place_path(text, "mine", 0, &other, 0);
	cr_expect_str_eq(text, "/dev/shm/tuplebind.0.4026531840.mine");
	place_path(text, "mine", 0, &other, 7);
	cr_expect_str_eq(text, "/dev/shm/tuplebind.0.4026531840.mine~7");
	cr_expect_str_eq(place_suffix(text), "~7");
	cr_expect_str_eq(place_suffix("tuplebind.0.1.a~8"), "");
	cr_expect_str_eq(place_suffix("tuplebind.0.1.a~0"), "");
	cr_expect_str_eq(place_suffix("tuplebind.0.1.a~11"), "");
}

Test(table, longest_path_fits)
{
	struct netns other = {.inode = UINT64_MAX};
	char text[TABLE_PATH_MAX], longest[TABLE_NAME_MAX + 1];

	memset(longest, 'x', TABLE_NAME_MAX);
	longest[TABLE_NAME_MAX] = '\0';
	place_path(text, longest, UINT32_MAX, &other, 0);
	cr_expect_str_eq(strrchr(text, '.') + 1, longest);
	place_path(text, longest, UINT32_MAX, &other, TABLE_PLACES - 1);
	cr_expect_str_eq(place_suffix(text), "~7");
}

Test(table, names)
{
	static const char *const good[] = {"a", "A-Z_0.9", "unit-1", "private", "a..b", "-"};
	static const char *const bad[] = {
		"", ".", "..", ".hidden", "a/b", "../x", "a b", "a\n", "\xc3\xa4", "a:b", "a%s"};
	char longest[TABLE_NAME_MAX + 2];

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		cr_expect(table_name_valid(good[i]), "\"%s\"", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		cr_expect_not(table_name_valid(bad[i]), "\"%s\"", bad[i]);
	memset(longest, 'x', sizeof longest);
	longest[TABLE_NAME_MAX + 1] = '\0';
	cr_expect_not(table_name_valid(longest));
	longest[TABLE_NAME_MAX] = '\0';
	cr_expect(table_name_valid(longest));
}
