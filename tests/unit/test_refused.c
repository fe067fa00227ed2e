/*
 * System calls that fail, as under a sandbox, at a limit, or on an old kernel: what is then made of
 * them, and what the program is told. Each case in a process of its own, which has the calls
 * refused by a filter and then looks.
 */
#include "base/random.h"
#include "choose/source.h"
#include "fixture.h"
#include "kernel/addresses.h"
#include "kernel/diag.h"
#include "kernel/listeners.h"
#include "kernel/netns.h"
#include "kernel/route.h"
#include "kernel/sysctl.h"
#include "kernel/timewait.h"
#include "table/process.h"
#include "table/reap.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct fixture_connection connection;
static struct addresses_buffer buffer;
static struct fault fault;
static struct netns ns;
static struct table t;
static char name[32], path[TABLE_PATH_MAX];

struct refusal {
	int number, argument;
	uint32_t value;
	int error;
};

struct refused_case {
	const char *what;
	struct refusal calls[3];
	bool (*holds)(void);
};

#define ALL -1, 0 /* whatever the arguments are */

/* What libc's stat() may call; not every machine has it. */
#ifndef SYS_stat
#define SYS_stat SYS_newfstatat
#endif

static void expect_all(const struct refused_case *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int status = -1;
		pid_t child = fork();

		if (child == 0) {
			for (unsigned k = 0; k < 3 && cases[i].calls[k].error != 0; k++)
				fixture_refuse(cases[i].calls[k].number, cases[i].calls[k].argument,
					cases[i].calls[k].value, cases[i].calls[k].error);
			_exit(cases[i].holds() ? 0 : 1);
		}
		cr_assert_eq(waitpid(child, &status, 0), child);
		cr_expect_eq(status, 0, "%s", cases[i].what);
	}
}

static void setup(void)
{
	cr_assert_eq(netns_current(&ns), 0);
	snprintf(name, sizeof name, "refused-%d", (int)getpid());
	place_path(path, name, place_uid(), &ns, 0);
}

static void teardown(void)
{
	unlink(path);
}

TestSuite(refused, .init = setup, .fini = teardown);

/* Random bytes. */

static bool bytes_are_drawn(void)
{
	uint8_t one[32] = {0}, other[32] = {0}, none[32] = {0};

	random_bytes(one, sizeof one);
	random_bytes(other, sizeof other);
	return memcmp(one, none, sizeof none) != 0 && memcmp(other, none, sizeof none) != 0 &&
	       memcmp(one, other, sizeof one) != 0;
}

Test(refused, random_bytes)
{
	static const struct refused_case cases[] = {
		{"GRND_INSECURE is newer", {{SYS_getrandom, 2, 4, EINVAL}}, bytes_are_drawn},
		{"no generator", {{SYS_getrandom, ALL, ENOSYS}}, bytes_are_drawn},
	};

	expect_all(cases, sizeof cases / sizeof *cases);
}

/* Questions. */

static void see(
	void *context, const struct tuplebind_lane *lane, uint16_t lport, enum diag_state state)
{
	_exit(2);
}

static void see_port(void *context, uint16_t port)
{
	_exit(2);
}

static bool diag_is(int error)
{
	return diag_tuple(&connection.lane, connection.lport) == error &&
	       diag_dump(IPPROTO_TCP, 0, see, NULL) == error &&
	       diag_listeners(see_port, NULL) == error;
}

static bool diag_has_no_socket(void)
{
	return diag_is(-EMFILE) && diag_open() == -EMFILE && diag_answers(IPPROTO_UDP) == -EMFILE;
}

static bool diag_is_forbidden(void)
{
	return diag_is(-EPERM) && diag_answers(IPPROTO_UDP) == -EPERM;
}

Test(refused, sock_diag)
{
	static const struct refused_case cases[] = {
		{"netlink", {{SYS_socket, 0, AF_NETLINK, EMFILE}}, diag_has_no_socket},
		{"question", {{SYS_sendmsg, ALL, EPERM}}, diag_is_forbidden},
		{"answer", {{SYS_recvfrom, ALL, EPERM}}, diag_is_forbidden},
	};

	fixture_connect(&connection);
	expect_all(cases, sizeof cases / sizeof *cases);
}

