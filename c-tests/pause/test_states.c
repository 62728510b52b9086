/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The state table: a callout is brought into each state, and every operation
 * is applied from every caller that may. A row of cells[] is a cell of the
 * table; what the next state was shows in what happens afterwards.
 */

#include <stdatomic.h>
#include <stdio.h>

#include "pause.h"
#include "../api/suite.h"

enum op {
	SAME = 1,   /* reset to the cpu it is on */
	KEEP = 2,   /* reset with cpu -1 */
	OTHER = 4,  /* reset to the other cpu */
	STOP = 8,
	DRAIN = 16,
	ASYNC = 32,
	ALL_OPS = 63,
	RESET = SAME | KEEP | OTHER
};

enum caller {
	SELF = 1,      /* in the handler */
	STRANGER = 2,  /* a thread that is not registered */
	OTHER_CPU = 4, /* the thread of cpu 1 */
	HANDLER = 8,   /* another callout's handler, on cpu 1 */
	DRAINED = 16,  /* another callout's drain function, on cpu 1 */
	THREADS = STRANGER | OTHER_CPU,
	OTHERS = THREADS | HANDLER | DRAINED
};

enum lock { NO_LOCK, LOCKED, RETURNS_UNLOCKED };

/* How a drain is asked for before the operation. */
enum prior { NO_DRAIN, SLEEPER, DRAIN_FN };

/* What happens before a state's operation, in the order of the fields. */
struct state {
	const char *name;
	enum lock lock;
	int idle_arm;       /* never dequeued: 0 idle, 1 in the wheel, 2 due, 3 run to its end */
	int park;           /* where cpu 0 stands meanwhile, or NOWHERE */
	enum op outside[2]; /* done under the lock while it stands there */
	enum op inside;     /* what the handler does */
	enum prior drain;
	int drain_ret;      /* what that drain returns in the end */
	int moves;          /* then: a hand-over to cpu 1 is held between the locks */
	int pending, active;
};

