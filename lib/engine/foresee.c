#include "engine/foresee.h"

#include <string.h>

#define PEER_SECONDS   1
#define VARIES_SECONDS 60

uint64_t foresee_hash(const struct attempt *a)
{
	uint64_t words[3] = {0, 0, a->to.port};

	memcpy(words, a->to.addr.bytes, sizeof a->to.addr.bytes);
	return hash_words(&a->engine->sources.key, words, 3);
}

void foresee(struct attempt *a)
{
	a->to.redirected |= source_peer(&a->engine->sources, &a->to.addr, a->to.port, &a->to.addr,
		&a->to.port, &a->to.several);
}

bool foresee_note_peer(struct attempt *a, const struct addr *peer, uint16_t fport)
{
	struct addr asked;
	uint16_t asked_port;

	if (fport == a->to.port && addr_same(peer, &a->to.addr))
		return false;
	addr_from_sockaddr(a->call->to, a->call->length, &asked, &asked_port);
	source_learn_peer(&a->engine->sources, &asked, asked_port, peer, fport);
	a->to.redirected = true;
	a->to.addr = *peer;
	a->to.port = fport;
	return true;
}

bool foresee_source_varies(const struct attempt *a)
{
	return aside_has(&a->engine->source_varies, foresee_hash(a));
}

void foresee_note_source(const struct attempt *a, const struct addr *source)
{
	aside_put(&a->engine->source_varies, foresee_hash(a), VARIES_SECONDS);
	source_learn(&a->engine->sources, &a->to.addr, a->socket->protocol, a->to.port, source);
}

bool foresee_is_peer_due(const struct attempt *a)
{
	if (source_knows_peers(&a->engine->sources))
		return true;
	uint64_t hash = foresee_hash(a);
	if (aside_has(&a->engine->peer_asked, hash))
		return false;
	aside_put(&a->engine->peer_asked, hash, PEER_SECONDS);
	return true;
}
