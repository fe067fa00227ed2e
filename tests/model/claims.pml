/*
 * Claims of one slab: connect(), close(), kill -9 and reap, all at once.
 *
 * What lib/table/{claim,flight,reap}.c and lib/interpose/{tuple,close}.c do with a claim, each
 * access to shared memory and each question to the kernel a step of its own, in the code's order.
 * The slab stays LIVE and its lane's (slabs.pml is about what becomes of it otherwise), so a claim
 * is a bit. Memory is sequentially consistent here: the memory orders are not checked.
 *
 * The kernel gives a tuple to one socket. So no table, however wrong, costs a connection; what
 * the protocol's guards prevent is that the table is wrong. Shown is:
 *
 *   mine       a claim is not given out twice
 *   old        nobody takes a claim from its living holder, unless it was made, or its close() took
 *              off, after he began to look: what the kernel and the flights said was true then
 *   restored   such a younger claim is set again when its connect is still in flight
 *   needless   the kernel refuses a tuple for what it knows alone (a stranger, an orphan), never
 *              because the table gave it out too early
 *   lost       in the end, after one reap, each claim has a socket ...
 *   bare       ... and each socket has its claim
 *
 * mine, needless and bare are not asked of a claim once it was taken from its holder ("hurt"): a
 * retry sets it right. With -DSTRICT they always are, and no claim may be taken from a holder.
 *
 * -DWITHOUT_... takes one guard away; tests/model/run has the list.
 */

#ifndef USERS
#define USERS 2 /* processes */
#endif
#ifndef BITS
#define BITS 1 /* ports of the lane */
#endif
#ifndef ROUNDS
#define ROUNDS 2 /* connects of each process */
#endif
#ifndef CRASHES
#define CRASHES 1 /* processes killed, at any step */
#endif
#ifndef REAPS
#define REAPS 1 /* looks through the slab while the processes run */
#endif
#ifndef STRANGERS
#define STRANGERS 0 /* sockets of programs that the table does not know */
#endif
#ifndef RESETS
#define RESETS 0 /* connections that end before they are closed */
#endif
/* -DORPHANS: the kernel is not through with a tuple when it is closed. */
/* -DSHARED: sockets that another process may have as well (but has not) are closed, too. */

#define PLACES	 USERS
#define REAPER	 USERS
#define CHECKER	 (USERS + 1)
#define ABSENT	 0 /* else: 1 + the process whose socket has the tuple */
#define STRANGER (USERS + 1)
#define ORPHAN	 (USERS + 2)
#define ONE(who) (1 << (who))

/* A killed process stops; then its sockets go; then it is known to be dead. */
#define RUNNING 0
#define KILLED	1
#define DEAD	2

/* Shared memory. */
bool bits[BITS];
byte what[PLACES];  /* flights: bit + 1; 0: none */
byte owner[PLACES]; /* process + 1; 0: none */

/* The kernel. */
byte tuple[BITS];
byte life[USERS + 1];
bool done[USERS + 1];
byte kills;
bool quiet;
#if RESETS > 0
bool connected[USERS];
#endif

/* For the properties alone: sets of processes. */
byte holders[BITS]; /* who took it, and has a socket that has or may get the tuple */
byte young[BITS];   /* for whom it was taken after they began to look */
byte flying[BITS];  /* of these, whose connect is in flight */
byte victims;	    /* whose claim the reap at work took away in flight */
bool hurt[BITS];

inline lands(who)
{
	flying[0] = flying[0] & ~ONE(who);
#if BITS > 1
	flying[1] = flying[1] & ~ONE(who);
#endif
	victims = victims & ~ONE(who)
}

/* Whose flight begins now cannot be seen by those who looked at the flights before. */
inline takes_off(who, b)
{
	flying[b] = flying[b] | ONE(who);
	young[b] = ((holders[b] & ONE(who)) -> young[b] | (255 & ~ONE(who)) : young[b])
}

inline lets_go(who, b)
{
	holders[b] = holders[b] & ~ONE(who);
	flying[b] = flying[b] & ~ONE(who);
	victims = victims & ~ONE(who)
}

inline begins_to_look(who, b)
{
	young[b] = young[b] & ~ONE(who)
}

