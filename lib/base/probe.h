/*
 * Static probes (USDT) for bpftrace, perf and gdb: a nop each where nobody traces.
 *
 * Provider "tuplebind"; docs/log.md lists the probes and their arguments. Without <sys/sdt.h>
 * (systemtap-sdt-dev) at build time there are none.
 */
#pragma once

#ifdef HAVE_PROBES
#define SDT_USE_VARIADIC
#include <sys/sdt.h>
#define PROBE(name, ...) STAP_PROBEV(tuplebind, name, __VA_ARGS__)
#else
#define PROBE(name, ...) ((void)0)
#endif
