/*
 * Slabs: found, made, settled and recycled, while others claim in them and are killed.
 *
 * What lib/table/slab.c, claim_in_word() and claim_give_back() of claim.c and take_up() of reap.c
 * do, each access to shared memory a step of its own, in the code's order; steps S1 to S5 are 1 to
 * 5 at the head of slab.h. All slabs are in the window of all lanes and looked at in the same order.
 * A lane has one slab. Generations do not wrap here. Memory is sequentially consistent: the memory
 * orders are not checked. Claims are reaped at the end only; claims.pml has reap in full.
 *
 *   one        of the slabs of a lane one is LIVE
 *   mine       a claim is not given out twice, and is there until it is given back
 *   usable     in the end, after one reap, every slab can be claimed in or recycled: nobody owns
 *              it, and there is no bit in it but claims of the living
 *
 * -DWITHOUT_... takes one guard away; tests/model/run has the list.
 */

#ifndef SLABS
#define SLABS 2
#endif
#ifndef USERS
#define USERS 2 /* processes */
#endif
#ifndef ROUNDS
#define ROUNDS 1 /* claims of each process */
#endif
#ifndef CRASHES
#define CRASHES 0 /* processes killed, at any step */
#endif
#ifndef REAPS
#define REAPS 0 /* times that slabs of dead recyclers are taken up while the processes run */
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2 /* to claim in a slab that others recycle before the claim (16 in claim.c) */
#endif
#ifdef ENDLESS
#define TRIED 0
#else
#define TRIED 1
#endif
#ifndef WORD_BITS
#define WORD_BITS 2 /* of a word of claims; a slab has two words */
#endif
/* -DSAME: all processes claim for lane 0; else in turn for both, so that slabs are recycled. */
/* -DONE_AND_TWO: process 0 for lane 0, the others for lane 1. */
#ifdef SAME
#define LANE_OF(me, round) 0
#elif defined(ONE_AND_TWO)
#define LANE_OF(me, round) ((me) > 0)
#else
#define LANE_OF(me, round) (((me) + (round)) % 2)
#endif
/* -DBUSY: the first slab is LIVE, lane 1's, and has a claim that is given back some time. */
/* -DONE_LIVE: in the beginning the first slab is LIVE, lane 0's. Else all are FREE. */
/* -DSTAY: the last claim of a process may be kept. */

#define LANES	2
#define REAPER	USERS
#define CHECKER (USERS + 1)
#define NONE	255
#define ALL	((1 << WORD_BITS) - 1)

/* A tag: state, lane (the fingerprint), generation. */
#define FREE	  0
#define TENTATIVE 1
#define LIVE	  2
#define DEAD	  3
#define STATE(tag)	 ((tag) & 3)
#define LANE(tag)	 ((tag) >> 2 & 1)
#define WITH(tag, state) (((tag) & ~3) | (state))
#define NEXT(tag, lane)	 ((((tag) >> 3) + 1) << 3 | (lane) << 2 | TENTATIVE)

/* Shared memory. Words: word w of slab s is at s * 2 + w. */
byte tag_of[SLABS];
byte owner[SLABS]; /* process + 1; 0: none */
byte lane_of[SLABS];
byte words[SLABS * 2];

bool dead[USERS + 1];
bool done[USERS + 1];
byte kills;
#ifdef BUSY
bool given_back;
#endif

/* For the properties alone: who has a claim of a lane. */
byte held[LANES * 2]; /* bits of the living, by lane and word */

inline may_die(me)
{
	if
	:: true
#if CRASHES > 0
	:: me != CHECKER && kills < CRASHES ->
		kills++;
		dead[me] = true;
		goto stopped
#endif
	fi
}

/* One: at the step that makes a slab LIVE no other slab of its lane is. */
inline assert_one(s)
{
	other = 0;
	do
	:: other == SLABS -> break
	:: other < SLABS ->
		assert(other == s || STATE(tag_of[other]) != LIVE || LANE(tag_of[other]) != LANE(tag_of[s]));
		other++
	od;
	other = 0
}

/* Compare and swap of a tag's state; ok says whether it was as expected. */
inline set_state(me, s, tag, state, ok)
{
	atomic {
		may_die(me);
		ok = tag_of[s] == tag;
		if
		:: ok ->
			tag_of[s] = WITH(tag, state);
			if
			:: state == LIVE -> assert_one(s)
			:: else
			fi
		:: else
		fi
	}
}

