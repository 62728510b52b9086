/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * retransmit: a reliable datagram protocol over a network that loses, repeats and reorders, written as
 * code of FreeBSD's kernel is: nothing but the first include, and main(), knows that it runs on keel.
 *
 *     cc examples/retransmit.c $(pkg-config --cflags --libs keel) -pthread -o retransmit
 *     ./retransmit [CONNECTIONS [MESSAGES [LOSS% [SEED]]]]
 *
 * Both ends of each connection send MESSAGES to the other, and check that the other's arrive in order
 * and exactly once. Three connections of four then close and free themselves; the others are kept alive
 * until the process ends. Exit status: 0 where all is well, 1 where not, 2 for wrong arguments.
 *
 * A connection has one mutex and four callouts:
 *
 *   rexmt    sends again what was not acknowledged, later each time; moves to the next cpu when it does
 *   delack   acknowledges what no message going the other way has acknowledged meanwhile
 *   linger   answers a peer that missed the last acknowledgement, then destroys the connection
 *   keep     asks whether the peer is still there; the one that has no lock associated, and so has to
 *            find out under the mutex whether it still counts
 *
 * It is freed in one of two ways. The linger handler cannot sleep: it drains all four asynchronously,
 * and the last drain to report frees. The end of the process can: it waits in callout_drain().
 *
 * Locks, in this order: the table's, a connection's, the network's, that of the totals.
 */
#include <keel/compat/freebsd.h>

#define WINDOW		8		/* messages under way */
#define MAXBACKOFF	4		/* doublings of the retransmission timeout */
#define RTO		max_ticks(10)
#define DELACK		max_ticks(3)
#define KEEPALIVE	max_ticks(40)
#define LINGER		max_ticks(60)

struct packet {
	LIST_ENTRY(packet) link;	/* in the network */
	struct callout flight;		/* until it lands */
	uint32_t from, to;
	uint32_t seq, ack;
	int flags;
#define P_DATA	0x1	/* message seq */
#define P_PROBE	0x2	/* acknowledge at once */
#define P_GONE	0x4	/* there is nobody here any more */
	uint64_t payload;
};

struct conn {
	LIST_ENTRY(conn) link;		/* in the table */
	struct mtx mtx;
	struct callout rexmt, delack, linger, keep;
	uint32_t id, peer;
	enum { OPEN, LINGERING, DEAD } state;
	uint32_t end;			/* messages each way, with the one that closes */
	uint32_t snd_una, snd_next;	/* first unacknowledged, next */
	uint32_t recover;		/* sent before the last timeout: send again when its turn comes */
	uint64_t sent[WINDOW];
	int backoff;
	uint32_t rcv_next;
	uint64_t got[WINDOW];		/* what came before its turn */
	int have[WINDOW];
	int unacked;			/* messages since the last acknowledgement */
	int done;			/* counted as such */
	int drains;			/* asynchronous ones that have not reported, and who counts them */
};

static struct {
	struct rwlock lock;
	LIST_HEAD(, conn) conns;
	struct callout census;		/* under the lock's read side */
	int peak;
} table;

static struct {
	struct mtx mtx;
	LIST_HEAD(, packet) packets;
	struct cv empty;
	uint64_t random;
	int loss, down;
} net;

static struct {
	struct mtx mtx;
	struct cv changed;
	int busy;			/* endpoints that have not finished */
	int probes;
	unsigned sent, lost, again, moved, closed, promised, reported, wrong;
} total;
MTX_SYSINIT(total, &total.mtx, "totals", MTX_DEF);

static uint32_t messages, *delivered;
static uint64_t seed;

static void count(unsigned *what)
{
	mtx_lock(&total.mtx);
	++*what;
	mtx_unlock(&total.mtx);
}

static int max_ticks(int ms)
{
	return ms * hz / 1000 > 1 ? ms * hz / 1000 : 1;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 31) * 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 29) * 0xd6e8feb86659fd93ull;
	return x ^ x >> 32;
}