/* As inside, outside or moved armings are made with the second argument. */
static const struct state
	S0 = { "S0", .park = NOWHERE },
	S0_LOCKED = { "S0 locked", LOCKED, .park = NOWHERE },
	S0_RAN = { "S0 after a run", .idle_arm = 3, .park = NOWHERE, .active = 1 },
	S1 = { "S1", .idle_arm = 1, .park = NOWHERE, .pending = 1, .active = 1 },
	S1_LOCKED = { "S1 locked", LOCKED, 1, NOWHERE, .pending = 1, .active = 1 },
	S1_DUE = { "S1 due", .idle_arm = 2, .park = NOWHERE, .pending = 1, .active = 1 },
	S2 = { "S2", LOCKED, .park = KEEL_AT_LOCKWAIT, .active = 1 },
	S3 = { "S3", LOCKED, .park = KEEL_AT_LOCKWAIT, .outside = { STOP } },
	S2_UNLOCKS = { "S2 returning unlocked", RETURNS_UNLOCKED, .park = KEEL_AT_LOCKWAIT, .active = 1 },
	S3_UNLOCKS = { "S3 returning unlocked", RETURNS_UNLOCKED, .park = KEEL_AT_LOCKWAIT, .outside = { STOP } },
	S4 = { "S4", LOCKED, .park = KEEL_AT_LOCKWAIT, .outside = { SAME }, .pending = 1, .active = 1 },
	S4_LATER = { "S4 from S3", LOCKED, .park = KEEL_AT_LOCKWAIT, .outside = { STOP, SAME }, .pending = 1, .active = 1 },
	S5 = { "S5", LOCKED, .park = KEEL_AT_LOCKWAIT, .outside = { OTHER }, .pending = 1, .active = 1 },
	S5_LATER = { "S5 from S3", LOCKED, .park = KEEL_AT_LOCKWAIT, .outside = { STOP, OTHER }, .pending = 1, .active = 1 },
	S6_SELF = { "S6", .park = NOWHERE, .active = 1 },
	S6_SELF_LOCKED = { "S6 locked", LOCKED, .park = NOWHERE, .active = 1 },
	S6 = { "S6", .park = KEEL_AT_HANDLER_ENTER, .active = 1 },
	S6_DEQUEUED = { "S6 dequeued", .park = KEEL_AT_DEQUEUED, .active = 1 },
	S6_END = { "S6 after its handler", .park = KEEL_AT_UNLOCKED, .active = 1 },
	S6_UNLOCKED = { "S6 unlocked by its handler", RETURNS_UNLOCKED, .park = KEEL_AT_HANDLER_EXIT, .active = 1 },
	S6_UNLOCKED_END = { "S6 after the handler that unlocked", RETURNS_UNLOCKED, .park = KEEL_AT_UNLOCKED, .active = 1 },
	S7_SELF = { "S7", .park = NOWHERE, .inside = SAME, .pending = 1, .active = 1 },
	S7_SELF_LOCKED = { "S7 locked", LOCKED, .park = NOWHERE, .inside = SAME, .pending = 1, .active = 1 },
	S7 = { "S7", .park = KEEL_AT_HANDLER_EXIT, .inside = SAME, .pending = 1, .active = 1 },
	S7_OUTSIDE = { "S7 by another", .park = KEEL_AT_HANDLER_ENTER, .outside = { KEEP }, .pending = 1, .active = 1 },
	S8_SELF = { "S8", .park = NOWHERE, .inside = OTHER, .pending = 1, .active = 1 },
	S8_SELF_LOCKED = { "S8 locked", LOCKED, .park = NOWHERE, .inside = OTHER, .pending = 1, .active = 1 },
	S8 = { "S8", .park = KEEL_AT_HANDLER_EXIT, .inside = OTHER, .pending = 1, .active = 1 },
	S8_OUTSIDE = { "S8 by another", .park = KEEL_AT_HANDLER_ENTER, .outside = { OTHER }, .pending = 1, .active = 1 },
	S9 = { "S9", LOCKED, .park = KEEL_AT_UNLOCKED, .active = 1 },
	S9_SAME = { "S9 re-armed", LOCKED, .park = KEEL_AT_UNLOCKED, .inside = SAME, .pending = 1, .active = 1 },
	S9_OTHER = { "S9 re-armed elsewhere", LOCKED, .park = KEEL_AT_UNLOCKED, .inside = OTHER, .pending = 1, .active = 1 },
	S10_2 = { "S10 (S2)", LOCKED, .park = KEEL_AT_LOCKWAIT, .drain = SLEEPER, .drain_ret = -1 },
	S10_3 = { "S10 (S3)", LOCKED, .park = KEEL_AT_LOCKWAIT, .outside = { STOP }, .drain = SLEEPER, .drain_ret = -1 },
	S10_4 = { "S10 (S4)", LOCKED, .park = KEEL_AT_LOCKWAIT, .outside = { SAME }, .drain = SLEEPER, .drain_ret = 1 },
	S10_5 = { "S10 (S5)", LOCKED, .park = KEEL_AT_LOCKWAIT, .outside = { OTHER }, .drain = SLEEPER, .drain_ret = 1 },
	S10_6 = { "S10 (S6)", .park = KEEL_AT_HANDLER_ENTER, .drain = SLEEPER, .drain_ret = -1 },
	S10_7 = { "S10 (S7)", .park = KEEL_AT_HANDLER_EXIT, .inside = SAME, .drain = SLEEPER, .drain_ret = 1 },
	S10_8 = { "S10 (S8)", .park = KEEL_AT_HANDLER_EXIT, .inside = OTHER, .drain = SLEEPER, .drain_ret = 1 },
	S10_9 = { "S10 (S9)", LOCKED, .park = KEEL_AT_UNLOCKED, .drain = SLEEPER, .drain_ret = -1 },
	S10A_2 = { "S10 async (S2)", LOCKED, .park = KEEL_AT_LOCKWAIT, .drain = DRAIN_FN },
	S10A_4 = { "S10 async (S4)", LOCKED, .park = KEEL_AT_LOCKWAIT, .outside = { SAME }, .drain = DRAIN_FN },
	S10A_6 = { "S10 async (S6)", .park = KEEL_AT_HANDLER_ENTER, .drain = DRAIN_FN },
	S10A_7 = { "S10 async (S7)", .park = KEEL_AT_HANDLER_EXIT, .inside = SAME, .drain = DRAIN_FN },
	S10A_8 = { "S10 async (S8)", .park = KEEL_AT_HANDLER_EXIT, .inside = OTHER, .drain = DRAIN_FN },
	S10A_9 = { "S10 async (S9)", LOCKED, .park = KEEL_AT_UNLOCKED, .drain = DRAIN_FN },
	/* the operation spins: pending and active count as those of the state that it meets */
	S11 = { "S11", .idle_arm = 1, .park = NOWHERE, .moves = 1, .pending = 1, .active = 1 },
	S11_IDLE = { "S11 from S0", .park = NOWHERE, .moves = 1, .pending = 1, .active = 1 },
	S11_END = { "S11 at the end of a run", .park = KEEL_AT_HANDLER_EXIT, .inside = OTHER, .moves = 2, .pending = 1,
	            .active = 1 };