/* Sees whether slab s is unused: word by word, then its owner. */
inline note_unused(s, tag, unused, unused_tag)
{
	if
	:: words[s * 2] != 0
	:: words[s * 2] == 0 ->
		if
		:: words[s * 2 + 1] != 0
		:: words[s * 2 + 1] == 0 ->
			if
			:: owner[s] != 0
			:: owner[s] == 0 -> d_step { unused = s; unused_tag = tag }
			fi
		fi
	fi
}

/* S5's look through the window, and with @recycle the first slab that is unused. */
inline look(me, lane, recycle)
{
	atomic {
		live = NONE;
		live_tag = 0;
		tentative = NONE;
		tentative_tag = 0;
		unused = NONE;
		unused_tag = 0;
		killed = false;
		s = 0
	};
	do
	:: s == SLABS -> break
	:: s < SLABS ->
		tag = tag_of[s];
		if
		:: tag == FREE ->
			if
			:: recycle && unused == NONE -> d_step { unused = s; unused_tag = tag }
			:: else
			fi;
			break
		:: STATE(tag) == TENTATIVE && LANE(tag) == lane ->
			if
			:: tentative == NONE && live == NONE ->
				d_step { tentative = s; tentative_tag = tag }
			:: else ->
#ifndef WITHOUT_LOSING
				set_state(me, s, tag, DEAD, ok);
				killed = true
#else
				skip
#endif
			fi
		:: STATE(tag) == LIVE && LANE(tag) == lane ->
			if
			:: live == NONE -> d_step { live = s; live_tag = tag }
			:: else
			fi
		:: STATE(tag) == DEAD || (STATE(tag) == LIVE && LANE(tag) != lane) ->
			if
			:: recycle && unused == NONE -> note_unused(s, tag, unused, unused_tag)
			:: else
			fi
		:: STATE(tag) == TENTATIVE && LANE(tag) != lane
		fi;
		s++
	od;
	if
	:: live != NONE && tentative != NONE ->
		set_state(me, tentative, tentative_tag, DEAD, ok);
		d_step { tentative = NONE; killed = true }
	:: else
	fi;
	atomic { s = 0; tag = 0; ok = false }
}

/* S5: the slab that is LIVE then, in live and live_tag; NONE: there is none. */
inline settle(me, lane)
{
	d_step { known = NONE; known_tag = 0 };
	do
	:: look(me, lane, false);
		if
		:: live != NONE || tentative == NONE -> break
		:: else
		fi;
#ifdef WITHOUT_SECOND_LOOK
		d_step { known = tentative; known_tag = tentative_tag };
#endif
		if
		:: tentative == known && tentative_tag == known_tag && !killed ->
			set_state(me, known, known_tag, LIVE, ok);
			if
			:: ok ->
				d_step { live = known; live_tag = WITH(known_tag, LIVE) };
				break
			:: !ok -> known = NONE
			fi
		:: else -> d_step { known = tentative; known_tag = tentative_tag }
		fi
	od;
	atomic { known = NONE; known_tag = 0; tentative = NONE; tentative_tag = 0; ok = false; killed = false }
}

/* Compare and swap of word w of slab s from all zeros to all ones. */
inline take_word(me, s, w, ok)
{
	atomic {
		may_die(me);
#ifdef WITHOUT_TAKING
		ok = true;
#else
		ok = words[s * 2 + w] == 0;
#endif
		if
		:: ok -> words[s * 2 + w] = ALL
		:: else
		fi
	}
}

inline give_word(me, s, w)
{
	atomic { may_die(me); words[s * 2 + w] = 0 }
}

/* S1 to S4 with the slab unused, whose tag was unused_tag; ok: it is TENTATIVE now. */
inline propose(me, lane)
{
#ifdef WITHOUT_OWNER
	atomic { may_die(me); ok = true; owner[unused] = me + 1 };
#else
	atomic { /* S1 */
		may_die(me);
		ok = owner[unused] == 0;
		if
		:: ok -> owner[unused] = me + 1
		:: else
		fi
	};
#endif
	if
	:: !ok
	:: ok ->
		take_word(me, unused, 0, ok); /* S2 */
		if
		:: !ok
		:: ok ->
#ifndef WITHOUT_SECOND_WORD
			take_word(me, unused, 1, ok);
#endif
			if
			:: !ok -> give_word(me, unused, 0)
			:: ok ->
#ifndef WITHOUT_TAG_CHECK
				ok = tag_of[unused] == unused_tag;
#else
				skip;
#endif
				if
				:: !ok ->
					give_word(me, unused, 0);
					give_word(me, unused, 1)
				:: ok ->
					atomic { may_die(me); lane_of[unused] = lane }; /* S3 */
					atomic {
						may_die(me);
						ok = tag_of[unused] == unused_tag;
						if
						:: ok -> tag_of[unused] = NEXT(unused_tag, lane)
						:: else
						fi
					};
#ifdef WITHOUT_TENTATIVE
					if
					:: ok -> set_state(me, unused, NEXT(unused_tag, lane), LIVE, ok)
					:: else
					fi;
#endif
					give_word(me, unused, 0); /* S4 */
					give_word(me, unused, 1)
				fi
			fi
		fi;
		atomic { may_die(me); owner[unused] = 0 }
	fi
}

