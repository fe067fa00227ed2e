/*
 * redirect CGROUP FROM BITS TO PORT PROGRAM [ARG...]: runs the program in a control group whose
 * connects to addresses of the prefix FROM/BITS go to TO, PORT instead.
 *
 * That is what a socket load balancer does (Kubernetes' services): a program of the kernel's,
 * attached to cgroup/connect4 or connect6, writes another destination over the one that connect()
 * was given. CGROUP is an empty folder of a cgroup2 file system. For IPv6 the prefix is one of
 * whole groups of 32 bits. Exits with 77 when this system lets it attach no such program.
 */
#include "endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UNABLE 77
#define MOST   64

static struct bpf_insn program[MOST];
static unsigned length;

static void put(uint8_t code, uint8_t to, uint8_t from, int16_t offset, int32_t number)
{
	program[length++] = (struct bpf_insn){
		.code = code, .dst_reg = to, .src_reg = from, .off = offset, .imm = number};
}

/* What the kernel's program is given, in register 1; words are in network order. */
static int16_t field(bool v4, unsigned word)
{
	return (int16_t)(v4 ? offsetof(struct bpf_sock_addr, user_ip4)
			    : offsetof(struct bpf_sock_addr, user_ip6) + 4 * word);
}

static const uint32_t *words_of(const struct endpoint *e, bool v4)
{
	return v4 ? &((const struct sockaddr_in *)&e->address)->sin_addr.s_addr
		  : (const uint32_t *)&((const struct sockaddr_in6 *)&e->address)->sin6_addr;
}

static uint32_t mask_of(unsigned bits)
{
	return bits == 0 ? 0 : htonl(UINT32_MAX << (32 - (bits > 32 ? 32 : bits)));
}

/* Words that do not match jump to the end, which lets the connect() pass as it is. */
static void write_program(const struct endpoint *from, unsigned bits, const struct endpoint *to)
{
	bool v4 = from->address.ss_family == AF_INET;
	unsigned jumps[4], jump_count = 0;

	for (unsigned w = 0; w < (v4 ? 1 : 4) && bits > 32 * w; w++) {
		uint32_t mask = mask_of(bits - 32 * w);

		put(BPF_LDX | BPF_MEM | BPF_W, 2, 1, field(v4, w), 0);
		put(BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, (int32_t)mask);
		put(BPF_ALU | BPF_MOV | BPF_K, 3, 0, 0, (int32_t)(words_of(from, v4)[w] & mask));
		jumps[jump_count++] = length;
		put(BPF_JMP | BPF_JNE | BPF_X, 2, 3, 0, 0);
	}
	for (unsigned w = 0; w < (v4 ? 1 : 4); w++) {
		put(BPF_ALU | BPF_MOV | BPF_K, 2, 0, 0, (int32_t)words_of(to, v4)[w]);
		put(BPF_STX | BPF_MEM | BPF_W, 1, 2, field(v4, w), 0);
	}
	put(BPF_ALU | BPF_MOV | BPF_K, 2, 0, 0,
		((const struct sockaddr_in *)&to->address)->sin_port);
	put(BPF_STX | BPF_MEM | BPF_W, 1, 2, offsetof(struct bpf_sock_addr, user_port), 0);
	for (unsigned i = 0; i < jump_count; i++)
		program[jumps[i]].off = (int16_t)(length - jumps[i] - 1);
	put(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
	put(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static int give_up(const char *what)
{
	fprintf(stderr, "redirect: %s: %s\n", what, strerror(errno));
	return UNABLE;
}

static int attach(const char *group, uint32_t type)
{
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
		.expected_attach_type = type,
		.insns = (uintptr_t)program,
		.insn_cnt = length,
		.license = (uintptr_t) "GPL",
	};
	union bpf_attr attached = {.attach_type = type};
	int folder = open(group, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (folder < 0)
		return give_up(group);
	int loaded = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
	if (loaded < 0)
		return give_up("the program cannot be loaded");
	attached.target_fd = (uint32_t)folder;
	attached.attach_bpf_fd = (uint32_t)loaded;
	if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attached, sizeof attached) < 0)
		return give_up("the program cannot be attached");
	close(loaded);
	close(folder);
	return 0;
}

static int enter(const char *group)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/cgroup.procs", group);
	FILE *file = fopen(path, "we");
	if (file == NULL || fprintf(file, "%d\n", getpid()) < 0 || fclose(file) != 0)
		return give_up(path);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 7) {
		fprintf(stderr, "usage: redirect CGROUP FROM BITS TO PORT PROGRAM [ARG...]\n");
		return 2;
	}
	struct endpoint from = endpoint_read(argv[2], "0"), to = endpoint_read(argv[4], argv[5]);
	write_program(&from, (unsigned)atoi(argv[3]), &to);
	int unable = attach(argv[1], from.address.ss_family == AF_INET ? BPF_CGROUP_INET4_CONNECT
								       : BPF_CGROUP_INET6_CONNECT);
	if (unable == 0)
		unable = enter(argv[1]);
	if (unable != 0)
		return unable;
	execvp(argv[6], argv + 6);
	return give_up(argv[6]);
}