/* What a row expects; the columns after ret say what follows. */
struct cell {
	const struct state *in;
	int callers;
	int ops;
	int ret;
	int first; /* runs of the first arming */
	int next;  /* runs of the operation's arming, on the cpu that it named */
	int fn;    /* calls of the drain function */
	int waits; /* a drain that sleeps */
};

#define NEVER_RUN(state, armed) \
	{ &state, OTHERS, RESET, armed, 0, 1, 0, 0 }, \
	{ &state, OTHERS, STOP | DRAIN | ASYNC, (armed) ? 1 : -1, 0, 0, 0, 0 }

/* ret of a reset, of a stop, of a drain; whether the first handler runs, and does so before a drain. */
#define EXECUTING(state, who, reset, stop, drain, ran, ran_drain) \
	{ &state, who, RESET, reset, ran, 1, 0, 0 }, \
	{ &state, who, STOP, stop, ran, 0, 0, 0 }, \
	{ &state, (who) & THREADS, DRAIN, drain, ran_drain, 0, 0, 1 }, \
	{ &state, who, ASYNC, 0, ran, 0, 1, 0 }

/* The same while a drain waits: re-arms are refused. */
#define DRAINING(state, who, reset, stop, ran, ran_drain, fn) \
	{ &state, who, RESET, reset, ran, 0, fn, 0 }, \
	{ &state, who, STOP, stop, ran, 0, fn, 0 }, \
	{ &state, (who) & THREADS, DRAIN, -1, ran_drain, 0, fn, 1 }, \
	{ &state, who, ASYNC, 0, ran, 0, 1, 0 }