static struct listeners listeners;

static bool port_has_listener(void)
{
	/* As if a second had passed. */
	atomic_store(&listeners.asked, 0);
	return listeners_has(&listeners, connection.lane.fport);
}

static bool port_has_no_listener(void)
{
	return !port_has_listener();
}

Test(refused, listeners_that_were_known)
{
	static const struct refused_case cases[] = {
		{"netlink", {{SYS_socket, 0, AF_NETLINK, EMFILE}}, port_has_listener},
		{"question", {{SYS_sendmsg, ALL, EPERM}}, port_has_listener},
		{"nothing", {{0}}, port_has_no_listener},
	};

	fixture_connect(&connection);
	cr_assert(port_has_listener());
	close(connection.listener);
	expect_all(cases, sizeof cases / sizeof *cases);
}

static bool interface_is(const char *interface, int error)
{
	struct addr a;

	return addresses_of(interface, &a, 1, &buffer) == error;
}

static bool no_interface_by_that_name(void)
{
	return interface_is("longer-than-any-interface", -ENODEV) &&
	       interface_is("none-such", -ENODEV) && addresses_of("lo", NULL, 0, &buffer) > 0;
}

static bool addresses_are_not_told(void)
{
	return interface_is("lo", -EPERM);
}

Test(refused, addresses)
{
	static const struct refused_case cases[] = {
		{"nothing", {{0}}, no_interface_by_that_name},
		{"netlink", {{SYS_socket, 0, AF_NETLINK, EPERM}}, addresses_are_not_told},
		{"index", {{SYS_ioctl, ALL, EPERM}}, addresses_are_not_told},
		{"question", {{SYS_sendto, ALL, EPERM}}, addresses_are_not_told},
		{"answer", {{SYS_recvfrom, ALL, EPERM}}, addresses_are_not_told},
	};

	expect_all(cases, sizeof cases / sizeof *cases);
}

static bool interface_is_no_pool(void)
{
	struct pool pool = {.parts = NULL};

	return pool_parse("lo", &pool, &fault) < 0 && strstr(fault.text, "does not tell") != NULL;
}

Test(refused, an_interface_as_a_pool)
{
	static const struct refused_case cases[] = {
		{"netlink", {{SYS_socket, 0, AF_NETLINK, EPERM}}, interface_is_no_pool},
	};

	expect_all(cases, sizeof cases / sizeof *cases);
}

/* Whether there is a route cannot be said; the source address is still found. */
static bool routes_are_found_by_socket(void)
{
	struct addr to, from = {.scope = 0};
	unsigned bits = 77;

	addr_parse("127.0.0.1", &to);
	return route_source(&to, IPPROTO_TCP, 80, &from) == 0 && addr_equal(&from, &to) &&
	       route_check(&to, &to) == 0 && !route_is_local(&to, &bits) && bits == 77;
}

static bool routes_are_not_found(void)
{
	struct addr to, from;

	addr_parse("127.0.0.1", &to);
	return route_source(&to, IPPROTO_TCP, 80, &from) == -EMFILE;
}

static bool routes_are_found(void)
{
	struct addr to, from = {.scope = 0};
	unsigned bits = 0;

	addr_parse("127.0.0.1", &to);
	return route_source(&to, IPPROTO_TCP, 80, &from) == 0 && addr_equal(&from, &to) &&
	       route_check(&to, &to) == 0 && route_is_local(&to, &bits) && bits >= 8;
}

Test(refused, routes)
{
	static const struct refused_case cases[] = {
		{"nothing", {{0}}, routes_are_found},
		{"netlink", {{SYS_socket, 0, AF_NETLINK, EAFNOSUPPORT}},
			routes_are_found_by_socket},
		{"question", {{SYS_sendto, ALL, EPERM}}, routes_are_found_by_socket},
		{"answer", {{SYS_recvfrom, ALL, EPERM}}, routes_are_found_by_socket},
		{"both ways",
			{{SYS_socket, 0, AF_NETLINK, EPERM}, {SYS_socket, 0, AF_INET, EMFILE}},
			routes_are_not_found},
		{"connect", {{SYS_socket, 0, AF_NETLINK, EPERM}, {SYS_connect, ALL, EMFILE}},
			routes_are_not_found},
	};

	expect_all(cases, sizeof cases / sizeof *cases);
}

