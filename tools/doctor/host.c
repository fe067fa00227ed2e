/*
 * The host as doctor looks at it: the kernel, its ports, its limits.
 */
#include "tools/doctor/parts.h"

#include "tools/common/portrange.h"
#include "tools/common/probe.h"
#include "tools/common/proc.h"

#include "kernel/diag.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#define PORTS_FEW	  1024
#define PORTS_OF_KERNEL	  28232 /* 32768-60999, as the kernel is delivered */
#define FILES_FEW	  1024
#define FILES_PLENTY	  1048576
#define SOMAXCONN_DEFAULT 4096
#define CONNTRACK_LEAST	  262144
#define FASTOPEN_CLIENTS  1 /* TFO_CLIENT_ENABLE of net.ipv4.tcp_fastopen */

/* Something of which @used of @most are used: how bad is that? */
static enum level level_of_use(uint64_t used, uint64_t most)
{
	return used * 10 >= most * 9 ? LEVEL_MEND : used * 2 >= most ? LEVEL_NOTE : LEVEL_OK;
}

void doctor_kernel(struct doctor *d)
{
	struct utsname name;
	bool late = probe_late_bind();

	uname(&name);
	doctor_tell(d, late ? LEVEL_OK : LEVEL_NOTE, "kernel",
		"late bind needs Linux 6.3; without it connects cost more, and ports are taken "
		"from the programs that run without tuplebind",
		NULL, "Linux %s: %s", name.release, late ? "late bind" : "explicit bind only");
	int error = diag_answers(IPPROTO_TCP);
	doctor_tell(d, error == 0 ? LEVEL_OK : LEVEL_MEND, "sock_diag",
		"without it claims of killed programs cannot be given back: where they fill all "
		"ports the kernel searches, as slowly as for any program; and tuples in TIME_WAIT "
		"cannot be told from those in use (a sandbox is to allow AF_NETLINK)",
		"modprobe tcp_diag", "%s", error == 0 ? "there" : strerror(-error));
	if (!(d->plan.protocols & PROTOCOL_UDP))
		return;
	error = diag_answers(IPPROTO_UDP);
	doctor_tell(d, error == 0 ? LEVEL_OK : LEVEL_MEND, "udp_diag",
		"without it UDP is left to the kernel (a sandbox is to allow AF_NETLINK)",
		"modprobe udp_diag", "%s", error == 0 ? "there" : strerror(-error));
}

/* Whether some rule takes what the kernel offers. */
static bool takes_offered(const struct doctor *d)
{
	for (unsigned i = 0; i < d->plan.ports_count; i++)
		if (d->plan.ports[i]->wanted.automatic)
			return true;
	return false;
}

static void look_at_range(struct doctor *d)
{
	unsigned count = portset_count(&d->range);
	enum level level = !takes_offered(d)	     ? LEVEL_OK
			   : count < PORTS_FEW	     ? LEVEL_MEND
			   : count < PORTS_OF_KERNEL ? LEVEL_NOTE
						     : LEVEL_OK;

	doctor_tell(d, level, "ip_local_port_range",
		"so many connections to one destination from one address, where no ports are given",
		"sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"", "%u ports, %u-%u", count,
		ports_first(&d->range), ports_last(&d->range));
}

static void look_at_reserved(struct doctor *d)
{
	unsigned all = portset_count(&d->range), left = portset_count(&d->offered);
	enum level level = left == all || !takes_offered(d) ? LEVEL_OK
			   : left * 2 < all		    ? LEVEL_MEND
							    : LEVEL_NOTE;

	doctor_tell(d, level, "ip_local_reserved_ports",
		"they are not used where no ports are given",
		"sysctl -w net.ipv4.ip_local_reserved_ports=\"\"",
		"%u ports of the range are reserved", all - left);
}

/* Ports that were given but are past the kernel's range cannot be had by late bind. */
static void look_at_given_ports(struct doctor *d)
{
	for (unsigned i = 0; i < d->plan.ports_count; i++) {
		const struct plan_ports *ports = d->plan.ports[i];
		struct portset wanted, outside;
		char command[DOCTOR_COMMAND];
		unsigned first = ports_first(&d->range), last = ports_last(&d->range);

		ports_resolve(&ports->wanted, &d->offered, &wanted);
		outside = wanted;
		portset_remove(&outside, &d->range);
		if (portset_count(&outside) == 0)
			continue;
		first = ports_first(&outside) < first ? ports_first(&outside) : first;
		last = ports_last(&outside) > last ? ports_last(&outside) : last;
		snprintf(command, sizeof command,
			"sysctl -w net.ipv4.ip_local_port_range=\"%u %u\"", first, last);
		doctor_tell(d, LEVEL_NOTE, "ip_local_port_range",
			"they are given by explicit bind, which costs more, and are lost to "
			"programs without tuplebind while they are used",
			command, "%u of %u ports of %.200s are outside of it",
			portset_count(&outside), portset_count(&wanted), ports->text);
	}
}

static void look_at_timestamps(struct doctor *d)
{
	uint64_t value;

	if (proc_number("/proc/sys/net/ipv4/tcp_timestamps", &value))
		doctor_tell(d, value != 0 ? LEVEL_OK : LEVEL_MEND, "tcp_timestamps",
			"tuples in TIME_WAIT can only be used again after a minute",
			"sysctl -w net.ipv4.tcp_timestamps=1", "%s", value != 0 ? "on" : "off");
}