static const struct cell cells[] = {
	NEVER_RUN(S0, 0),
	NEVER_RUN(S0_LOCKED, 0),
	{ &S0_RAN, OTHERS, RESET, 0, 1, 1, 0, 0 },
	{ &S0_RAN, OTHERS, STOP | DRAIN | ASYNC, -1, 1, 0, 0, 0 },
	NEVER_RUN(S1, 1),
	NEVER_RUN(S1_LOCKED, 1),
	NEVER_RUN(S1_DUE, 1),
	EXECUTING(S2, OTHERS, 1, 1, -1, 0, 1),
	EXECUTING(S2_UNLOCKS, OTHERS, 1, 1, -1, 0, 1),
	EXECUTING(S3, OTHERS, 0, -1, -1, 0, 0),
	EXECUTING(S3_UNLOCKS, OTHERS, 0, -1, -1, 0, 0),
	EXECUTING(S4, OTHERS, 1, 1, 1, 0, 0),
	EXECUTING(S4_LATER, OTHERS, 1, 1, 1, 0, 0),
	EXECUTING(S5, OTHERS, 1, 1, 1, 0, 0),
	EXECUTING(S5_LATER, OTHERS, 1, 1, 1, 0, 0),
	EXECUTING(S6_SELF, SELF, 0, 0, 0, 1, 1),
	EXECUTING(S6_SELF_LOCKED, SELF, 0, 0, 0, 1, 1),
	EXECUTING(S6, OTHERS, 0, 0, -1, 1, 1),
	EXECUTING(S6_DEQUEUED, OTHERS, 0, 0, -1, 1, 1),
	EXECUTING(S6_END, OTHERS, 0, 0, -1, 1, 1),
	EXECUTING(S6_UNLOCKED, OTHERS, 0, 0, -1, 1, 1),
	EXECUTING(S6_UNLOCKED_END, OTHERS, 0, 0, -1, 1, 1),
	EXECUTING(S7_SELF, SELF, 1, 0, 0, 1, 1),
	EXECUTING(S7_SELF_LOCKED, SELF, 1, 0, 0, 1, 1),
	EXECUTING(S7, OTHERS, 1, 0, 1, 1, 1),
	EXECUTING(S7_OUTSIDE, OTHERS, 1, 0, 1, 1, 1),
	EXECUTING(S8_SELF, SELF, 1, 0, 0, 1, 1),
	EXECUTING(S8_SELF_LOCKED, SELF, 1, 0, 0, 1, 1),
	EXECUTING(S8, OTHERS, 1, 0, 1, 1, 1),
	EXECUTING(S8_OUTSIDE, OTHERS, 1, 0, 1, 1, 1),
	EXECUTING(S9, OTHERS, 0, -1, -1, 1, 1),
	EXECUTING(S9_SAME, OTHERS, 1, 1, 1, 1, 1),
	EXECUTING(S9_OTHER, OTHERS, 1, 1, 1, 1, 1),
	DRAINING(S10_2, OTHERS, 1, 1, 0, 1, 0),
	DRAINING(S10_3, OTHERS, 0, -1, 0, 0, 0),
	DRAINING(S10_4, OTHERS, 0, -1, 0, 0, 0),
	DRAINING(S10_5, OTHERS, 0, -1, 0, 0, 0),
	DRAINING(S10_6, OTHERS | SELF, 0, 0, 1, 1, 0),
	DRAINING(S10_7, OTHERS, 0, 0, 1, 1, 0),
	DRAINING(S10_8, OTHERS, 0, 0, 1, 1, 0),
	DRAINING(S10_9, OTHERS, 0, -1, 1, 1, 0),
	DRAINING(S10A_2, OTHERS, 0, -1, 0, 0, 1),
	DRAINING(S10A_4, OTHERS, 0, -1, 0, 0, 1),
	DRAINING(S10A_6, OTHERS | SELF, 0, 0, 1, 1, 1),
	DRAINING(S10A_7, OTHERS, 0, 0, 1, 1, 1),
	DRAINING(S10A_8, OTHERS, 0, 0, 1, 1, 1),
	DRAINING(S10A_9, OTHERS, 0, -1, 1, 1, 1),
	{ &S11, OTHERS, RESET, 1, 0, 1, 0, 0 },
	{ &S11, OTHERS, STOP | DRAIN | ASYNC, 1, 0, 0, 0, 0 },
	{ &S11_IDLE, OTHERS, RESET, 1, 0, 1, 0, 0 },
	{ &S11_IDLE, OTHERS, STOP | DRAIN | ASYNC, 1, 0, 0, 0, 0 },
	{ &S11_END, OTHERS, RESET, 1, 1, 1, 0, 0 },
	{ &S11_END, OTHERS, STOP | DRAIN | ASYNC, 1, 1, 0, 0, 0 },
};

