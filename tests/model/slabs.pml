/*
 * Slabs: found, made, settled and recycled, while others claim in them and are killed.
 *
 * What lib/table/slab.c, claim_in_word() and claim_give_back() of claim.c and take_up() and inspect() of
 * reap.c do, each access to shared memory a step of its own, in the code's order; S1 to S5 are 1 to
 * 5 at the head of slab.h. A step is named where it stands, with the function that does it; there the
 * code names it as well, and tests/model/run compares. All slabs are in the window of all lanes and
 * looked at in the same order. A lane has one slab. Generations do not wrap here. Memory is
 * sequentially consistent: the memory orders are not checked. The kernel has a claim's tuple from the
 * moment the claim is found good until it is given back (claims.pml has that in full).
 *
 *   one        of the slabs of a lane one is LIVE
 *   mine       a claim is not given out twice, and is there until it is given back
 *   home       nobody writes the lane of a slab that is LIVE as another one than he found
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
#define REAPS 0 /* times that the slabs are reaped while the processes run */
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

/* A claim's place: which bit it is about, of which word of which slab, and (with a bug) what tag. */
#ifdef WITHOUT_PLACE
#define PLACE(s, w, mask, tag) (1 + (mask) + 8 * ((w) + 2 * (s)) + 64 * ((tag) >> 2))
#else
#define PLACE(s, w, mask, tag) (1 + (mask) + 8 * ((w) + 2 * (s)))
#endif

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
#if REAPS > 0
short what[USERS]; /* in flight: a place; 0: none */
short inspected;   /* the one place for inspections: a claim's place; 0: none */
byte inspector;	   /* process + 1; 0: none */
#endif

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

#if REAPS > 0
#define ANNOUNCE(me, s, w, mask, tag) atomic { may_die(me); what[me] = PLACE(s, w, mask, tag) }
#define LAND(me)		      atomic { may_die(me); what[me] = 0 }
#else
#define ANNOUNCE(me, s, w, mask, tag) skip
#define LAND(me)		      skip
#endif