static void look_at_fastopen(struct doctor *d)
{
	char command[64];
	uint64_t value;

	if (!proc_number("/proc/sys/net/ipv4/tcp_fastopen", &value))
		return;
	bool on = value & FASTOPEN_CLIENTS;
	snprintf(command, sizeof command, "sysctl -w net.ipv4.tcp_fastopen=%" PRIu64,
		value | FASTOPEN_CLIENTS);
	doctor_tell(d, on ? LEVEL_OK : LEVEL_NOTE, "tcp_fastopen",
		"whether a peer lets tuples in TIME_WAIT be used again is found out by a connect "
		"that may fail",
		command, "%s", on ? "allowed to clients" : "not allowed to clients");
}

static void look_at_reuse(struct doctor *d)
{
	static const char *const words[] = {"off", "on", "loopback only"};
	uint64_t value;

	if (proc_number("/proc/sys/net/ipv4/tcp_tw_reuse", &value))
		doctor_tell(d, value != 0 ? LEVEL_OK : LEVEL_NOTE, "tcp_tw_reuse",
			"connects without tuplebind wait a minute for a tuple in TIME_WAIT; those "
			"with it do not",
			"sysctl -w net.ipv4.tcp_tw_reuse=2", "%s",
			value < sizeof words / sizeof *words ? words[value] : "?");
}

/* Sockets of this network namespace in TIME_WAIT. */
static uint64_t count_timewait(void)
{
	FILE *file = fopen("/proc/net/sockstat", "re");
	unsigned long long count = 0;
	char line[256];

	while (file != NULL && fgets(line, sizeof line, file) != NULL)
		if (sscanf(line, "TCP: inuse %*u orphan %*u tw %llu", &count) == 1)
			break;
	if (file != NULL)
		fclose(file);
	return count;
}

static void look_at_timewait(struct doctor *d)
{
	uint64_t most, used = count_timewait();

	if (!proc_number("/proc/sys/net/ipv4/tcp_max_tw_buckets", &most))
		return;
	enum level level = level_of_use(used, most);
	if (level == LEVEL_OK && most < portset_count(&d->ports))
		level = LEVEL_NOTE;
	doctor_tell(d, level, "tcp_max_tw_buckets",
		"past that the kernel forgets connections at once, and late segments of theirs "
		"meet the next one on the tuple",
		"sysctl -w net.ipv4.tcp_max_tw_buckets=262144",
		"%" PRIu64 " of %" PRIu64 " in TIME_WAIT", used, most);
}

static void look_at_somaxconn(struct doctor *d)
{
	uint64_t value;

	if (proc_number("/proc/sys/net/core/somaxconn", &value))
		doctor_tell(d, value < SOMAXCONN_DEFAULT ? LEVEL_NOTE : LEVEL_OK, "somaxconn",
			"servers of this host drop connections when more than that come at once",
			"sysctl -w net.core.somaxconn=4096", "%" PRIu64, value);
}

static void look_at_conntrack(struct doctor *d)
{
	uint64_t most, used;
	char command[DOCTOR_COMMAND];

	if (!proc_number("/proc/sys/net/netfilter/nf_conntrack_max", &most) ||
		!proc_number("/proc/sys/net/netfilter/nf_conntrack_count", &used)) {
		doctor_tell(d, LEVEL_OK, "nf_conntrack", NULL, NULL, "not loaded");
		return;
	}
	snprintf(command, sizeof command, "sysctl -w net.netfilter.nf_conntrack_max=%" PRIu64,
		most * 4 > CONNTRACK_LEAST ? most * 4 : CONNTRACK_LEAST);
	doctor_tell(d, level_of_use(used, most), "nf_conntrack",
		"when it is full the packets of new connections are dropped", command,
		"%" PRIu64 " of %" PRIu64 " connections tracked", used, most);
}

static void look_at_files(struct doctor *d)
{
	struct rlimit limit;
	char hardness[64] = "by the hard limit", command[DOCTOR_COMMAND];

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	uint64_t soft = limit.rlim_cur, hard = limit.rlim_max;
	enum level level = soft <= FILES_FEW		      ? LEVEL_MEND
			   : soft <= portset_count(&d->ports) ? LEVEL_NOTE
							      : LEVEL_OK;
	if (hard > soft)
		snprintf(hardness, sizeof hardness, "may be raised to %" PRIu64, hard);
	if (hard > portset_count(&d->ports) && hard > FILES_FEW)
		snprintf(command, sizeof command, "ulimit -n %" PRIu64,
			hard < FILES_PLENTY ? hard : FILES_PLENTY);
	else
		snprintf(command, sizeof command, "prlimit --pid $$ --nofile=%d", FILES_PLENTY);
	doctor_tell(d, level, "nofile",
		"a program that does not raise it itself has no more connections at once; before "
		"it is started",
		command, "%" PRIu64 " descriptors, %s", soft, hardness);
}

void doctor_host(struct doctor *d)
{
	look_at_range(d);
	look_at_reserved(d);
	look_at_given_ports(d);
	look_at_timestamps(d);
	look_at_fastopen(d);
	look_at_reuse(d);
	look_at_timewait(d);
	look_at_somaxconn(d);
	look_at_conntrack(d);
	look_at_files(d);
}