/* --- one cell ----------------------------------------------------------------- */

enum arming { FIRST, BEFORE, NEXT, ARMINGS };

/* A handler's argument: which arming it was, and what came of it. */
struct fate {
	atomic_int runs;
	atomic_int cpu;
};

static struct {
	const struct cell *cell;
	const struct state *state;
	enum op op;
	enum caller caller;
	char name[96];
	struct callout c, ahead, envoy;
	pthread_mutex_t lock;
	struct fate fate[ARMINGS];
	atomic_int drained;       /* calls of the drain function */
	atomic_int drained_last;  /* one came after a sleeping drain had returned */
	atomic_int ret, drain_ret;
} t;

#define expect(got, wanted, what) \
	do { \
		int got_ = (got), wanted_ = (wanted); \
		ck_assert_msg(got_ == wanted_, "%s: %s is %d, expected %d", t.name, what, got_, wanted_); \
	} while (0)

static void operate(void);
static int apply(enum op op, enum arming as);

static void handler(void *arg)
{
	struct fate *f = arg;

	atomic_store(&f->cpu, (int)keel_tid());
	if (atomic_fetch_add(&f->runs, 1) == 0 && f == &t.fate[FIRST]) {
		if (t.state->inside)
			expect(apply(t.state->inside, BEFORE), 0, "the handler's re-arm");
		if (t.caller == SELF)
			operate();
	}
	if (t.state->lock == RETURNS_UNLOCKED)
		pthread_mutex_unlock(&t.lock);
}

static void drained(void *arg)
{
	expect(arg == &t.fate[FIRST], 1, "the drain function's argument as the handler's");
	atomic_fetch_add(&t.drained, 1);
	if (t.state->drain == SLEEPER && !is_busy(HELPER))
		atomic_store(&t.drained_last, 1);
}

static int apply(enum op op, enum arming as)
{
	int moved = as == NEXT && t.state->moves; /* to cpu 1 */

	switch (op) {
	case SAME:
		return arm_now(&t.c, handler, &t.fate[as], moved);
	case KEEP:
		return arm_now(&t.c, handler, &t.fate[as], -1);
	case OTHER:
		return arm_now(&t.c, handler, &t.fate[as], !moved);
	case STOP:
		return callout_stop(&t.c);
	case DRAIN:
		return callout_drain(&t.c);
	default:
		return callout_async_drain(&t.c, drained);
	}
}

/* Where the operation's arming has to run. */
static int target(void)
{
	return (t.op == OTHER) != !!t.state->moves;
}

static void look(const char *when, int pending, int active)
{
	char what[64];

	snprintf(what, sizeof(what), "pending %s", when);
	expect(callout_pending(&t.c) != 0, pending, what);
	snprintf(what, sizeof(what), "active %s", when);
	expect(callout_active(&t.c) != 0, active, what);
}

/* What the operation leaves behind at once. */
static void look_after(void)
{
	if (t.op & RESET) {
		if (t.state->drain)
			look("after a refusal", 0, 0);
		else
			look("after the reset", 1, 1);
	} else {
		look("after the operation", 0, 0);
	}
}

static void hold(void)
{
	if (t.state->lock != NO_LOCK)
		pthread_mutex_lock(&t.lock);
}

static void drop(void)
{
	if (t.state->lock != NO_LOCK)
		pthread_mutex_unlock(&t.lock);
}

/* The operation, with the lock as the table wants it. */
static void operate(void)
{
	int locks = t.caller != SELF && t.op != DRAIN;

	if (locks)
		hold();
	if (!t.state->moves)
		look("before", t.state->pending, t.state->active);
	atomic_store(&t.ret, apply(t.op, NEXT));
	if (!t.cell->waits)
		look_after();
	if (locks)
		drop();
}

static void operate_here(void *arg)
{
	(void)arg;
	operate();
}

