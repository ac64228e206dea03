/* Takeover: two puppetmasters on one bus, of which one leads. ../takeover.md explains it, and what it leaves out.
 * tests/contract/test_takeover_model.py runs spin.
 *
 * Between any two steps of a process the others may do anything, so each process is as slow as it likes. An `atomic` is
 * one moment: what a process decides by itself, with the one thing that others see of it.
 *
 * A switch leaves one guard out, and spin then shows how that goes wrong: NO_CLIENT_ID, NO_EPOCH, NO_TURN, NO_PERMIT,
 * NO_BARRIER, EARLY_PROBE, NO_LEASE. STRICT asks for more than is promised. FAULTS says how many faults there are;
 * ONLY_ONCE and ONLY_AGAIN leave one of the two requests out, so that more faults can be looked at.
 */
#ifndef FAULTS
#define FAULTS 2
#endif
#ifdef ONLY_ONCE
#define START_AGAIN CANCELED
#else
#define START_AGAIN PENDING
#endif
#ifdef ONLY_AGAIN
#define START_ONCE CANCELED
#else
#define START_ONCE PENDING
#endif
#define A 0		/* the two processes, which are also the ids of their proctypes */
#define B 1
#define NOBODY 2
#define ONCE 0		/* a request whose command may not be repeated */
#define AGAIN 1		/* a request whose command may be repeated */
#define PROBE 2		/* a question that the controller answers itself */
#define SENDINGS 2	/* after so many sendings a command is not repeated any more */

mtype = { PENDING, SENT, UNKNOWN, RESOLVED, CANCELED };		/* what a row says of its request */
mtype = { NOTHING, SEND, CONFIRM };				/* what a turn does when it is on record */
#define ended(s) (s == UNKNOWN || s == RESOLVED || s == CANCELED)

/* ---- the database: a row for the bus and a row for each request; a transaction is done whole or not at all ---- */
byte epoch, owner = NOBODY, turn;
mtype row[2] = { START_ONCE, START_AGAIN };
byte sending[2], answered[2];		/* the last sending on record, and the sending whose answer ended it */
bool session[2];			/* the session of a process with the database stands */
/* A COMMIT whose session broke: epoch, turn, request, status, sending. */
chan orphan = [1] of { byte, byte, byte, mtype, byte };

/* ---- the bus ---- */
bool connected[2];			/* the broker holds a connection of this process open */
chan socket[2] = [3] of { byte, byte };	/* written, and not yet read by the broker: request, sending */
chan queue = [4] of { byte, byte };	/* the one queue from the broker through the controller */
chan running = [3] of { byte, byte };	/* has reached the gateway, and is not answered */
chan kept = [5] of { byte, byte };	/* answers in the session that the broker keeps */
byte probes;				/* the number of the last probe */
bool reached;				/* the command that may not be repeated has reached the gateway */
bool silent[2];				/* the gateway has lost a command of this request: its answer never comes */

/* ---- the processes ---- */
byte left = FAULTS;
bool frozen[2], killed[2];
byte mine[2];				/* the epoch in which a process believes to lead; 0: it is a standby */
bool settled[2];			/* it leads and its barrier is passed */
#define leads(p) (mine[p] == epoch && owner == p && settled[p] && connected[p] && !frozen[p])

/* The lease is over by the database's clock (its holder stands still), or the session of its holder is gone.
 * A is the first to lead: if B were, the names would be exchanged. */
#define free(me) ((owner == NOBODY && me == A) || (owner != NOBODY && (!session[owner] || over(owner))))

#ifdef NO_LEASE
#define over(p) false
#else
#define over(p) frozen[p]
#endif
#ifdef NO_EPOCH
#define fenced(e) false
#else
#define fenced(e) (e != epoch)
#endif
#ifdef NO_TURN
#define follows(t) true
#else
#define follows(t) (t == turn + 1)
#endif
#ifdef NO_PERMIT
#define permit() skip
#else
#define permit() if :: can(mine[me] == epoch) :: can(mine[me] != epoch) -> goto gone fi
#endif
#define can(condition) (!frozen[me] && (condition))	/* the guard of each step of a process: it does not stand still */
#define calm (!doubt[ONCE] && !doubt[AGAIN])
/* The one exception: an answer to an earlier sending has ended the request, and a later one was on its way. */
#ifdef STRICT
#define late(r, n) false
#else
#define late(r, n) (r == AGAIN && row[r] == RESOLVED && answered[r] < n)
#endif

