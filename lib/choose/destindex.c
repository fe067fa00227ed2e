#include "choose/destindex.h"

#include "base/hash.h"

#include <errno.h>
#include <stdlib.h>

struct dest_form {
	unsigned __int128 mask;
	unsigned bits, first; /* the lowest number among its destinations */
	bool v4, with_port;
};

int dest_index_add(struct dest_index *x, const struct dest *d)
{
	if (x->count == x->room) {
		unsigned room = x->room ? 2 * x->room : 16;
		struct dest *more = reallocarray(x->dests, room, sizeof *more);

		if (more == NULL)
			return -ENOMEM;
		x->dests = more;
		x->room = room;
	}
	x->dests[x->count++] = *d;
	return 0;
}

static bool has_form(const struct dest_form *f, const struct dest *d)
{
	return f->bits == d->bits && f->v4 == addr_is_v4(&d->prefix) &&
	       f->with_port == (d->port != 0);
}

static unsigned __int128 mask_of(unsigned bits)
{
	return bits == 0 ? 0 : ~(unsigned __int128)0 << (128 - bits);
}

/* In the order of the destinations, which is that of their first ones. */
static int make_forms(struct dest_index *x)
{
	for (unsigned n = 0; n < x->count; n++) {
		const struct dest *d = &x->dests[n];
		struct dest_form *more;
		unsigned i = 0;

		while (i < x->form_count && !has_form(&x->forms[i], d))
			i++;
		if (i < x->form_count)
			continue;
		more = reallocarray(x->forms, i + 1, sizeof *more);
		if (more == NULL)
			return -ENOMEM;
		x->forms = more;
		x->forms[x->form_count++] = (struct dest_form){
			.mask = mask_of(d->bits),
			.bits = d->bits,
			.first = n,
			.v4 = addr_is_v4(&d->prefix),
			.with_port = d->port != 0,
		};
	}
	return 0;
}

/* Unkeyed: who chooses destinations does not choose what stands in the table. */
static uint64_t hash(unsigned __int128 prefix, unsigned bits, uint16_t port)
{
	return hash_mix((uint64_t)prefix +
			hash_mix((uint64_t)(prefix >> 64) + ((uint64_t)bits << 16 | port)));
}

/* The place of the destination with this key, or the free one where it would be. */
static uint32_t *place_of(
	const struct dest_index *x, unsigned __int128 prefix, unsigned bits, uint16_t port)
{
	uint64_t at = hash(prefix, bits, port);

	for (;; at++) {
		uint32_t *place = &x->numbers[at & (x->slots - 1)];

		if (*place == 0)
			return place;
		const struct dest *d = &x->dests[*place - 1];
		if (d->bits == bits && d->port == port &&
			(addr_number(&d->prefix) & mask_of(bits)) == prefix)
			return place;
	}
}

int dest_index_make(struct dest_index *x)
{
	if (make_forms(x) < 0)
		return -ENOMEM;
	for (x->slots = 1; x->slots < 2 * x->count + 1;)
		x->slots *= 2;
	x->numbers = calloc(x->slots, sizeof *x->numbers);
	if (x->numbers == NULL)
		return -ENOMEM;
	for (unsigned n = 0; n < x->count; n++) {
		const struct dest *d = &x->dests[n];
		uint32_t *place =
			place_of(x, addr_number(&d->prefix) & mask_of(d->bits), d->bits, d->port);

		/* Of equal ones the first stays. */
		if (*place == 0)
			*place = n + 1;
	}
	return 0;
}

void dest_index_free(struct dest_index *x)
{
	free(x->dests);
	free(x->forms);
	free(x->numbers);
	*x = (struct dest_index){0};
}

unsigned dest_index_find(const struct dest_index *x, const struct addr *faddr, uint16_t fport)
{
	if (x->form_count == 0)
		return x->count;
	unsigned __int128 number = addr_number(faddr);
	bool v4 = addr_is_v4(faddr);
	unsigned best = x->count;

	for (unsigned i = 0; i < x->form_count && x->forms[i].first < best; i++) {
		const struct dest_form *f = &x->forms[i];

		/* ::/0 is all of IPv6, not the v4-mapped form of IPv4 as well. */
		if (f->v4 != v4 || (f->with_port && fport == 0))
			continue;
		uint32_t n = *place_of(x, number & f->mask, f->bits, f->with_port ? fport : 0);

		if (n != 0 && n - 1 < best)
			best = n - 1;
	}
	return best;
}