static void drained_self(void *arg)
{
	(void)arg;
	ck_assert_int_eq(callout_async_drain(&t.envoy, operate_here), 0);
}

/* Has the caller operate; returns the thread that does. */
static int send_caller(void)
{
	switch (t.caller) {
	case STRANGER:
		begin(CALLER, operate_here, NULL);
		return CALLER;
	case OTHER_CPU:
		begin(CPU1, operate_here, NULL);
		return CPU1;
	default:
		callout_init(&t.envoy, 1);
		arm_now(&t.envoy, t.caller == HANDLER ? operate_here : drained_self, NULL, 1);
		begin_pass(CPU1);
		return CPU1;
	}
}

static void drain_too(void *arg)
{
	(void)arg;
	atomic_store(&t.drain_ret, callout_drain(&t.c));
}

static void move_away(void *arg)
{
	(void)arg;
	expect(arm_now(&t.c, handler, &t.fate[BEFORE], 1), t.state->idle_arm, "the moving reset");
}

static void nothing(void *arg)
{
	(void)arg;
}

static void init(void)
{
	memset(&t.fate, 0, sizeof(t.fate));
	t.drained = t.drained_last = 0;
	t.ret = t.drain_ret = 99;
	memset(gates, 0, sizeof(gates));
	pthread_mutex_init(&t.lock, NULL);
	if (t.state->lock == NO_LOCK)
		callout_init(&t.c, 1);
	else
		callout_init_mtx(&t.c, &t.lock, t.state->lock == RETURNS_UNLOCKED ? CALLOUT_RETURNUNLOCKED : 0);
}

/* Brings the callout into its state, with cpu 0 standing where it must. */
static void approach(void)
{
	const struct state *s = t.state;

	if (t.caller == SELF && s->park == NOWHERE) {
		arm_now(&t.c, handler, &t.fate[FIRST], 0);
		return; /* the handler does the rest */
	}
	if (s->idle_arm == 1)
		callout_reset_sbt_on(&t.c, 2 * SBT_1MS, 0, handler, &t.fate[FIRST], 0, 0);
	if (s->idle_arm == 3) {
		arm_now(&t.c, handler, &t.fate[FIRST], 0);
		whole_pass(CPU0);
	}
	if (s->idle_arm == 2) {
		/* the pass that has found both due is held by the earlier one */
		callout_init(&t.ahead, 1);
		arm_now(&t.ahead, nothing, NULL, 0);
		callout_reset_sbt_on(&t.c, 2 * SBT_1MS, 0, handler, &t.fate[FIRST], 0, 0);
		nap_ms(4);
		park_at(KEEL_AT_HANDLER_ENTER, &t.ahead);
		begin_pass(CPU0);
		await_parked(KEEL_AT_HANDLER_ENTER);
	}
	if (s->park != NOWHERE) {
		park_at(s->park, &t.c);
		arm_now(&t.c, handler, &t.fate[FIRST], 0);
		begin_pass(CPU0);
		await_parked(s->park);
	}
	hold();
	for (int i = 0; i < 2 && s->outside[i]; i++)
		apply(s->outside[i], BEFORE);
	drop();
	if (s->drain == SLEEPER) {
		begin(HELPER, drain_too, NULL);
		await_reached(KEEL_AT_DRAIN_BEFORE_SLEEP, 1);
	}
	if (s->drain == DRAIN_FN) {
		hold();
		expect(callout_async_drain(&t.c, drained), 0, "the async drain before");
		drop();
	}
	if (s->moves)
		park_at(KEEL_AT_BETWEEN_LOCKS, &t.c);
	if (s->moves == 1)
		begin(HELPER, move_away, NULL);
	if (s->moves == 2)
		let_go(s->park);
	if (s->moves)
		await_parked(KEEL_AT_BETWEEN_LOCKS);
}

