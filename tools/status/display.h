/*
 * How lanes, fills and times look, in status and in top alike.
 */
#pragma once

#include "tools/status/snapshot.h"

#include "base/text.h"

#include <stdbool.h>
#include <stdio.h>

/* "10.0.0.5 -> 192.0.2.1:443", " (udp)" behind it where it is so. */
void display_lane(struct text *t, const struct tuplebind_lane *lane);
void display_laddr(struct text *t, const struct tuplebind_lane *lane);
void display_faddr(struct text *t, const struct tuplebind_lane *lane);
void display_endpoint(struct text *t, const struct tuplebind_lane *lane); /* without the protocol */
void display_destination(struct text *t, const struct tuplebind_lane *lane);

/* "tcp" or "udp". */
const char *display_protocol(const struct tuplebind_lane *lane);

/* "100 %", right-justified in five columns; "    -" for -1. */
#define DISPLAY_SHARE_MAX 16
void display_share(char out[static DISPLAY_SHARE_MAX], int permille);

/* Ten columns, a mark for each tenth that is begun; empty for -1. */
#define DISPLAY_BAR 10
void display_bar(char out[static DISPLAY_BAR + 1], int permille);

/* @one for 1, else @many. */
const char *display_plural(uint64_t count, const char *one, const char *many);

/* "42 s", "17 min", "5 h", "12 d". */
#define DISPLAY_AGE_MAX 32
void display_age(char out[static DISPLAY_AGE_MAX], uint64_t seconds);

/* From when on a fill is a warning, and when it is one that cannot wait. */
enum display_level { DISPLAY_CALM, DISPLAY_WARNING, DISPLAY_ALARM };
enum display_level display_level(int permille);

/* Whether the counter's being anything but 0 is news to somebody who looks for trouble. */
enum display_level display_counter_level(int counter);

/* What a counter counts, in a few words. */
const char *display_counter(int counter);
