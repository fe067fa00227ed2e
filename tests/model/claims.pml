/*
 * Claims of one slab: connect(), close(), kill -9 and reap, all at once.
 *
 * What lib/table/{claim,flight,inspect,reap}.c and lib/engine/tuple.c and lib/preload/close.c do with a claim, each
 * access to shared memory and each question to the kernel a step of its own, in the code's order. A
 * step is named where it stands, with the function that does it; there the code names it as well, and
 * tests/model/run compares. The slab stays LIVE and its lane's (slabs.pml is about what becomes of it
 * otherwise), so a claim is a bit. Memory is sequentially consistent here: the memory orders are not
 * checked. Who flies finds a place.
 *
 * The kernel gives a tuple to one socket. So no table, however wrong, costs a connection; what
 * the protocol's guards prevent is that the table is wrong. Shown is:
 *
 *   mine       a claim is not given out twice
 *   old        nobody but its holder takes a claim from him, as long as he lives and has its tuple,
 *              may get it, or is about to give it back
 *   needless   the kernel refuses a tuple for what it knows alone (a stranger, an orphan), never
 *              because the table gave it out too early
 *   lost       in the end, after one reap, each claim has a socket ...
 *   bare       ... and each socket has its claim
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
byte inspected;	    /* the one place for inspections: bit + 1; 0: none */
byte inspector;	    /* process + 1; 0: none */
#if RESETS > 0
byte takings;
byte known[USERS]; /* private: takings before the claim */
#endif

/* The kernel. */
byte tuple[BITS];
byte life[USERS + 1];
bool done[USERS + 1];
byte kills;
bool quiet;
#if RESETS > 0
bool connected[USERS];
#endif

/* For the properties alone: sets of processes, who took it and have a socket that has the tuple or may get it. */
byte holders[BITS];

inline lets_go(who, b)
{
	holders[b] = holders[b] & ~ONE(who)
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
			assert(holders[b] == 0); /* mine */
			holders[b] = holders[b] | ONE(who)
		:: else
		fi
	}
}

/* fetch_and */
inline clear_bit(who, b)
{
	atomic {
		may_die(who);
		lets_go(who, b);
		assert(!bits[b] || holders[b] == 0); /* old */
		bits[b] = false
	}
}