/* What endpoint <id> says in message <seq>. */
static uint64_t message(uint32_t id, uint32_t seq)
{
	return mix(seed ^ ((uint64_t)id << 32 | seq));
}

/* --- the network ---------------------------------------------------------- */

static void packet_input(const struct packet *);

/* No lock, and nobody drains it: the handler may free its callout. */
static void packet_land(void *arg)
{
	struct packet *p = arg;

	packet_input(p);
	mtx_lock(&net.mtx);
	LIST_REMOVE(p, link);
	if (LIST_EMPTY(&net.packets))
		cv_broadcast(&net.empty);
	mtx_unlock(&net.mtx);
	free(p);
}

static int net_chance(int percent)
{
	net.random = mix(net.random + 1);
	return (int)(net.random % 100) < percent;
}

static void net_send(const struct packet *model)
{
	struct packet *p;
	int copies;

	mtx_lock(&net.mtx);
	copies = net.down || net_chance(net.loss) ? 0 : net_chance(3) ? 2 : 1;
	for (int i = 0; i < copies && (p = malloc(sizeof(*p))) != NULL; i++) {
		*p = *model;
		callout_init(&p->flight, CALLOUT_MPSAFE);
		LIST_INSERT_HEAD(&net.packets, p, link);
		net.random = mix(net.random + 1);
		callout_reset_sbt_on(&p->flight, (100 + net.random % 1500) * SBT_1US, 0, packet_land, p,
		    (int)((net.random >> 32) % (unsigned)mp_ncpus), C_PREL(2));
	}
	mtx_unlock(&net.mtx);
	count(copies ? &total.sent : &total.lost);
}

/* Nothing is in the air, nor will be. */
static void net_shutdown(void)
{
	struct packet *p, *next;
	int stopped;

	mtx_lock(&net.mtx);
	net.down = 1;
	LIST_FOREACH_SAFE(p, &net.packets, link, next) {
		/* It is in the list, so its handler has not ended: 1, or 0 and it takes itself out. */
		stopped = callout_stop(&p->flight);
		KASSERT(stopped != -1, ("packet %p is nowhere", (void *)p));
		if (stopped == 1) {
			LIST_REMOVE(p, link);
			free(p);
		}
	}
	while (!LIST_EMPTY(&net.packets))
		cv_wait(&net.empty, &net.mtx);
	mtx_unlock(&net.mtx);
}

/* --- a connection: all of this under its mutex ------------------------------- */

static void conn_rexmt(void *);
static void conn_delack(void *);
static void conn_linger(void *);
static void conn_keep(void *);

static int conn_rto(const struct conn *c)
{
	return RTO << c->backoff;
}

static void conn_transmit(struct conn *c, int flags, uint32_t seq)
{
	struct packet p;

	mtx_assert(&c->mtx, MA_OWNED);
	memset(&p, 0, sizeof(p));
	p.from = c->id;
	p.to = c->peer;
	p.flags = flags;
	p.seq = seq;
	p.ack = c->rcv_next;
	p.payload = c->sent[seq % WINDOW];
	net_send(&p);
	c->unacked = 0;
	callout_stop(&c->delack);
}

static void conn_output(struct conn *c)
{
	while (c->snd_next < c->end && c->snd_next - c->snd_una < WINDOW) {
		c->sent[c->snd_next % WINDOW] = message(c->id, c->snd_next);
		conn_transmit(c, P_DATA, c->snd_next++);
	}
	if (c->snd_una < c->snd_next && !callout_pending(&c->rexmt))
		callout_reset(&c->rexmt, conn_rto(c), conn_rexmt, c);
}

static void conn_acked(struct conn *c, uint32_t ack)
{
	if (ack <= c->snd_una || ack > c->snd_next)
		return;
	c->snd_una = ack;
	c->backoff = 0;
	if (c->snd_una == c->snd_next) {
		callout_stop(&c->rexmt);
		return;
	}
	if (c->snd_una < c->recover) {
		conn_transmit(c, P_DATA, c->snd_una);
		count(&total.again);
	}
	callout_reset(&c->rexmt, conn_rto(c), conn_rexmt, c);
}