/* What may become of a row: nothing that has ended is changed, but by a late answer where there was none. */
#define allowed(from, to) (from == to || from == PENDING || (from == SENT && to != CANCELED) || \
	(from == UNKNOWN && to == RESOLVED))

/* UPDATE buses SET turn = t WHERE epoch = e AND turn = t - 1, and with it the row of request r. */
inline apply(e) {
	done = !fenced(e) && follows(t);
	if
	:: done ->
		assert(allowed(row[r], status));		/* nothing acknowledged is overwritten */
		assert(status != SENT || row[r] == SENT || n > sending[r]);
		turn = t; row[r] = status;
		if :: status == SENT -> sending[r] = n :: status == RESOLVED -> answered[r] = n :: else fi
	:: else
	fi
}

/* The broker closes the connection of a process: what it has not read of it is lost. */
inline close(p) { connected[p] = false; do :: socket[p]?_,_ :: empty(socket[p]) -> break od }

active [2] proctype Puppetmaster() {
#define me _pid
	byte t, r, n, probe;
	mtype now[2] = PENDING, status = PENDING, then = NOTHING;	/* the requests in its memory; the turn under way */
	byte last[2];		/* the last sending of each request */
	bool fresh, done;	/* nothing has been asked over this connection yet; the turn is on record */
	bool doubt[2];		/* sent over an earlier connection, by this process or by another */

standby:
	{
	/* The lead is taken in one transaction. No older epoch can commit from here. */
	atomic { can(free(me)) -> epoch++; owner = me; mine[me] = epoch; session[me] = true;
		printf("%c -> database: I lead, epoch %d\n", 65 + me, epoch) }
	/* The engine is filled from the rows, as after any restart. */
	atomic {
		can(true) -> t = turn; now[ONCE] = row[ONCE]; now[AGAIN] = row[AGAIN];
		last[ONCE] = sending[ONCE]; last[AGAIN] = sending[AGAIN]
	}
connect:/* Permit, CONNECT with the client id of the bus, permit. The broker throws out who had it before. */
	permit();
	atomic {
		can(true) -> settled[me] = false;
#ifndef NO_CLIENT_ID
		close(1 - me);
#endif
		close(me); connected[me] = true; fresh = true;
		printf("%c -> broker: CONNECT\n", 65 + me)
	}
	permit();
	/* What is on record as sent is in doubt until a probe is answered, which is behind all of it. */
#ifndef EARLY_PROBE
	if :: then == SEND -> goto act :: else fi;	/* what was on its way out goes before the probe */
#endif
barrier:
	atomic {
		can(nfull(socket[me])) -> settled[me] = false; fresh = false; probes++; probe = probes;
		doubt[ONCE] = now[ONCE] == SENT; doubt[AGAIN] = now[AGAIN] == SENT;
		if :: connected[me] -> socket[me]!PROBE,probe; printf("%c -> broker: probe\n", 65 + me) :: else fi;
#ifdef NO_BARRIER
		settled[me] = true
#endif
	}
#ifdef EARLY_PROBE
	if :: then == SEND -> goto act :: else fi;
#endif
decide:	/* A turn: a change is decided, then made durable, and only then acted on. */
	atomic {
		if
		:: can(connected[me] && nempty(kept)) ->	/* the first answer that is not acknowledged */
			kept?<r,n>; then = CONFIRM;
			if
			:: r == PROBE -> settled[me] = settled[me] || n == probe; probe = (settled[me] -> 0 : probe);
				printf("broker -> %c: the probe is answered\n", 65 + me); goto act
			:: r != PROBE && (now[r] == RESOLVED || now[r] == CANCELED) -> goto act
			:: else -> status = RESOLVED
			fi
		:: can(settled[me] && doubt[ONCE]) -> r = ONCE; n = last[r]; status = UNKNOWN
		:: can(settled[me] && doubt[AGAIN]) ->
			r = AGAIN; n = last[r]; status = (n < SENDINGS -> PENDING : UNKNOWN)
		:: can(settled[me] && calm && now[ONCE] == PENDING) -> r = ONCE; then = SEND
		:: can(settled[me] && calm && now[AGAIN] == PENDING) -> r = AGAIN; then = SEND
		:: can(now[AGAIN] == PENDING && last[AGAIN] == 0) -> r = AGAIN; status = CANCELED	/* a caller cancels */
		:: can(settled[me] && calm && ((now[ONCE] == SENT && silent[ONCE]) ||
			(now[AGAIN] == SENT && silent[AGAIN]))) -> goto barrier		/* no answer in time */
		:: can(!connected[me]) -> goto connect
		:: can(fenced(mine[me])) -> goto gone		/* the lease cannot be renewed: another process leads */
		:: can(!session[me] && !fenced(mine[me])) -> session[me] = true; goto decide
		fi;
		if :: then == SEND -> status = SENT; n = last[r] + 1 :: else fi;
write:
		t++;
again:
		if	/* COMMIT */
		:: apply(mine[me]); session[me] = true;
			if :: done -> printf("%c -> database: request %d is %e\n", 65 + me, r, status) :: else fi
		:: left -> left--; session[me] = false; done = false;	/* the session breaks in it */
			if
			:: apply(mine[me]); done = false
			:: nfull(orphan) -> orphan!mine[me],t,r,status,n
			:: skip
			fi;
			if :: killed[me] = true :: skip fi
		fi
	}
committed:
	atomic {
		if
		:: can(done)
		:: can(!done) ->	/* not known, or no row had this epoch and turn before: the row of the bus says which */
			session[me] = true;
			if
			:: fenced(mine[me]) -> goto gone
			:: !fenced(mine[me]) && turn == t		/* it was done */
			:: else -> goto again				/* it was not: the same turn again */
			fi
		fi;
		now[r] = status; doubt[r] = false; done = false;
		if :: then == SEND -> last[r] = n :: else fi
	}
act:
	atomic {
		if
		:: can(then == SEND && connected[me] && nfull(socket[me])) -> socket[me]!r,n;
			printf("%c -> broker: command of request %d\n", 65 + me, r)
		:: can(then == SEND && !connected[me])			/* into a connection that the broker has closed */
		:: can(then == SEND && !connected[me]) ->	/* it is known that it did not leave */
			settled[me] = false; then = NOTHING; status = PENDING; n = last[r]; goto write
		:: can(then == SEND && !connected[me]) -> goto connect	/* connections are made anew by a thread of their own */
		:: can(then == CONFIRM && connected[me]) ->
			assert(r == PROBE || row[r] == RESOLVED || row[r] == CANCELED);	/* nothing acknowledged is lost */
			kept?_,_
		:: can(then == CONFIRM && !connected[me])		/* the broker brings it again */
		:: can(then == NOTHING)
		fi;
		then = NOTHING; status = PENDING; r = 0; n = 0;
		if :: fresh -> goto barrier :: else -> goto decide fi
	}
	} unless { killed[me] };
gone:	/* The process ends, and its supervisor starts it as a standby. */
	atomic {
		killed[me] = false; session[me] = false; mine[me] = 0; settled[me] = false;
		t = 0; r = 0; n = 0; probe = 0; fresh = false; done = false; status = PENDING; then = NOTHING;
		now[ONCE] = PENDING; now[AGAIN] = PENDING; last[ONCE] = 0; last[AGAIN] = 0;
		doubt[ONCE] = false; doubt[AGAIN] = false; goto standby
	}
#undef me
}

