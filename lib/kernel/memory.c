#include "kernel/memory.h"

#include <errno.h>
#include <link.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORD ((uintptr_t)8) /* the kernel's signal set */
#define PAGE ((uintptr_t)4096)

/* Where most addresses of sockets are, and stay mapped as long as the program runs. */
static struct {
	uintptr_t data, data_end; /* the program's own variables */
	uintptr_t heap;		  /* from here to the program break: what malloc() gives */
} known;

static int note_data(struct dl_phdr_info *program, size_t size, void *unused)
{
	for (int i = 0; i < program->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &program->dlpi_phdr[i];

		if (part->p_type != PT_LOAD || !(part->p_flags & PF_W))
			continue;
		known.data = program->dlpi_addr + part->p_vaddr;
		known.data_end = known.data + part->p_memsz;
	}
	return 1; /* the first one is the program */
}

void memory_start(void)
{
	dl_iterate_phdr(note_data, NULL);
	known.heap = (uintptr_t)sbrk(0);
}

static bool is_known(uintptr_t first, uintptr_t last)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	/* glibc's sbrk(0) is no system call. */
	return (first >= known.data && last < known.data_end) ||
	       (first / PAGE == here / PAGE && last / PAGE == here / PAGE) ||
	       (known.heap != 0 && first >= known.heap && last < (uintptr_t)sbrk(0));
}

/*
 * Nothing is on the first page, and NULL is no set at all. rt_sigprocmask() reads the set before it
 * looks at what is to be done with it, and nothing is done by ~0: EINVAL, or EFAULT. It takes no
 * descriptor, waits for nothing, and is allowed nearly everywhere. (Abseil asks in the same way:
 * absl/debugging/internal/address_is_readable.cc.)
 */
static bool word_readable(uintptr_t at)
{
	return syscall(SYS_rt_sigprocmask, ~0, at & ~(WORD - 1), NULL, (size_t)WORD) == 0 ||
	       errno != EFAULT;
}

bool memory_readable(const void *at, size_t size)
{
	uintptr_t first = (uintptr_t)at, last = first + size - 1;

	if (first < PAGE || first > last)
		return false;
	if (is_known(first, last))
		return true;
	int saved = errno;
	bool readable =
		word_readable(first) && (first / PAGE == last / PAGE || word_readable(last));

	errno = saved;
	return readable;
}