static void conn_deliver(struct conn *c, uint64_t payload)
{
	if (payload != message(c->peer, c->rcv_next))
		count(&total.wrong);
	if (c->rcv_next < messages)	/* the one after closes, and is not the user's */
		delivered[c->id]++;
	c->rcv_next++;
}

static void conn_data(struct conn *c, const struct packet *p)
{
	uint32_t ahead = p->seq - c->rcv_next;

	if (ahead < WINDOW) {
		c->have[p->seq % WINDOW] = 1;
		c->got[p->seq % WINDOW] = p->payload;
	}
	while (c->have[c->rcv_next % WINDOW]) {
		c->have[c->rcv_next % WINDOW] = 0;
		conn_deliver(c, c->got[c->rcv_next % WINDOW]);
	}
	/* Every second message, and whatever was not expected, is acknowledged at once. */
	if (ahead != 0 || ++c->unacked >= 2)
		conn_transmit(c, 0, 0);
	else if (!callout_pending(&c->delack))
		callout_reset(&c->delack, DELACK, conn_delack, c);
}

static void conn_finished(struct conn *c)
{
	if (c->snd_una != c->end || c->rcv_next != c->end)
		return;
	if (c->end == messages) {	/* stays open */
		if (!c->done) {
			c->done = 1;
			mtx_lock(&total.mtx);
			total.busy--;
			cv_broadcast(&total.changed);
			mtx_unlock(&total.mtx);
		}
	} else if (c->state == OPEN) {
		c->state = LINGERING;
		callout_stop(&c->keep);
		callout_reset(&c->linger, LINGER, conn_linger, c);
	} else {
		callout_schedule(&c->linger, LINGER);
	}
}

static void conn_input(struct conn *c, const struct packet *p)
{
	if (c->state == DEAD)
		return;
	if (c->state == OPEN)
		callout_reset(&c->keep, KEEPALIVE, conn_keep, c);
	/* Who is gone has got everything, and everybody has got what it sent. */
	conn_acked(c, p->flags & P_GONE ? c->snd_next : p->ack);
	if (p->flags & P_DATA)
		conn_data(c, p);
	else if (p->flags & P_PROBE)
		conn_transmit(c, 0, 0);
	conn_output(c);
	conn_finished(c);
}

static void conn_rexmt(void *arg)
{
	struct conn *c = arg;

	mtx_assert(&c->mtx, MA_OWNED);	/* by the thread that calls the handlers */
	if (c->state != OPEN || c->snd_una == c->snd_next)
		return;
	if (c->backoff < MAXBACKOFF)
		c->backoff++;
	c->recover = c->snd_next;
	conn_transmit(c, P_DATA, c->snd_una);
	count(&total.again);
	callout_reset_on(&c->rexmt, conn_rto(c), conn_rexmt, c, (curcpu + 1) % mp_ncpus);
	count(&total.moved);
}

static void conn_delack(void *arg)
{
	struct conn *c = arg;

	if (c->state != DEAD)
		conn_transmit(c, 0, 0);
}

/* Without an associated lock a handler comes to its lock late: it may have been stopped, or armed anew. */
static void conn_keep(void *arg)
{
	struct conn *c = arg;

	mtx_lock(&c->mtx);
	if (callout_pending(&c->keep) || !callout_active(&c->keep)) {
		mtx_unlock(&c->mtx);
		return;
	}
	callout_deactivate(&c->keep);
	if (c->state == OPEN) {
		conn_transmit(c, P_PROBE, 0);
		callout_reset(&c->keep, KEEPALIVE, conn_keep, c);
		mtx_lock(&total.mtx);
		total.probes++;
		cv_broadcast(&total.changed);
		mtx_unlock(&total.mtx);
	}
	mtx_unlock(&c->mtx);
}

/* --- the end of a connection ---------------------------------------------------- */

static void conn_free(struct conn *c)
{
	mtx_destroy(&c->mtx);
	free(c);
}

