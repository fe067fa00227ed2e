/*
 * The parts of doctor, each of which looks at some of the host. They tell their findings as they
 * come to them, in one order on every host.
 */
#pragma once

#include "tools/doctor/finding.h"

void doctor_settings(struct doctor *d);
void doctor_kernel(struct doctor *d);
void doctor_host(struct doctor *d);
void doctor_tables(struct doctor *d);
void doctor_pool(struct doctor *d);
void doctor_program(struct doctor *d);