/* A COMMIT whose session broke is done late. */
active proctype Database() {
	byte e, t, r, n; mtype status = PENDING; bool done;
end:	do
	:: atomic { orphan?e,t,r,status,n -> apply(e); e = 0; t = 0; r = 0; n = 0; status = PENDING; done = false }
	od
}

/* The broker passes on what was written to a connection that is open when it reads. */
active proctype Broker() {
	byte r, n;
end:	do
	:: atomic { nfull(queue) && nempty(socket[A]) -> socket[A]?r,n; queue!r,n; r = 0; n = 0 }
	:: atomic { nfull(queue) && nempty(socket[B]) -> socket[B]?r,n; queue!r,n; r = 0; n = 0 }
	od
}

/* The controller answers a probe itself, and passes a command on to its gateway. */
active proctype Controller() {
	byte r, n;
end:	do
	:: atomic { nfull(kept) && nfull(running) && nempty(queue) -> queue?r,n;
		if
		:: r == PROBE -> kept!r,n
		:: else ->
			printf("broker -> gateway: command of request %d\n", r);
			assert(r == AGAIN || !reached);			/* it comes once */
			assert(!ended(row[r]) || late(r, n));		/* it comes before its request has ended */
			assert(n == sending[r]);			/* it is on record, and the last of its request */
			reached = reached || r == ONCE; running!r,n
		fi;
		r = 0; n = 0 }
	od
}