static struct source_memory *memory;
static struct rule rule;

static bool source_is(const char *to, const char *from)
{
	struct addr faddr, laddr, expected;
	struct source_walk w;

	addr_parse(to, &faddr);
	source_walk_start(&w, memory, &rule, BALANCE_ROTATE, &faddr, IPPROTO_TCP, 80);
	if (from == NULL)
		return !source_walk_next(&w, &laddr);
	addr_parse(from, &expected);
	return source_walk_next(&w, &laddr) && addr_equal(&laddr, &expected);
}

/* What was true a while ago stays, when it is long past its second. */
static bool source_is_remembered(void)
{
	return source_is("127.0.0.1", "127.0.0.1") && source_is("127.0.0.2", NULL);
}

static bool source_is_not_known(void)
{
	return source_is("127.0.0.1", NULL);
}

Test(refused, sources_that_were_known)
{
	static const struct refused_case cases[] = {
		{"descriptors of the process", {{SYS_socket, ALL, EMFILE}}, source_is_remembered},
		{"descriptors of the system", {{SYS_socket, ALL, ENFILE}}, source_is_remembered},
		{"routes", {{SYS_socket, ALL, EPERM}}, source_is_not_known},
	};

	memory = fixture_shared(sizeof *memory);
	source_start(memory, 7);
	cr_assert(source_is("127.0.0.1", "127.0.0.1"));
	sleep(3);
	expect_all(cases, sizeof cases / sizeof *cases);
}

static bool probe_says(enum timewait expected)
{
	struct addr faddr = {.scope = connection.lane.scope};

	memcpy(faddr.bytes, connection.lane.faddr, sizeof faddr.bytes);
	return timewait_probe(&connection.lane, connection.lport, false, &faddr,
		       connection.lane.fport) == expected;
}

static bool probe_does_not_know(void)
{
	return probe_says(TIMEWAIT_UNKNOWN);
}

static bool probe_is_refused(void)
{
	return probe_says(TIMEWAIT_REFUSED);
}

static bool probe_has_it(void)
{
	return probe_says(TIMEWAIT_REUSABLE);
}