/* Makes the slab of the lane, or finds it made; NONE in live: the window is full. */
inline obtain(me, lane)
{
	do
	:: look(me, lane, true);
		if
		:: live != NONE || tentative != NONE
		:: live == NONE && tentative == NONE && unused == NONE -> break
		:: live == NONE && tentative == NONE && unused != NONE ->
			propose(me, lane);
			if
#ifndef WITHOUT_MOVING_ON
			:: !ok && unused_tag == FREE -> set_state(me, unused, unused_tag, DEAD, ok)
#endif
			:: else
			fi
		fi;
		settle(me, lane);
		if
		:: live != NONE -> break
		:: live == NONE
		fi
	od;
	atomic { unused = NONE; unused_tag = 0; ok = false }
}

/* slab_find(): the LIVE slab in live and live_tag, or NONE. */
inline find(lane)
{
	atomic { s = 0; live = NONE; live_tag = 0 };
	do
	:: s == SLABS -> break
	:: s < SLABS ->
		atomic {
			tag = tag_of[s];
			if
			:: tag == FREE -> break
			:: STATE(tag) == LIVE && LANE(tag) == lane ->
				live = s;
				live_tag = tag;
				break
			:: else -> s++
			fi
		}
	od;
	atomic { s = 0; tag = 0 }
}

proctype User(byte me)
{
	byte round, lane, attempt;
	byte s, tag, other, w, mask;
	byte live, live_tag, tentative, tentative_tag, unused, unused_tag, known, known_tag;
	bool killed, ok, has;

	live = NONE;
next:
	do
	:: d_step { round < ROUNDS -> lane = LANE_OF(me, round); round++ };
again:
		find(lane);
		if
		:: live == NONE -> obtain(me, lane)
		:: live != NONE
		fi;
		if
		:: live == NONE -> attempt = 0; goto next
		:: live != NONE
		fi;
		w = 0;
		do
		:: w == 2 -> break
		:: w < 2 ->
			atomic { /* C1: a free bit of the word */
				if
				:: !(words[live * 2 + w] & 1) -> mask = 1
#if WORD_BITS > 1
				:: !(words[live * 2 + w] & 2) -> mask = 2
#endif
#if WORD_BITS > 2
				:: !(words[live * 2 + w] & 4) -> mask = 4
#endif
				:: words[live * 2 + w] == ALL -> w++; mask = 0
				:: w == 0 -> w = 1; mask = 0 /* wanted are others */
				fi
			};
			if
			:: mask == 0
			:: mask != 0 ->
				atomic { /* C3 */
					may_die(me);
					ok = !(words[live * 2 + w] & mask);
					words[live * 2 + w] = words[live * 2 + w] | mask
				};
				if
				:: !ok
				:: ok -> break
				fi
			fi
		od;
		if
		:: !ok -> skip /* none was free */
		:: ok ->
			atomic { /* C4: is it the slab still that was found? */
#ifdef WITHOUT_GENERATION
				ok = LANE(tag_of[live]) == lane && STATE(tag_of[live]) == LIVE;
#else
#ifdef WITHOUT_CHECK
				ok = true;
#else
				ok = tag_of[live] == live_tag;
#endif
#endif
				if
				:: ok ->
					assert(!(held[lane * 2 + w] & mask)); /* mine */
					held[lane * 2 + w] = held[lane * 2 + w] | mask;
					has = true
				:: else
				fi
			};
			if
			:: !ok ->
				atomic {
					may_die(me);
					words[live * 2 + w] = words[live * 2 + w] & ~mask
				};
				d_step { mask = 0; w = 0; live = NONE; live_tag = 0; attempt = attempt + TRIED };
				if
				:: attempt < ATTEMPTS -> goto again
				:: attempt == ATTEMPTS -> attempt = 0; goto next
				fi
			:: ok ->
				skip
			fi;
			if
#ifdef STAY
			:: round == ROUNDS -> break
#endif
			:: true ->
				atomic { /* G1 */
					assert(tag_of[live] == live_tag); /* mine */
					assert(words[live * 2 + w] & mask)
				};
				atomic { /* G2 */
					may_die(me);
					has = false;
					held[lane * 2 + w] = held[lane * 2 + w] & ~mask;
					words[live * 2 + w] = words[live * 2 + w] & ~mask
				}
			fi
		fi;
		atomic { ok = false; mask = 0; w = 0; live = NONE; live_tag = 0; has = false; attempt = 0 }
	:: round == ROUNDS -> break
	od;
	done[me] = true;
stopped:
	atomic {
		if
		:: dead[me] && has -> held[lane * 2 + w] = held[lane * 2 + w] & ~mask
		:: else
		fi;
		round = 0; lane = 0; attempt = 0; s = 0; tag = 0; other = 0; w = 0; mask = 0;
		live = 0; live_tag = 0; tentative = 0; tentative_tag = 0;
		unused = 0; unused_tag = 0; known = 0; known_tag = 0;
		killed = false; ok = false; has = false
	}
}