/* Sends everybody on. */
static void release(void)
{
	if (t.state->idle_arm == 2)
		let_go(KEEL_AT_HANDLER_ENTER);
	if (t.state->moves)
		let_go(KEEL_AT_BETWEEN_LOCKS);
	if (t.state->park != NOWHERE)
		let_go(t.state->park);
}

/* The operation, and whether it waited where it must and nowhere else. */
static void perform(void)
{
	int hand, asleep;

	if (t.caller == SELF) {
		/* the handler does it, as soon as it is reached */
		release();
		if (t.state->park == NOWHERE)
			whole_pass(CPU0);
		await_done(CPU0);
		return;
	}
	asleep = times_reached(KEEL_AT_DRAIN_BEFORE_SLEEP);
	hand = send_caller();
	if (t.state->moves) {
		nap_ms(2);
		expect(is_busy(hand), 1, "spinning at the hand-over");
		release();
	} else if (t.cell->waits) {
		await_reached(KEEL_AT_DRAIN_BEFORE_SLEEP, asleep + 1);
		expect(is_busy(hand), 1, "the drain as asleep");
		look_after();
		release();
	} else {
		await_done(hand);
		expect(times_reached(KEEL_AT_DRAIN_BEFORE_SLEEP), asleep, "the number of sleepers");
		if (t.state->drain == SLEEPER)
			expect(is_busy(HELPER), 1, "the first drain as asleep");
		release();
	}
	await_done(hand);
}

static void one_cell(void)
{
	static const char *const ops[] = { "reset same", "reset -1", "reset other", "stop", "drain", "async_drain" };
	static const char *const callers[] = { "self", "a stranger", "cpu 1", "a handler", "a drain function" };

	snprintf(t.name, sizeof(t.name), "%s, %s by %s", t.state->name, ops[__builtin_ctz(t.op)],
	         callers[__builtin_ctz(t.caller)]);
	init();
	approach();
	perform();
	await_done(CPU0);
	await_done(HELPER);
	expect(atomic_load(&t.ret), t.cell->ret, "the result");
	if (t.state->drain == SLEEPER)
		expect(atomic_load(&t.drain_ret), t.state->drain_ret, "the first drain's result");

	settle();
	expect(t.fate[FIRST].runs, t.cell->first, "runs of the first arming");
	expect(t.fate[BEFORE].runs, 0, "runs of the arming before");
	expect(t.fate[NEXT].runs, t.cell->next, "runs of the operation's arming");
	if (t.cell->next)
		expect(t.fate[NEXT].cpu, t.op == KEEP && t.state->moves ? 1 : target(), "its cpu");
	expect(t.drained, t.cell->fn, "calls of the drain function");
	expect(t.drained_last, 0, "the drain function after the sleepers");
	expect(callout_pending(&t.c) != 0, 0, "pending in the end");
	expect(callout_drain(&t.c), -1, "the last drain");
	expect(pthread_mutex_trylock(&t.lock), 0, "the lock in the end");
	pthread_mutex_unlock(&t.lock);
	pthread_mutex_destroy(&t.lock);
}

/* SHOWS: CINV-1, CINV-2, CINV-14, CINV-19, CINV-20, CINV-23, DEV-2, DEV-3, DEV-4, DEV-5 */
START_TEST(a_cell_of_the_table)
{
	t.cell = &cells[_i];
	t.state = t.cell->in;
	open_stage();
	for (int caller = SELF; caller <= DRAINED; caller <<= 1) {
		for (int op = SAME; op <= ASYNC; op <<= 1) {
			if (!(t.cell->callers & caller) || !(t.cell->ops & op))
				continue;
			t.caller = caller;
			t.op = op;
			one_cell();
		}
	}
	close_stage();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("states");
	TCase *tc = tcase_create("table");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, a_cell_of_the_table, 0, sizeof(cells) / sizeof(cells[0]));
	suite_add_tcase(s, tc);
	return run_suite(s);
}