/* One drain less, and the mutex goes. */
static void conn_release(struct conn *c)
{
	int last = --c->drains == 0;

	mtx_unlock(&c->mtx);
	if (!last)
		return;
	conn_free(c);
	mtx_lock(&total.mtx);
	total.closed++;
	total.busy--;
	cv_broadcast(&total.changed);
	mtx_unlock(&total.mtx);
}

static void conn_drained(void *arg)
{
	struct conn *c = arg;

	count(&total.reported);
	mtx_lock(&c->mtx);
	conn_release(c);
}

/* Each 0 is a promise of one call of conn_drained(): the owner has to count them. */
static void conn_destroy(struct conn *c)
{
	struct callout *all[] = { &c->rexmt, &c->delack, &c->linger, &c->keep };

	mtx_assert(&c->mtx, MA_OWNED);
	c->drains = 1;
	for (int i = 0; i < 4; i++)
		if (callout_async_drain(all[i], conn_drained) == 0) {
			c->drains++;
			count(&total.promised);
		}
	conn_release(c);
}

/* Has CALLOUT_RETURNUNLOCKED: the mutex is not there any more when this returns. */
static void conn_linger(void *arg)
{
	struct conn *c = arg;

	c->state = DEAD;
	mtx_unlock(&c->mtx);
	rw_wlock(&table.lock);		/* which comes before the mutex */
	LIST_REMOVE(c, link);
	rw_wunlock(&table.lock);
	mtx_lock(&c->mtx);
	conn_destroy(c);
}

/* --- the table ------------------------------------------------------------------- */

static void conn_new(uint32_t id, int closes)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (c == NULL)
		panic("no memory for connection %u", (unsigned)id);
	mtx_init(&c->mtx, "connection", NULL, MTX_DEF | MTX_DUPOK | MTX_NEW);
	callout_init_mtx(&c->rexmt, &c->mtx, 0);
	callout_init_mtx(&c->delack, &c->mtx, 0);
	callout_init_mtx(&c->linger, &c->mtx, CALLOUT_RETURNUNLOCKED);
	callout_init(&c->keep, CALLOUT_MPSAFE);
	c->id = id;
	c->peer = id ^ 1;
	c->end = messages + (closes ? 1 : 0);
	rw_wlock(&table.lock);
	LIST_INSERT_HEAD(&table.conns, c, link);
	rw_wunlock(&table.lock);
}

static void packet_input(const struct packet *p)
{
	struct packet answer;
	struct conn *c;

	rw_rlock(&table.lock);
	LIST_FOREACH(c, &table.conns, link)
		if (c->id == p->to)
			break;
	if (c != NULL)
		mtx_lock(&c->mtx);	/* before the table lets go of it */
	rw_runlock(&table.lock);
	if (c != NULL) {
		conn_input(c, p);
		mtx_unlock(&c->mtx);
	} else if (p->flags & (P_DATA | P_PROBE)) {
		memset(&answer, 0, sizeof(answer));
		answer.from = p->to;
		answer.to = p->from;
		answer.flags = P_GONE;
		net_send(&answer);
	}
}

static void table_census(void *arg)
{
	struct conn *c;
	int n = 0;

	(void)arg;
	rw_assert(&table.lock, RA_RLOCKED);
	LIST_FOREACH(c, &table.conns, link)
		n++;
	if (n > table.peak)
		table.peak = n;		/* the census alone writes it */
	callout_schedule(&table.census, max_ticks(20));
}

static void table_start(void)
{
	struct conn *c;

	rw_rlock(&table.lock);
	LIST_FOREACH(c, &table.conns, link) {
		mtx_lock(&c->mtx);
		callout_reset_on(&c->keep, KEEPALIVE, conn_keep, c, (int)c->id % mp_ncpus);
		conn_output(c);
		mtx_unlock(&c->mtx);
	}
	rw_runlock(&table.lock);
	rw_wlock(&table.lock);
	callout_reset(&table.census, 1, table_census, NULL);
	rw_wunlock(&table.lock);
}