/* A slab whose recycler died, by reap. */
inline take_up(me, s)
{
	who = owner[s]; /* T1 */
	if
	:: who == 0 || !dead[who - 1]
	:: who != 0 && dead[who - 1] ->
		tag = tag_of[s]; /* T2 */
		live = STATE(tag) == LIVE;
		if
		:: live ->
			lane = lane_of[s]; /* T3 */
			if
			:: tag_of[s] != tag || lane != LANE(tag) -> /* T4 */
				set_state(me, s, tag, DEAD, ok);
				live = !ok
			:: tag_of[s] == tag && lane == LANE(tag)
			fi
		:: !live
		fi;
		if
#ifdef WITHOUT_CLEARING
		:: true
#else
		:: live
		:: !live ->
			atomic { /* T5 */
				may_die(me);
				words[s * 2] = (words[s * 2] == ALL -> 0 : words[s * 2])
			};
			atomic {
				may_die(me);
				words[s * 2 + 1] = (words[s * 2 + 1] == ALL -> 0 : words[s * 2 + 1])
			}
#endif
		fi;
		atomic { /* T6 */
			may_die(me);
			owner[s] = (owner[s] == who -> 0 : owner[s])
		}
	fi;
	atomic { who = 0; tag = 0; live = false; lane = 0; ok = false }
}

proctype Reaper()
{
	byte pass, s, tag, who, lane, other;
	bool live, ok;

	do
	:: d_step { pass < REAPS -> pass++; s = 0 };
		do
		:: s == SLABS -> break
		:: s < SLABS -> take_up(REAPER, s); s++
		od
	:: break
	od;
	done[REAPER] = true;
stopped:
	atomic { pass = 0; s = 0; tag = 0; who = 0; lane = 0; other = 0; live = false; ok = false }
}

#define OVER(i) (done[i] || dead[i])
#if USERS > 2
#define ALL_OVER (OVER(0) && OVER(1) && OVER(2) && OVER(3))
#else
#define ALL_OVER (OVER(0) && OVER(1) && OVER(2))
#endif

/* When nobody does anything any more, one reap, and every slab is usable. */
proctype Checker()
{
	byte s, tag, who, lane, other;
	bool live, ok;

#ifdef BUSY
	ALL_OVER && given_back;
#else
	ALL_OVER;
#endif
	atomic {
		do
		:: s == SLABS -> break
		:: s < SLABS ->
#ifndef WITHOUT_TAKING_UP
			take_up(CHECKER, s);
#endif
			tag = tag_of[s];
			lane = LANE(tag);
			if
			:: STATE(tag) == LIVE && lane_of[s] == lane ->
				words[s * 2] = words[s * 2] & held[lane * 2];
				words[s * 2 + 1] = words[s * 2 + 1] & held[lane * 2 + 1];
				held[lane * 2] = held[lane * 2] & ~words[s * 2];
				held[lane * 2 + 1] = held[lane * 2 + 1] & ~words[s * 2 + 1]
			:: else ->
				assert(words[s * 2] == 0 && words[s * 2 + 1] == 0) /* usable */
			fi;
			assert(owner[s] == 0);
			assert(STATE(tag) != LIVE || lane_of[s] == lane);
			s++
		od;
		/* mine: whoever lives has his claim still */
		assert(held[0] == 0 && held[1] == 0 && held[2] == 0 && held[3] == 0)
	};
stopped:
	skip
}

#ifdef BUSY
proctype Holder()
{
	atomic { words[0] = 0; given_back = true }
}
#endif

init
{
	atomic {
#ifdef BUSY
		tag_of[0] = LIVE | 1 << 2;
		lane_of[0] = 1;
		words[0] = 1;
		run Holder();
#endif
#ifdef ONE_LIVE
		tag_of[0] = LIVE;
#endif
		run User(0);
		run User(1);
#if USERS > 2
		run User(2);
#endif
		run Reaper();
		run Checker()
	}
}