/* Last the one that has the tuple, and leaves it to nobody. */
Test(refused, tuples_in_time_wait)
{
	static const struct refused_case cases[] = {
		{"socket", {{SYS_socket, 0, AF_INET, EMFILE}}, probe_does_not_know},
		{"Fast Open", {{SYS_setsockopt, 1, IPPROTO_TCP, ENOPROTOOPT}}, probe_does_not_know},
		{"SO_REUSEADDR", {{SYS_setsockopt, 1, SOL_SOCKET, EPERM}}, probe_does_not_know},
		{"bind", {{SYS_bind, ALL, EADDRINUSE}}, probe_does_not_know},
		{"connect", {{SYS_connect, ALL, EPERM}}, probe_does_not_know},
		{"the tuple", {{SYS_connect, ALL, EADDRNOTAVAIL}}, probe_is_refused},
		{"nothing", {{0}}, probe_has_it},
	};

	int on = 1;

	fixture_connect(&connection);
	/* Shared, as ours all are. */
	cr_assert_eq(setsockopt(connection.client, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
	close(connection.client);
	close(connection.server);
	cr_assert_eq(diag_tuple(&connection.lane, connection.lport), DIAG_TIMEWAIT);
	expect_all(cases, sizeof cases / sizeof *cases);
}

static bool namespace_has_no_cookie(void)
{
	struct netns now;

	return netns_current(&now) == 0 && now.inode == ns.inode && now.cookie == 0;
}

static bool socket_may_be_anywhere(void)
{
	struct netns other = {.inode = ns.inode + 1, .cookie = ns.cookie + 1};

	return namespace_has_no_cookie() && netns_has_socket(&other, connection.client);
}

static bool cookie_stands_in(void)
{
	struct netns now;

	return netns_current(&now) == 0 && now.cookie == ns.cookie && now.inode == ns.cookie;
}

static bool namespace_is_unknown(void)
{
	struct netns now;

	return netns_current(&now) == -ENOENT;
}

Test(refused, the_namespace)
{
	static const struct refused_case cases[] = {
		{"socket", {{SYS_socket, ALL, EMFILE}}, namespace_has_no_cookie},
		{"cookie", {{SYS_getsockopt, ALL, ENOPROTOOPT}}, socket_may_be_anywhere},
		{"/proc", {{SYS_newfstatat, ALL, ENOENT}, {SYS_stat, ALL, ENOENT}},
			cookie_stands_in},
		{"both",
			{{SYS_newfstatat, ALL, ENOENT}, {SYS_stat, ALL, ENOENT},
				{SYS_socket, ALL, EMFILE}},
			namespace_is_unknown},
	};

	fixture_connect(&connection);
	if (ns.cookie == 0)
		cr_skip_test("this kernel has no cookies");
	expect_all(cases, sizeof cases / sizeof *cases);
}

static bool ports_are_the_default(void)
{
	struct portset range, offered, wanted = fixture_ports("32768-60999");

	return sysctl_ports(&range, &offered) == -EACCES &&
	       memcmp(&range, &wanted, sizeof wanted) == 0 &&
	       memcmp(&offered, &wanted, sizeof wanted) == 0;
}

Test(refused, the_range_of_ports)
{
	static const struct refused_case cases[] = {
		{"files", {{SYS_openat, ALL, EACCES}}, ports_are_the_default},
	};

	expect_all(cases, sizeof cases / sizeof *cases);
}

/* Tables. */

/* Files of this name, whole or not. */
static unsigned files(void)
{
	const char *file = strrchr(path, '/') + 1;
	DIR *directory = opendir(TABLE_DIRECTORY);
	unsigned count = 0;

	for (const struct dirent *e; directory != NULL && (e = readdir(directory)) != NULL;)
		count += strncmp(e->d_name, file, strlen(file)) == 0;
	closedir(directory);
	return count;
}

/* A refusal that says @why, and has left nothing behind. */
static bool is_not_made(int error, const char *why)
{
	return table_attach(&t, name, TABLE_SIZE_MIN, &ns, &fault) == error &&
	       strstr(fault.text, path) != NULL && strstr(fault.text, why) != NULL && files() == 0;
}

static bool no_room(void)
{
	return is_not_made(-ENOSPC, "free some");
}

static bool no_mode(void)
{
	return is_not_made(-EPERM, strerror(EPERM));
}

static bool no_memory_to_make_it(void)
{
	return is_not_made(-ENOMEM, "TUPLEBIND_TABLE=private may help");
}

static bool no_private_one(void)
{
	return table_attach(&t, TABLE_PRIVATE, TABLE_SIZE_MIN, &ns, &fault) == -ENOMEM &&
	       strstr(fault.text, "smaller TUPLEBIND_TABLE_SIZE") != NULL;
}

static bool no_name(void)
{
	return is_not_made(-EACCES, strerror(EACCES));
}

/* Somebody makes it and removes it, again and again. */
static bool keeps_changing(void)
{
	return is_not_made(-EAGAIN, "keeps changing");
}

static bool no_directory(void)
{
	return table_attach(&t, name, TABLE_SIZE_MIN, &ns, &fault) == -EACCES &&
	       strstr(fault.text, path) != NULL;
}

Test(refused, a_table_that_is_made)
{
	static const struct refused_case cases[] = {
		{"room", {{SYS_fallocate, ALL, ENOSPC}}, no_room},
		{"mode", {{SYS_fchmod, ALL, EPERM}}, no_mode},
		{"memory", {{SYS_mmap, 3, MAP_SHARED, ENOMEM}}, no_memory_to_make_it},
		{"memory of a private one", {{SYS_mmap, 3, MAP_SHARED | MAP_ANONYMOUS, ENOMEM}},
			no_private_one},
#ifdef SYS_link
		{"name", {{SYS_link, ALL, EACCES}, {SYS_linkat, ALL, EACCES}}, no_name},
		{"name taken", {{SYS_link, ALL, EEXIST}, {SYS_linkat, ALL, EEXIST}},
			keeps_changing},
#else
		{"name", {{SYS_linkat, ALL, EACCES}}, no_name},
		{"name taken", {{SYS_linkat, ALL, EEXIST}}, keeps_changing},
#endif
		{"file", {{SYS_openat, ALL, EACCES}}, no_directory},
	};

	expect_all(cases, sizeof cases / sizeof *cases);
}

/* Where no leases are granted nothing is known of who uses a file, so it stays. */
static bool another_version_is_passed_over(void)
{
	struct stat st;

	return table_attach(&t, name, TABLE_SIZE_MIN, &ns, &fault) == 0 &&
	       strcmp(place_suffix(t.path), "~1") == 0 && stat(path, &st) == 0 &&
	       place_remove(path, &st, false) == -EOPNOTSUPP && unlink(t.path) == 0;
}

static bool another_version_stays(void)
{
	return table_attach(&t, name, TABLE_SIZE_MIN, &ns, &fault) == -EPERM &&
	       strstr(fault.text, path) != NULL && access(path, F_OK) == 0;
}

#ifdef SYS_unlink
#define UNLINK SYS_unlink
#else
#define UNLINK SYS_unlinkat
#endif

Test(refused, removing_another_version)
{
	static const struct refused_case cases[] = {
		{"unlink", {{UNLINK, ALL, EPERM}}, another_version_stays},
	};

	cr_assert_eq(table_attach(&t, name, TABLE_SIZE_MIN, &ns, &fault), 0, "%s", fault.text);
	t.header->identity.version--;
	table_detach(&t);
	expect_all(cases, sizeof cases / sizeof *cases);
}

static bool is_made(void)
{
	bool made = table_attach(&t, name, TABLE_SIZE_MIN, &ns, &fault) == 0;

	unlink(path);
	return made;
}

Test(refused, clearing_after_a_table_was_made)
{
	static const struct refused_case cases[] = {
		{"directory", {{SYS_openat, 2, O_RDONLY | O_DIRECTORY | O_CLOEXEC, EACCES}},
			is_made},
	};

	expect_all(cases, sizeof cases / sizeof *cases);
}

Test(refused, a_lease)
{
	static const struct refused_case cases[] = {
		{"lease", {{SYS_fcntl, 1, F_SETLEASE, EINVAL}}, another_version_is_passed_over},
		{"signal", {{SYS_fcntl, 1, F_SETSIG, EINVAL}}, another_version_is_passed_over},
	};

	cr_assert_eq(table_attach(&t, name, TABLE_SIZE_MIN, &ns, &fault), 0, "%s", fault.text);
	t.header->identity.version--;
	table_detach(&t);
	expect_all(cases, sizeof cases / sizeof *cases);
}

/* A refusal of the table that is there, by all ways to open it. */
static bool is_not_opened(int error, const char *why)
{
	int fd;

	return table_attach(&t, name, TABLE_SIZE_MIN, &ns, &fault) == error &&
	       strstr(fault.text, why) != NULL && table_find(&t, name, &ns, &fault) == error &&
	       strstr(fault.text, why) != NULL && table_open(&t, path, false, &fault) == error &&
	       strstr(fault.text, why) != NULL &&
	       table_open_unmapped(&t, path, &fd, &fault) == error &&
	       strstr(fault.text, why) != NULL;
}

static bool no_memory_to_open_it(void)
{
	return is_not_opened(-ENOMEM, "ulimit -v");
}

static bool is_not_looked_at(void)
{
	return is_not_opened(-EIO, strerror(EIO));
}

static bool is_not_read(void)
{
	return is_not_opened(-EINVAL, "too short");
}

/* Only who reads it all, behind the identity. */
static bool is_cut_short(void)
{
	int fd;

	return table_open_unmapped(&t, path, &fd, &fault) == -EINVAL &&
	       strstr(fault.text, "cut short while it was read") != NULL;
}

Test(refused, a_table_that_is_there)
{
	static const struct refused_case cases[] = {
		{"memory",
			{{SYS_mmap, 3, MAP_SHARED, ENOMEM},
				{SYS_mmap, 3, MAP_PRIVATE | MAP_ANONYMOUS, ENOMEM}},
			no_memory_to_open_it},
		{"what it is", {{SYS_newfstatat, ALL, EIO}, {SYS_fstat, ALL, EIO}},
			is_not_looked_at},
		{"its identity", {{SYS_pread64, ALL, EIO}}, is_not_read},
		{"its header", {{SYS_pread64, 2, sizeof(struct tuplebind_header), EIO}},
			is_cut_short},
	};

	cr_assert_eq(table_attach(&t, name, TABLE_SIZE_MIN, &ns, &fault), 0, "%s", fault.text);
	expect_all(cases, sizeof cases / sizeof *cases);
	table_detach(&t);
}

/* Reap. */

static struct tuplebind_lane lane;
static claim stray;

static bool does_not_begin(void)
{
	struct reap r;
	uint64_t strays = process_strays(&t);

	return reap_start(&r, &t) == -EMFILE && atomic_load(&t.header->reaper) == 0 &&
	       !reap_claim(&t, stray) && process_strays(&t) == strays + 1 &&
	       fixture_claims(&t) == 1;
}

/* What is not known to be gone stays, and is looked for again. */
static bool takes_nothing(void)
{
	uint64_t strays = process_strays(&t);
	unsigned number = 0;
	struct reap r;

	if (reap_start(&r, &t) != 0)
		return false;
	bool nothing = reap_slab(&r, claim_slab(&t, stray), NULL) == -EPERM &&
		       reap_lane(&r, &lane, &number, UINT32_MAX, UINT64_MAX) == 0;
	reap_end(&r);
	return nothing && !reap_claim(&t, stray) && process_strays(&t) == strays + 1 &&
	       fixture_claims(&t) == 1;
}

static bool takes_it(void)
{
	return reap_claim(&t, stray) && fixture_claims(&t) == 0 && reap_claim(&t, stray);
}

Test(refused, reap)
{
	static const struct refused_case cases[] = {
		{"netlink", {{SYS_socket, 0, AF_NETLINK, EMFILE}}, does_not_begin},
		{"question", {{SYS_sendmsg, ALL, EPERM}}, takes_nothing},
		{"nothing", {{0}}, takes_it},
	};

	fixture_table(&t, 0);
	lane = fixture_lane(1);
	cr_assert_eq(claim_take_port(&t, &lane, 5555, NULL, &stray), 0);
	expect_all(cases, sizeof cases / sizeof *cases);
}

/* Who holds a place is then known by its id alone. */
static bool own_id_does(void)
{
	return process_start_time(getpid()) == 0 && process_token_alive((uint32_t)getpid()) &&
	       !process_token_alive(fixture_dead_pid());
}

Test(refused, times_of_start)
{
	static const struct refused_case cases[] = {
		{"/proc", {{SYS_openat, ALL, EACCES}}, own_id_does},
		{"reading", {{SYS_read, ALL, EIO}}, own_id_does},
	};

	expect_all(cases, sizeof cases / sizeof *cases);
}

/* By its id alone as well; what another namespace has counts as living. */
static bool home_is_unknown(void)
{
	struct process_self self = {.entry = NULL};

	process_enter(&t, &self);
	if (self.entry == NULL || atomic_load(&self.entry->pid_namespace) != 0 ||
		!process_alive(self.entry))
		return false;
	atomic_store(&self.entry->pid, fixture_dead_pid());
	bool gone = !process_alive(self.entry);
	atomic_store(&self.entry->pid_namespace, 4026531836);
	return gone && process_alive(self.entry);
}

Test(refused, the_namespace_of_processes)
{
	static const struct refused_case cases[] = {
		{"/proc", {{SYS_newfstatat, ALL, ENOENT}, {SYS_stat, ALL, ENOENT}},
			home_is_unknown},
	};

	fixture_table(&t, 0);
	expect_all(cases, sizeof cases / sizeof *cases);
}