/* fetch_or; got says whether the claim is this process's now. */
inline set_bit(who, b, got)
{
	atomic {
		may_die(who);
		got = !bits[b];
		bits[b] = true;
		if
		:: got ->
			assert(holders[b] == 0 || hurt[b]); /* mine */
			holders[b] = holders[b] | ONE(who);
			takes_off(who, b)
		:: else
		fi
	}
}

/* fetch_and. looked: who clears the bit has looked before whether anybody holds it. */
inline clear_bit(who, b, looked)
{
	atomic {
		may_die(who);
		lets_go(who, b);
		if
		:: bits[b] && holders[b] != 0 ->
#ifdef STRICT
			assert(false);
#endif
			assert(hurt[b] || (looked && (young[b] & ONE(who)))); /* old */
			hurt[b] = true
		:: else
		fi;
		bits[b] = false
	}
}

/*
 * Stands before each write and each system call: here the process may be killed. (Between a read
 * and the next write makes no difference to anybody.)
 */
inline may_die(me)
{
	if
	:: true
#if CRASHES > 0
	:: me != CHECKER && kills < CRASHES ->
		kills++;
		life[me] = KILLED;
		goto stopped
#endif
	fi
}

/* A place is one of a few, by a hash: as a rule a thread's own. */
inline flight_begin(who, f)
{
	atomic { /* F1 */
		may_die(who);
		if
		:: owner[who] == 0 -> f = who
#ifdef SHARED_PLACES
		:: owner[0] == 0 -> f = 0
		:: owner[1] == 0 -> f = 1
#if USERS > 2
		:: owner[2] == 0 -> f = 2
#endif
#endif
		fi;
		owner[f] = who + 1
	}
}

inline flight_end(who, f)
{
	atomic { may_die(who); what[f] = 0; lands(who) }; /* F2 */
	atomic { may_die(who); owner[f] = 0 }		  /* F3 */
}

/* May the process of a flight live? */
#ifdef WITHOUT_DEATH
#define MAY_LIVE(who) true
#else
#define MAY_LIVE(who) (life[(who) - 1] != DEAD)
#endif

inline flight_has(me, b, f, who, has)
{
	d_step { f = 0; has = false };
	do
	:: f == PLACES || has -> break
	:: atomic { f < PLACES && !has && what[f] != b + 1 -> f++ } /* F4 */
	:: atomic { f < PLACES && !has && what[f] == b + 1 -> skip };
		who = owner[f]; /* F5 */
		if
		:: atomic { who != 0 && MAY_LIVE(who) -> has = true }
		:: atomic { who == 0 -> f++ }
		:: who != 0 && !MAY_LIVE(who) ->
#ifdef WITHOUT_KEEPING_PLACES
			atomic { may_die(me); what[f] = 0 };
#endif
			atomic {
				may_die(me);
				if
				:: owner[f] == who -> owner[f] = 0 /* F6 */
				:: else
				fi;
				f++
			}
		fi
	od;
	atomic { f = 0; who = 0 }
}

/* What becomes of a tuple whose socket is closed. */
inline kernel_closes(who, b)
{
	if
	:: tuple[b] == who + 1 -> tuple[b] = ABSENT
#ifdef ORPHANS
	:: tuple[b] == who + 1 -> tuple[b] = ORPHAN
#endif
	:: tuple[b] != who + 1
	fi
}

#define ABANDONED(b, keep) (tuple[b] == ABSENT || (tuple[b] == ORPHAN && !(keep)))

/* close() of a socket with the claim b, by the process's last descriptor. */
inline close_socket(me, b, f, who, has, shared)
{
	shared = false;
#ifdef SHARED
	if
	:: shared = true
	:: skip
	fi;
#endif
#if RESETS > 0
	atomic { /* L1: has the connection ended? */
		begins_to_look(me, b);
#ifndef WITHOUT_STATE
		shared = shared || tuple[b] != me + 1
#endif
	};
#endif
#ifndef WITHOUT_CLOSE_FLIGHT
	if
	:: !shared ->
		flight_begin(me, f);
		atomic { may_die(me); what[f] = b + 1; takes_off(me, b) } /* L2 */
	:: else
	fi;
#endif
#ifdef WITHOUT_CLOSE_ORDER
	clear_bit(me, b, false);
	atomic { may_die(me); kernel_closes(me, b) };
#else
	atomic { /* L3 */
		may_die(me);
		if
		:: shared -> lets_go(me, b)
		:: else
		fi;
		kernel_closes(me, b)
	};
	if
	:: !shared -> clear_bit(me, b, RESETS > 0) /* L4 */
	:: shared ->
		has = false;
#ifndef WITHOUT_LOOK
		begins_to_look(me, b);
		flight_has(me, b, f, who, has); /* L5 */
		has = has || (tuple[b] != ABSENT && tuple[b] != ORPHAN); /* L6 */
#endif
		if
		:: !has -> clear_bit(me, b, true)
		:: else /* left to reap */
		fi
	fi;
#endif
#ifndef WITHOUT_CLOSE_FLIGHT
	if
	:: !shared -> flight_end(me, f)
	:: else
	fi;
#endif
	atomic { f = 0; has = false; shared = false }
}