/* Clears a bit that is in flight, unless somebody inspects it. */
inline clear_bit(me, s, w, mask, tag)
{
	if
#if REAPS > 0 && !defined(WITHOUT_GIVING_WAY)
	:: inspected == PLACE(s, w, mask, tag) /* G2: claim_undo() claim_give_back() */
	:: inspected != PLACE(s, w, mask, tag) ->
#else
	:: true ->
#endif
		atomic { /* G3: claim_clear() */
			may_die(me);
			words[(s) * 2 + w] = words[(s) * 2 + w] & ~(mask)
		}
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
	atomic { /* S5b: set_state() */
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
	:: words[s * 2] != 0 /* S0: empty() */
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
		tag = tag_of[s]; /* S5a: look() */
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
	atomic { /* S2: take_over() */
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

inline give_word(me, s, w, kept)
{
	atomic { may_die(me); words[s * 2 + w] = kept } /* S4: leave_words() */
}

/*
 * S1 to S4 with the slab unused, whose tag was unused_tag; ok: it is TENTATIVE now, with a claim in
 * its word 0.
 */
inline propose(me, lane)
{
#ifdef WITHOUT_OWNER
	atomic { may_die(me); ok = true; owner[unused] = me + 1 };
#else
	atomic { /* S1: take_over() */
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
		take_word(me, unused, 0, ok);
		if
		:: !ok
		:: ok ->
#ifndef WITHOUT_SECOND_WORD
			take_word(me, unused, 1, ok);
#endif
			if
			:: !ok -> give_word(me, unused, 0, 0)
			:: ok ->
#ifndef WITHOUT_TAG_CHECK
				ok = tag_of[unused] == unused_tag; /* S2b: take_over() */
#else
				skip;
#endif
				if
				:: !ok ->
					give_word(me, unused, 0, 0);
					give_word(me, unused, 1, 0)
				:: ok ->
#ifndef WITHOUT_FIRST
					ANNOUNCE(me, unused, 0, 1, NEXT(unused_tag, lane)); /* S3a: propose() */
#endif
					atomic { /* S3b: propose() */
						may_die(me);
						assert(STATE(tag_of[unused]) != LIVE || tag_of[unused] == unused_tag); /* home */
						lane_of[unused] = lane
					};
					atomic { /* S3c: propose() */
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
#ifndef WITHOUT_FIRST
					d_step { made = (ok -> unused : NONE); made_tag = NEXT(unused_tag, lane) };
#endif
					give_word(me, unused, 0, (made != NONE));
					give_word(me, unused, 1, 0)
				fi
			fi
		fi;
		atomic { may_die(me); owner[unused] = 0 } /* S4b: take_over() propose() */
	fi
}

/* Makes the slab of the lane, or finds it made; NONE in live: the window is full. */
inline obtain(me, lane)
{
	do
	:: made = NONE;
		look(me, lane, true);
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
		:: made != NONE && made != live -> /* what was made has lost */
			clear_bit(me, made, 0, 1, made_tag); /* S6: keep_first() */
			LAND(me);
			made = NONE
		:: else
		fi;
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
			tag = tag_of[s]; /* C0: slab_find() */
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

inline let_go(lane, w, mask)
{
	has = false;
	held[lane * 2 + w] = held[lane * 2 + w] & ~mask
}

proctype User(byte me)
{
	byte round, lane, attempt;
	byte s, tag, other, w, mask;
	byte live, live_tag, tentative, tentative_tag, unused, unused_tag, known, known_tag;
	byte made, made_tag;
	bool killed, ok, has;

	atomic { live = NONE; made = NONE };
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
		:: live == NONE -> LAND(me); attempt = 0; goto next
		:: live != NONE
		fi;
		w = 0;
		if
		:: made != NONE ->
			atomic { mask = 1; ok = true; made = NONE; made_tag = 0 };
			goto check /* it cannot fail any more, but nobody needs to rely on that here */
		:: made == NONE
		fi;
		do
		:: w == 2 -> break
		:: w < 2 ->
			atomic { /* C1: claim_in_word() */
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
				ANNOUNCE(me, live, w, mask, live_tag); /* C2: announce() */
				atomic { /* C3: claim_in_word() */
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
		:: !ok -> LAND(me) /* none was free */
		:: ok ->
check:
			atomic { /* C4: claim_in_word() */
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
				clear_bit(me, live, w, mask, live_tag); /* C5: claim_in_word() */
				LAND(me);
				d_step { mask = 0; w = 0; live = NONE; live_tag = 0; attempt = attempt + TRIED };
				if
				:: attempt < ATTEMPTS -> goto again
				:: attempt == ATTEMPTS -> attempt = 0; goto next
				fi
			:: ok ->
				LAND(me)
			fi;
			if
#ifdef STAY
			:: round == ROUNDS -> break
#endif
			:: true ->
#if REAPS > 0
				ANNOUNCE(me, live, w, mask, live_tag); /* G0: flight_with() */
				if
				:: inspected == PLACE(live, w, mask, live_tag) -> /* the inspector has not seen it */
					LAND(me);
					atomic { may_die(me); let_go(lane, w, mask) };
					goto left
				:: inspected != PLACE(live, w, mask, live_tag)
				fi;
#endif
				atomic { /* G1: claim_slab() */
					assert(tag_of[live] == live_tag); /* mine */
					assert(words[live * 2 + w] & mask);
					may_die(me);
					let_go(lane, w, mask)
				};
				clear_bit(me, live, w, mask, live_tag);
				LAND(me)
			fi
		fi;
left:
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
		unused = 0; unused_tag = 0; known = 0; known_tag = 0; made = 0; made_tag = 0;
		killed = false; ok = false; has = false
	}
}

#if REAPS > 0
/* Whether a living process has the place in flight. */
inline flight_has(place, f, has)
{
	f = 0;
	do
	:: f == USERS || has -> break
	:: atomic { f < USERS && !has -> has = what[f] == place && !dead[f]; f++ }
	od;
	f = 0
}
#endif

/*
 * A bit that may be nobody's: held still, looked into, and cleared. What is left in a slab that is
 * nobody's, and that the caller has taken, is no socket's (nobodys).
 */
inline inspect(me, s, w, mask, tag)
{
#if REAPS > 0
	atomic { /* one at a time: I1 of claims.pml */
		may_die(me);
		has = inspector != 0 && !dead[inspector - 1];
		if
		:: !has -> inspector = me + 1; inspected = PLACE(s, w, mask, tag)
		:: else
		fi
	};
	if
	:: has
	:: !has ->
		flight_has(PLACE(s, w, mask, tag), f, has);
		if
		:: has
		:: !has && nobodys -> has = !(words[s * 2 + w] & mask)
		:: !has && !nobodys ->
#ifndef WITHOUT_HOLDING
			atomic { /* I4: hold() */
				may_die(me);
				ok = owner[s] == 0;
				if
				:: ok -> owner[s] = me + 1
				:: else
				fi
			};
#else
			ok = true;
#endif
			if
			:: !ok -> has = true
			:: ok ->
				has = tag_of[s] != tag; /* I4b: bit_of_claimer() */
				has = has || !(words[s * 2 + w] & mask);
#ifndef WITHOUT_HOLDING
				atomic { may_die(me); owner[s] = 0 } /* I4c: let_go() */
#endif
			fi
		fi;
		if
		:: has
		:: !has ->
			flight_has(PLACE(s, w, mask, tag), f, has);
			has = has || (!nobodys && (held[LANE(tag) * 2 + w] & mask))
		fi;
		if
		:: has
		:: !has ->
			atomic { may_die(me); words[s * 2 + w] = words[s * 2 + w] & ~(mask) } /* I7: inspect() */
		fi;
		atomic { may_die(me); inspected = 0; inspector = 0 }
	fi;
	has = false
#else
	/* Nobody else does anything any more. */
	if
	:: nobodys -> words[s * 2 + w] = words[s * 2 + w] & ~(mask)
	:: !nobodys -> words[s * 2 + w] = words[s * 2 + w] & (~(mask) | held[LANE(tag) * 2 + w])
	fi
#endif
}

inline inspect_all(me, s, tag)
{
	w = 0;
	do
	:: w == 2 -> break
	:: w < 2 ->
		mask = 1;
		do
		:: mask > ALL -> break
		:: mask <= ALL ->
			if
			:: words[s * 2 + w] & mask -> inspect(me, s, w, mask, tag) /* T5: clear_nobodys() look_at() */
			:: !(words[s * 2 + w] & mask)
			fi;
			mask = mask * 2
		od;
		w++
	od;
	atomic { w = 0; mask = 0 }
}

/* A slab whose recycler died, or that is nobody's and has bits of dead claimers. */
inline take_up(me, s)
{
	who = owner[s];
	tag = tag_of[s];
	if
	:: who != 0 && !dead[who - 1]
#ifdef WITHOUT_NOBODYS
	:: who == 0
#else
	:: who == 0 && (STATE(tag) == LIVE || words[s * 2] + words[s * 2 + 1] == 0)
	:: who == 0 && STATE(tag) != LIVE && words[s * 2] + words[s * 2 + 1] != 0 -> taking = true
#endif
	:: who != 0 && dead[who - 1] -> taking = true
	fi;
	if
	:: !taking
	:: taking ->
		atomic { /* T1: take_slab() */
			may_die(me);
			taking = owner[s] == who;
			if
			:: taking -> owner[s] = me + 1
			:: else
			fi
		}
	fi;
	nobodys = false;
	if
	:: !taking
	:: taking ->
		tag = tag_of[s]; /* T2: make_nobodys() */
		do
		:: STATE(tag) == FREE || STATE(tag) == DEAD -> break
		:: STATE(tag) == LIVE && lane_of[s] == LANE(tag) -> break /* T3: make_nobodys() */
		:: STATE(tag) == TENTATIVE || (STATE(tag) == LIVE && lane_of[s] != LANE(tag)) ->
#ifdef WITHOUT_KILLING
			break
#else
			set_state(me, s, tag, DEAD, ok); /* T4: make_nobodys() */
			tag = tag_of[s]
#endif
		od;
		nobodys = STATE(tag) != LIVE;
		if
		:: nobodys
		:: !nobodys -> atomic { may_die(me); owner[s] = 0 } /* T6: let_go() */
		fi
	fi;
	atomic { who = 0; lane = 0; ok = false; taking = false }
}

inline reap_slab(me, s)
{
	nobodys = false;
#ifndef WITHOUT_TAKING_UP
	take_up(me, s);
#endif
	if
	:: nobodys
	:: !nobodys ->
		tag = tag_of[s]; /* T7: reap_slab() */
		if
		:: STATE(tag) == LIVE -> lane = lane_of[s]
		:: STATE(tag) != LIVE
		fi
	fi;
	if
	:: !nobodys && (STATE(tag) != LIVE || tag_of[s] != tag || lane != LANE(tag))
#ifdef WITHOUT_CLEARING
	:: nobodys
#endif
	:: else -> inspect_all(me, s, tag)
	fi;
	if
	:: nobodys -> atomic { may_die(me); owner[s] = 0 }
	:: !nobodys
	fi;
	atomic { tag = 0; lane = 0; nobodys = false }
}

proctype Reaper()
{
	byte pass, s, tag, who, lane, other, w, mask, f;
	bool ok, has, taking, nobodys;

	do
	:: d_step { pass < REAPS -> pass++; s = 0 };
		do
		:: s == SLABS -> break
		:: s < SLABS -> reap_slab(REAPER, s); s++
		od
	:: break
	od;
	done[REAPER] = true;
stopped:
	atomic {
		pass = 0; s = 0; tag = 0; who = 0; lane = 0; other = 0; w = 0; mask = 0; f = 0;
		ok = false; has = false; taking = false; nobodys = false
	}
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
	byte s, tag, who, lane, other, w, mask, f;
	bool ok, has, taking, nobodys;

#ifdef BUSY
	ALL_OVER && given_back;
#else
	ALL_OVER;
#endif
	atomic {
		do
		:: s == SLABS -> break
		:: s < SLABS ->
			reap_slab(CHECKER, s);
			tag = tag_of[s];
			lane = LANE(tag);
			if
			:: STATE(tag) == LIVE && lane_of[s] == lane ->
				assert((words[s * 2] & ~held[lane * 2]) == 0); /* usable */
				assert((words[s * 2 + 1] & ~held[lane * 2 + 1]) == 0);
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
	atomic {
		held[2] = 0;
#if REAPS > 0
		if
		:: inspected == PLACE(0, 0, 1, tag_of[0]) /* left to the inspector */
		:: else -> words[0] = words[0] & ~1
		fi;
#else
		words[0] = words[0] & ~1;
#endif
		given_back = true
	}
}
#endif

init
{
	atomic {
#ifdef BUSY
		tag_of[0] = LIVE | 1 << 2;
		lane_of[0] = 1;
		words[0] = 1;
		held[2] = 1;
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
