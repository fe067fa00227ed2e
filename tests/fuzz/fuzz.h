/*
 * What the fuzz targets share: taking an input apart, invariants, and a kernel that says what the
 * input wants.
 *
 * A target is one function, LLVMFuzzerTestOneInput(), which reads the input as what its parser or
 * reader is given in life, and checks what comes of it. It must do the same for the same input each
 * time, so nothing that it looks at may come from the host: system calls that the library makes by
 * syscall(2) go through fuzz_kernel first (the linker's --wrap). Memory that stays from one input
 * to the next is a finding (LeakSanitizer), and so is an input that takes more than some seconds.
 */
#pragma once

#include "base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the process as a finding when @condition does not hold. */
#define fuzz_check(condition, ...)                                                                 \
	((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition, "" __VA_ARGS__))
_Noreturn void fuzz_fail(const char *file, int line, const char *condition, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* What is left of an input. Behind its end there are zeros. */
struct input {
	const uint8_t *at;
	size_t left;
};

/* Copies the next @size bytes, or fewer at the end, and zeros. Returns how many there were. */
size_t input_bytes(struct input *in, void *to, size_t size);
uint8_t input_8(struct input *in);
uint16_t input_16(struct input *in);
uint32_t input_32(struct input *in);
uint64_t input_64(struct input *in);

/*
 * The input up to the next @end (taken as well, and left out), or all of it, NUL-terminated. Bytes
 * behind a NUL are lost, as in every string. NULL: nothing is left. The caller frees.
 */
char *input_text(struct input *in, char end);

/* A text that is told to a user: one line of it, without control characters. */
void fuzz_check_line(const char *text);

/*
 * Asked before each system call. Returns its result, with errno set for -1, or FUZZ_REAL: the
 * kernel is to answer. getrandom(2) is answered from a fixed sequence that starts anew at
 * fuzz_random_start().
 */
#define FUZZ_REAL (-100000L)
typedef long fuzz_kernel_call(long number, const long arguments[static 6]);
extern fuzz_kernel_call *fuzz_kernel;
void fuzz_random_start(void);

/* Descriptors that no file has, for system calls that a target answers itself. */
#define FUZZ_FD 1000000

/* A file without a name, of mode 0600, that lasts as long as the process. */
int fuzz_file(void);

/* Makes @bytes the contents of the file. */
void fuzz_file_set(int fd, const void *bytes, size_t size);
