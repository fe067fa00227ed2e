/*
 * Inspections: a claim is held still while somebody finds out whether it has a holder.
 *
 * A claim is one bit, and looks the same whoever has set it. Who asks the kernel and the flights
 * whether anybody holds it, and clears it then, must not clear one that was given back and claimed
 * anew meanwhile. So he says first which claim he inspects. Who gives one back says what he is
 * about to do as well (his flight), and then looks whether it is being inspected: if so, he leaves
 * it to the inspector, or to the next reap (claim_give_back()). Of the two, one sees the other.
 * Once the inspector has looked at the flights and found none, a set bit stays set, as whose it is,
 * until he clears it.
 *
 * An inspection takes one of 128 places, chosen by the claim, so that who gives a claim back looks
 * at one word. The place of a process that died over it is taken over.
 */
#pragma once

#include "table/claim.h"

/*
 * Begins to inspect @c; @token: process_own_token(). False: somebody is at it, or inspects another
 * claim at the same place.
 */
bool inspect_begin(struct table *t, uint64_t token, claim c);

/* Ends what inspect_begin() began. */
void inspect_end(struct table *t, claim c);
