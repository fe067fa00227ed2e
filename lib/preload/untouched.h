/*
 * Untouched sockets: those that need not be asked what the program has done to them, for it has
 * done nothing.
 *
 * To ask costs five system calls, a tenth of a connect(). The book knows which sockets are
 * pristine, because what could change that is taken over. What no preload sees (a control group's
 * program that gives every new socket a mark or a device, `ip vrf exec` say, or a system call that
 * was not made through libc) is found by asking one pristine socket a second all the same: if it is
 * not what it should be, all are asked from then on.
 */
#pragma once

#include "engine/call.h"
#include "preload/library.h"

/*
 * True: no port, no address, no option that matters, of our namespace. False: it has to be asked.
 * For UDP one system call, which shows whether it has been sent from.
 */
bool untouched_is(const struct call *c, uint8_t protocol);