/* C1: a look which bits are free, any of which may be the next; BITS: none. */
inline choose(b)
{
	atomic {
		b = 0;
		do
		:: b == BITS -> break
		:: b < BITS && !bits[b] -> break
		:: b < BITS -> b++
		od
	}
}

/* connect() of a socket; afterwards it is open with the claim b, or not. */
inline connect_socket(me, b, f, got, open)
{
	flight_begin(me, f);
	do
	:: choose(b);
		if
		:: b == BITS ->
#ifdef WITHOUT_LANDING
			flight_end(me, f);
#endif
			break
		:: else
		fi;
#if !defined(WITHOUT_FLIGHT) && !defined(WITHOUT_ANNOUNCEMENT)
		atomic { may_die(me); what[f] = b + 1 }; /* C2 */
#endif
		set_bit(me, b, got); /* C3 */
		if
		:: !got
		:: got ->
#if defined(WITHOUT_ANNOUNCEMENT)
			atomic { may_die(me); what[f] = b + 1 };
#endif
#if defined(WITHOUT_LANDING)
			flight_end(me, f);
#endif
			atomic { /* C4: the kernel takes the tuple, or has it already */
				may_die(me);
				if
				:: tuple[b] == ABSENT -> tuple[b] = me + 1; open = true
				:: tuple[b] != ABSENT ->
					assert(tuple[b] > USERS || hurt[b]); /* needless */
					lets_go(me, b)
				fi
			};
			if
			:: open -> break
			:: !open -> /* it stays claimed, for whoever has it */
#ifdef WITHOUT_KEEPING
				bits[b] = false
#endif
			fi
		fi
	od;
	if
	:: open -> skip
	:: open ->
		/* C5: nobody answers, or refuses: the kernel has the tuple no more. */
		atomic { may_die(me); tuple[b] = ABSENT };
#ifdef WITHOUT_FAILING_FLIGHT
		flight_end(me, f);
		flight_begin(me, f);
#endif
		clear_bit(me, b, false); /* C6 */
		open = false
	:: !open
	fi;
#ifndef WITHOUT_LANDING
	flight_end(me, f);
#endif
	atomic {
#if RESETS > 0
		connected[me] = open;
#endif
		f = 0;
		got = false;
		b = (open -> b : 0)
	}
}

proctype User(byte me)
{
	byte round, b, f, who;
	bool got, open, shared;

	do
	:: d_step { round < ROUNDS -> round++ };
		connect_socket(me, b, f, got, open);
		if
		:: open ->
			if
			:: close_socket(me, b, f, who, got, shared); open = false
			:: round == ROUNDS -> break /* it stays open */
			fi
		:: !open
		fi
	:: round == ROUNDS && !open -> break
	od;
	done[me] = true;
stopped:
	atomic { round = 0; b = 0; f = 0; who = 0; got = false; open = false; shared = false }
}

#ifdef WITHOUT_SECOND_LOOK
#define ABANDONED_STILL(b, keep) true
#else
#define ABANDONED_STILL ABANDONED
#endif