/* The gateway answers when it has done what was asked, however long that takes. */
active proctype Gateway() {
	byte r, n;
end:	do
	:: atomic { nfull(kept) && nempty(running) -> running?r,n; kept!r,n; r = 0; n = 0 }
	od
}

/* What may go wrong, FAULTS times in all. What is frozen wakes when it likes, or never. */
active proctype Faults() {
	byte r, n;
	do
	:: atomic { left && mine[A] -> left--; killed[A] = true; frozen[A] = false; session[A] = false;
		printf("A: is killed\n") }
	:: atomic { left && mine[B] -> left--; killed[B] = true; frozen[B] = false; session[B] = false;
		printf("B: is killed\n") }
	:: atomic { left && mine[A] && !frozen[A] && !frozen[B] -> left--; frozen[A] = true; printf("A: freezes\n") }
	:: atomic { left && mine[B] && !frozen[A] && !frozen[B] -> left--; frozen[B] = true; printf("B: freezes\n") }
	:: atomic { frozen[A] -> frozen[A] = false; printf("A: wakes\n") }
	:: atomic { frozen[B] -> frozen[B] = false; printf("B: wakes\n") }
	:: atomic { left && session[A] -> left--; session[A] = false;
		printf("A: its session with the database breaks\n") }
	:: atomic { left && session[B] -> left--; session[B] = false;
		printf("B: its session with the database breaks\n") }
	:: atomic { left && connected[A] -> left--; close(A);
		printf("A: its connection to the broker breaks\n") }
	:: atomic { left && connected[B] -> left--; close(B);
		printf("B: its connection to the broker breaks\n") }
	:: atomic { left && nempty(queue) -> left--;			/* the broker restarts */
		close(A); close(B); do :: queue?_,_ :: empty(queue) -> break od }
	:: atomic { left && nempty(running) -> left--; running?r,n; silent[r] = true; r = 0; n = 0 }	/* the gateway restarts */
	:: break
	od;
	do :: left <= FAULTS od	/* time passes: a run has no end, which is what fairness is about */
}

/* After the last fault every request ends, and somebody leads. */
ltl settles { <>[] (ended(row[ONCE]) && ended(row[AGAIN]) && (leads(A) || leads(B))) }

/* These are wrong, and spin must say so: B leads while A stands still at each of its steps, and a command arrives. */
#define beside(label) (frozen[A] && leads(B) && Puppetmaster[0]@label)
ltl no_command { [] !reached }
ltl not_at_connect { [] !beside(connect) }
ltl not_at_barrier { [] !beside(barrier) }
ltl not_at_decide { [] !beside(decide) }
ltl not_at_commit { [] !beside(committed) }
ltl not_at_act { [] !beside(act) }
