#include "fuzz.h"

#include "base/hash.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

void fuzz_fail(const char *file, int line, const char *condition, const char *format, ...)
{
	va_list arguments;

	/* Not stderr, which a target may have turned away. */
	dprintf(STDERR_FILENO, "%s:%d: does not hold: %s ", file, line, condition);
	va_start(arguments, format);
	vdprintf(STDERR_FILENO, format, arguments);
	va_end(arguments);
	dprintf(STDERR_FILENO, "\n");
	abort();
}

size_t input_bytes(struct input *in, void *to, size_t size)
{
	size_t got = size < in->left ? size : in->left;

	if (got > 0)
		memcpy(to, in->at, got);
	memset((char *)to + got, 0, size - got);
	in->at += got;
	in->left -= got;
	return got;
}

uint8_t input_8(struct input *in)
{
	uint8_t value;

	input_bytes(in, &value, sizeof value);
	return value;
}

uint16_t input_16(struct input *in)
{
	uint16_t value;

	input_bytes(in, &value, sizeof value);
	return value;
}

uint32_t input_32(struct input *in)
{
	uint32_t value;

	input_bytes(in, &value, sizeof value);
	return value;
}

uint64_t input_64(struct input *in)
{
	uint64_t value;

	input_bytes(in, &value, sizeof value);
	return value;
}

char *input_text(struct input *in, char end)
{
	const uint8_t *found = in->left > 0 ? memchr(in->at, end, in->left) : NULL;
	size_t length = found != NULL ? (size_t)(found - in->at) : in->left;

	if (in->left == 0)
		return NULL;
	char *text = malloc(length + 1);
	fuzz_check(text != NULL);
	input_bytes(in, text, length);
	text[length] = '\0';
	if (found != NULL)
		input_8(in);
	return text;
}

void fuzz_check_line(const char *text)
{
	for (const char *c = text; *c != '\0'; c++)
		fuzz_check((unsigned char)*c >= ' ' && *c != 0x7f, "in \"%s\"", text);
}

/* The kernel. */

fuzz_kernel_call *fuzz_kernel;
static uint64_t random_state;

void fuzz_random_start(void)
{
	random_state = 0;
}

static long give_random(void *to, size_t size)
{
	unsigned char *bytes = to;

	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)hash_mix(++random_state);
	return (long)size;
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

/*
 * Six arguments, as libc's own takes them: those that were not given are looked at by nobody, but
 * they are not there to be read.
 */
__attribute__((no_sanitize("address"))) long __wrap_syscall(long number, ...)
{
	long a[6];
	va_list arguments;

	va_start(arguments, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(arguments, long);
	va_end(arguments);
	if (number == SYS_getrandom)
		return give_random((void *)a[0], (size_t)a[1]);
	long answer = fuzz_kernel != NULL ? fuzz_kernel(number, a) : FUZZ_REAL;
	return answer != FUZZ_REAL ? answer
				   : __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Files. */

int fuzz_file(void)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	fuzz_check(fd >= 0 && fchmod(fd, 0600) == 0);
	return fd;
}

void fuzz_file_set(int fd, const void *bytes, size_t size)
{
	fuzz_check(ftruncate(fd, 0) == 0);
	fuzz_check(pwrite(fd, bytes, size, 0) == (ssize_t)size);
}