/* One look at the claim b. */
inline reap_bit(me, b, f, who, has, got, keep)
{
	atomic {
		b < BITS && bits[b] -> /* R1 */
		begins_to_look(me, b)
	};
	if
	:: !ABANDONED(b, keep) /* R2 */
	:: ABANDONED(b, keep) ->
#ifndef WITHOUT_FLIGHT
		flight_has(me, b, f, who, has); /* R3 */
#endif
		if
		:: has
		:: !has && !ABANDONED_STILL(b, keep) /* R4 */
		:: !has && ABANDONED_STILL(b, keep) ->
			atomic { /* R5 */
				may_die(me);
				got = bits[b];
				victims = (got -> holders[b] & flying[b] : 0);
				clear_bit(me, b, true)
			};
#ifndef WITHOUT_RESTORING
			if
			:: got ->
				flight_has(me, b, f, who, has); /* R6 */
				assert(has || victims == 0); /* restored */
				if
				:: atomic { has -> may_die(me); bits[b] = true } /* R7 */
				:: !has
				fi
			:: !got
			fi
#else
			assert(victims == 0)
#endif
		fi
	fi;
	atomic { has = false; got = false; victims = 0 }
}

inline reap(me, b, f, who, has, got, keep)
{
	b = 0;
	do
	:: b == BITS -> break
	:: atomic { b < BITS && !bits[b] -> b++ }
	:: reap_bit(me, b, f, who, has, got, keep); b++
	od
}

proctype Reaper()
{
	byte pass, b, f, who;
	bool has, got, keep;

	do
	:: d_step { pass < REAPS -> pass++ };
#ifdef ORPHANS
		if
		:: keep = true
		:: keep = false
		fi;
#endif
		reap(REAPER, b, f, who, has, got, keep)
	:: break
	od;
	done[REAPER] = true;
stopped:
	atomic { pass = 0; b = 0; f = 0; who = 0; has = false; got = false; keep = false }
}

/* Everything that happens by itself. */
#if BITS > 1
#define has_socket(i) (tuple[0] == (i) + 1 || tuple[1] == (i) + 1)
#else
#define has_socket(i) (tuple[0] == (i) + 1)
#endif

inline sockets_go(i)
{
	lets_go(i, 0);
	kernel_closes(i, 0)
#if BITS > 1
	;
	lets_go(i, 1);
	kernel_closes(i, 1)
#endif
}

#define AFTER_DEATH(i)                                                                             \
	:: atomic { life[i] == KILLED && has_socket(i) -> sockets_go(i) }                          \
	:: atomic { life[i] == KILLED && !has_socket(i) -> sockets_go(i); life[i] = DEAD }

proctype World()
{
	byte came, resets;

	do
	:: quiet -> break
#if CRASHES > 0
	AFTER_DEATH(0)
	AFTER_DEATH(1)
	AFTER_DEATH(2)
#if USERS > 2
	AFTER_DEATH(3)
#endif
#endif
#if STRANGERS > 0
	:: atomic { !quiet && came < STRANGERS && tuple[0] == ABSENT -> came++; tuple[0] = STRANGER }
	:: atomic { !quiet && tuple[0] == STRANGER -> tuple[0] = ABSENT }
#endif
#ifdef ORPHANS
	:: atomic { !quiet && tuple[0] == ORPHAN -> tuple[0] = ABSENT }
#if BITS > 1
	:: atomic { !quiet && tuple[1] == ORPHAN -> tuple[1] = ABSENT }
#endif
#endif
#if RESETS > 0
	:: atomic {
		!quiet && resets < RESETS && tuple[0] > 0 && tuple[0] <= USERS && connected[tuple[0] - 1] ->
		resets++;
		lets_go(tuple[0] - 1, 0);
		tuple[0] = ABSENT
	}
#endif
	od
}

#define OVER(i) (life[i] == DEAD || (done[i] && life[i] == RUNNING))

#if USERS > 2
#define ALL_OVER (OVER(0) && OVER(1) && OVER(2) && OVER(3))
#else
#define ALL_OVER (OVER(0) && OVER(1) && OVER(2))
#endif

/* When nobody does anything any more, one reap, and the table is as the kernel is. */
proctype Checker()
{
	byte b, f, who;
	bool has, got, keep;

	atomic {
		ALL_OVER -> quiet = true
	};
	reap(CHECKER, b, f, who, has, got, keep);
	atomic {
		b = 0;
		do
		:: b == BITS -> break
		:: else ->
			assert(!bits[b] || (tuple[b] != ABSENT && tuple[b] != ORPHAN)); /* lost */
			assert(bits[b] || !(tuple[b] > 0 && tuple[b] <= USERS) || hurt[b]); /* bare */
			b++
		od
	};
stopped:
	skip
}

init
{
	atomic {
		run User(0);
		run User(1);
#if USERS > 2
		run User(2);
#endif
		run Reaper();
		run World();
		run Checker()
	}
}