/* A claim that the process has in flight is given back, unless somebody inspects it. */
inline give_back(me, b)
{
	if
#ifndef WITHOUT_GIVING_WAY
	:: atomic { inspected == b + 1 -> may_die(me); lets_go(me, b) } /* L4a: claim_give_back() */
	:: inspected != b + 1 ->
#else
	:: true ->
#endif
		clear_bit(me, b) /* L4: claim_give_back() */
	fi
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
	atomic { /* F1: flight_begin() */
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
	atomic { may_die(who); what[f] = 0 }; /* F2: flight_end() */
	atomic { may_die(who); owner[f] = 0 } /* F3: flight_end() */
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
	:: atomic { f < PLACES && !has && what[f] != b + 1 -> f++ } /* F4: flight_has() */
	:: atomic { f < PLACES && !has && what[f] == b + 1 -> skip };
		who = owner[f]; /* F5: in_flight() */
		if
		:: atomic { who != 0 && MAY_LIVE(who) -> has = true }
		:: atomic { who == 0 -> f++ }
		:: who != 0 && !MAY_LIVE(who) ->
			atomic {
				may_die(me);
				if
				:: owner[f] == who -> owner[f] = 0 /* F6: in_flight() */
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

/*
 * A claim that may have no holder: held still, looked into, and taken away. has: somebody has it, or
 * it was not to be had.
 */
inline inspect(me, b, f, who, has, keep)
{
	atomic { /* I1: inspect_begin() */
		may_die(me);
		has = inspector != 0 && MAY_LIVE(inspector);
		if
		:: !has -> inspector = me + 1
		:: else
		fi
	};
	if
	:: has
	:: !has ->
		atomic { may_die(me); inspected = b + 1 }; /* I2: inspect_begin() */
#if !defined(WITHOUT_FLIGHT) && !defined(WITHOUT_FIRST_FLIGHTS)
		flight_has(me, b, f, who, has); /* I3: judge() */
#endif
		if
		:: has
		:: !has ->
#ifndef WITHOUT_BIT
			has = !bits[b] /* I4: bit_of_claimer() */
#else
			skip
#endif
		fi;
		if
		:: has
		:: !has ->
#if !defined(WITHOUT_FLIGHT) && !defined(WITHOUT_SECOND_FLIGHTS)
			flight_has(me, b, f, who, has); /* I5: judge() */
#endif
			if
			:: has
			:: !has ->
#ifndef WITHOUT_KERNEL
				has = !ABANDONED(b, keep) /* I6: judge() */
#else
				skip
#endif
			fi
		fi;
		if
		:: has
		:: !has ->
#if RESETS > 0
			atomic { may_die(me); takings++ }; /* I7a: inspect() */
#endif
			clear_bit(me, b) /* I7: inspect() */
		fi;
		atomic { may_die(me); inspected = 0 }; /* I8: inspect_end() */
		atomic { may_die(me); inspector = 0 } /* I9: inspect_end() */
	fi;
	has = false
}

/* close() of a socket with the claim b, by the process's last descriptor. */
inline close_socket(me, b, f, who, has, shared, keep)
{
	shared = false;
#ifdef SHARED
	if
	:: shared = true
	:: skip
	fi;
#endif
	if
	:: shared
	:: !shared ->
#ifndef WITHOUT_CLOSE_FLIGHT
		flight_begin(me, f);
		atomic { may_die(me); what[f] = b + 1 }; /* L2: flight_with() */
#ifndef WITHOUT_LOOK_FOR_INSPECTION
		shared = inspected == b + 1; /* L2b: flight_with() */
#endif
#endif
#if RESETS > 0 && !defined(WITHOUT_STATE)
		if
		:: shared || takings == known[me] /* L2c: may_be_lost() */
		:: !shared && takings != known[me] -> shared = tuple[b] != me + 1 /* L1: may_be_lost() */
		fi;
#endif
		if
		:: shared ->
#ifndef WITHOUT_CLOSE_FLIGHT
			flight_end(me, f)
#else
			skip
#endif
		:: !shared
		fi
	fi;
#ifdef WITHOUT_CLOSE_ORDER
	if
	:: shared
	:: !shared -> give_back(me, b)
	fi;
#endif
	atomic { /* L3: close() */
		may_die(me);
		if
		:: shared -> lets_go(me, b)
		:: else
		fi;
		kernel_closes(me, b)
	};
	if
	:: !shared ->
#ifndef WITHOUT_CLOSE_ORDER
		give_back(me, b);
#endif
#ifndef WITHOUT_CLOSE_FLIGHT
		flight_end(me, f)
#else
		skip
#endif
	:: shared ->
#ifdef WITHOUT_LOOK
		clear_bit(me, b)
#else
		inspect(me, b, f, who, has, keep)
#endif
	fi;
	atomic { f = 0; has = false; shared = false }
}

/* A look which bits are free, any of which may be the next; BITS: none. */
inline choose(b)
{
	atomic { /* C1: claim_in_word() */
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
#if RESETS > 0
	known[me] = takings; /* C0: tuple_begin_flight() */
#endif
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
		atomic { may_die(me); what[f] = b + 1 }; /* C2: announce() */
#endif
		set_bit(me, b, got); /* C3: claim_in_word() */
		if
		:: !got
		:: got ->
#if defined(WITHOUT_ANNOUNCEMENT)
			atomic { may_die(me); what[f] = b + 1 };
#endif
#if defined(WITHOUT_LANDING)
			flight_end(me, f);
#endif
			atomic { /* C4: tuple_call() */
				may_die(me);
				if
				:: tuple[b] == ABSENT -> tuple[b] = me + 1; open = true
				:: tuple[b] != ABSENT ->
					assert(tuple[b] > USERS); /* needless */
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
		/* Nobody answers, or refuses: the kernel has the tuple no more. */
		atomic { may_die(me); tuple[b] = ABSENT };
#ifdef WITHOUT_FAILING_FLIGHT
		flight_end(me, f);
		flight_begin(me, f);
#endif
		give_back(me, b); /* C6: undo_tuple() */
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
	bool got, open, shared, keep;

	do
	:: d_step { round < ROUNDS -> round++ };
		connect_socket(me, b, f, got, open);
		if
		:: open ->
			if
			:: close_socket(me, b, f, who, got, shared, keep); open = false
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

inline reap(me, b, f, who, has, keep)
{
	b = 0;
	do
	:: b == BITS -> break
	:: atomic { b < BITS && !bits[b] -> b++ } /* R1: reap_slab() */
	:: b < BITS && bits[b] ->
		if
		:: !ABANDONED(b, keep) /* R2: look_at() */
		:: ABANDONED(b, keep) -> inspect(me, b, f, who, has, keep)
		fi;
		b++
	od
}

proctype Reaper()
{
	byte pass, b, f, who;
	bool has, keep;

	do
	:: d_step { pass < REAPS -> pass++ };
#ifdef ORPHANS
		if
		:: keep = true
		:: keep = false
		fi;
#endif
		reap(REAPER, b, f, who, has, keep)
	:: break
	od;
	done[REAPER] = true;
stopped:
	atomic { pass = 0; b = 0; f = 0; who = 0; has = false; keep = false }
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
	bool has, keep;

	atomic {
		ALL_OVER -> quiet = true
	};
	reap(CHECKER, b, f, who, has, keep);
	atomic {
		b = 0;
		do
		:: b == BITS -> break
		:: else ->
			assert(!bits[b] || (tuple[b] != ABSENT && tuple[b] != ORPHAN)); /* lost */
			assert(bits[b] || !(tuple[b] > 0 && tuple[b] <= USERS)); /* bare */
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