/* The process ends: here one may sleep. */
static void table_shutdown(void)
{
	struct conn *c;

	callout_drain(&table.census);
	for (;;) {
		rw_wlock(&table.lock);
		if ((c = LIST_FIRST(&table.conns)) != NULL)
			LIST_REMOVE(c, link);
		rw_wunlock(&table.lock);
		if (c == NULL)
			break;
		mtx_lock(&c->mtx);
		c->state = DEAD;	/* so that no handler arms anything again */
		mtx_unlock(&c->mtx);
		callout_drain(&c->rexmt);
		callout_drain(&c->delack);
		callout_drain(&c->linger);
		callout_drain(&c->keep);
		conn_free(c);
	}
}

/* --- all of it --------------------------------------------------------------------- */

static unsigned long number(const char *s, unsigned long least, unsigned long most)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);

	if (*s < '0' || *s > '9' || *end != '\0' || n < least || n > most) {
		fprintf(stderr, "retransmit: %s is not a number from %lu to %lu\n", s, least, most);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	struct keel_config config = KEEL_CONFIG_INIT;
	uint32_t connections = 16, stay = 0, short_of = 0;
	unsigned long long right = 0;

	messages = 200;
	net.loss = 10;
	seed = 1;
	if (argc > 5) {
		fprintf(stderr, "usage: retransmit [CONNECTIONS [MESSAGES [LOSS%% [SEED]]]]\n");
		return 2;
	}
	if (argc > 1)
		connections = (uint32_t)number(argv[1], 1, 10000);
	if (argc > 2)
		messages = (uint32_t)number(argv[2], 1, 1000000);
	if (argc > 3)
		net.loss = (int)number(argv[3], 0, 90);
	if (argc > 4)
		seed = number(argv[4], 0, ULONG_MAX);

	config.nbthread = 2;
	if (keel_init(&config) != 0 || keel_callout_start_threads(2) != 0) {
		fprintf(stderr, "retransmit: keel does not start\n");
		return 1;
	}
	delivered = calloc(2 * (size_t)connections, sizeof(*delivered));
	if (delivered == NULL)
		panic("no memory");
	net.random = mix(seed);
	net.down = 0;
	mtx_init(&net.mtx, "network", NULL, MTX_DEF);
	cv_init(&net.empty, "network empty");
	cv_init(&total.changed, "totals changed");
	rw_init(&table.lock, "connections");
	callout_init_rw(&table.census, &table.lock, CALLOUT_SHAREDLOCK);

	total.busy = (int)(2 * connections);
	for (uint32_t i = 0; i < 2 * connections; i++) {
		stay += i / 2 % 4 == 3;
		conn_new(i, i / 2 % 4 != 3);
	}
	table_start();
	mtx_lock(&total.mtx);
	while (total.busy > 0 || (stay > 0 && total.probes == 0))
		cv_wait(&total.changed, &total.mtx);
	mtx_unlock(&total.mtx);

	net_shutdown();
	table_shutdown();
	keel_deinit();

	for (uint32_t i = 0; i < 2 * connections; i++) {
		right += delivered[i];
		short_of += delivered[i] != messages;
	}
	printf("%u connections, at most %d endpoints at a time: %llu messages arrived, %u of them wrong, %u endpoints got too "
	    "few or too many\n", (unsigned)connections, table.peak, right, total.wrong, (unsigned)short_of);
	printf("%u packets sent, %u lost, %u messages sent again, %u timers moved to another cpu, %d probes\n", total.sent,
	    total.lost, total.again, total.moved, total.probes);
	printf("%u endpoints freed themselves: %u drains promised a report, %u reported\n", total.closed, total.promised,
	    total.reported);
	cv_destroy(&total.changed);
	cv_destroy(&net.empty);
	mtx_destroy(&net.mtx);
	rw_destroy(&table.lock);
	free(delivered);
	return total.wrong != 0 || short_of != 0 || total.promised != total.reported ||
	    total.closed != 2 * connections - stay;
}
