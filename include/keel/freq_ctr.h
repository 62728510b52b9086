/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keel/freq_ctr.h: rate counters over a sliding window, and sliding averages.
 *
 * A counter counts events in periods of so many milliseconds, at least 2. Its
 * rate at any instant is that of the last period: the events of the current
 * one, and those of the one before as far as they are still in the window.
 * The period is no part of the counter: always pass the same for the same.
 *
 * A sliding average is one unsigned int, the sum of about the last n samples.
 *
 * All of it may be used by any threads at once, before keel_init() too.
 * Registered threads go by the dates that their loops keep, as keel_now_ms()
 * tells; others read the clock.
 *
 * Made from src/abi/freq_ctr.rs: edit that.
 */
#ifndef KEEL_FREQ_CTR_H
#define KEEL_FREQ_CTR_H

#ifdef __cplusplus
extern "C" {
#endif

/** A counter; zeroed memory is one without events. */
struct freq_ctr {
    /**
     * When the current period began, as keel_now_ms() counts. Bit 0 is a
     * lock: a program that writes a date here itself must clear it.
     */
    unsigned int curr_tick;
    /** Events of the current period. */
    unsigned int curr_ctr;
    /** Events of the period before. */
    unsigned int prev_ctr;
};

/**
 * Counts inc events. Returns those of the current period, these included.
 *
 * Thread rule: *any thread*.
 */
unsigned int update_freq_ctr_period(struct freq_ctr *ctr, unsigned int period, unsigned int inc);

/**
 * update_freq_ctr_period() for a period of one second.
 *
 * Thread rule: *any thread*.
 */
unsigned int update_freq_ctr(struct freq_ctr *ctr, unsigned int inc);

/**
 * The events of the last period, multiplied by the period. A pend of 0 or
 * more is added to the current events; if it is negative, a single event of
 * the past does not fade but counts until its period is over.
 *
 * Thread rule: *any thread*.
 */
unsigned long long freq_ctr_total(const struct freq_ctr *ctr, unsigned int period, int pend);

/**
 * freq_ctr_total() of the counter as it stands: never waits, but may be off
 * while another thread begins a new period. For crash handlers.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
unsigned long long freq_ctr_total_estimate(const struct freq_ctr *ctr,
                                           unsigned int period,
                                           int pend);

/**
 * The events of the last period: freq_ctr_total() without pending ones,
 * divided by the period; at most UINT_MAX.
 *
 * Thread rule: *any thread*.
 */
unsigned int read_freq_ctr_period(struct freq_ctr *ctr, unsigned int period);

/**
 * read_freq_ctr_period() with its fraction, and without its limit.
 *
 * Thread rule: *any thread*.
 */
double read_freq_ctr_period_flt(struct freq_ctr *ctr, unsigned int period);

/**
 * read_freq_ctr_period() for a period of one second: events per second.
 *
 * Thread rule: *any thread*.
 */
unsigned int read_freq_ctr(struct freq_ctr *ctr);

/**
 * read_freq_ctr() with its fraction, and without its limit.
 *
 * Thread rule: *any thread*.
 */
double read_freq_ctr_flt(struct freq_ctr *ctr);

/**
 * How many events may come until there are freq in the last period, pend of
 * which are known already.
 *
 * Thread rule: *any thread*.
 */
unsigned int freq_ctr_remain_period(struct freq_ctr *ctr,
                                    unsigned int period,
                                    unsigned int freq,
                                    unsigned int pend);

/**
 * freq_ctr_remain_period() for a period of one second.
 *
 * Thread rule: *any thread*.
 */
unsigned int freq_ctr_remain(struct freq_ctr *ctr, unsigned int freq, unsigned int pend);

/**
 * Milliseconds to wait before the next event, pend events before it, if there
 * are to be freq per period: 0 while there are fewer, else at least 1 and in
 * proportion to the excess.
 *
 * Thread rule: *any thread*.
 */
unsigned int next_event_delay_period(struct freq_ctr *ctr,
                                     unsigned int period,
                                     unsigned int freq,
                                     unsigned int pend);

/**
 * next_event_delay_period() for a period of one second.
 *
 * Thread rule: *any thread*.
 */
unsigned int next_event_delay(struct freq_ctr *ctr, unsigned int freq, unsigned int pend);

/**
 * By how many events the current period is ahead of freq per period, evenly
 * spread; negative where it is behind, 0 where the counter is empty or its
 * period over.
 *
 * Thread rule: *any thread*.
 */
int freq_ctr_overshoot_period(const struct freq_ctr *ctr, unsigned int period, unsigned int freq);

/**
 * Adds a sample to the sum for an average over n samples: takes the n-th
 * part of the sum away, rounded up, and adds v. Returns the new sum, which
 * tends to v * n for a constant v and stops at UINT_MAX.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
unsigned int swrate_add(unsigned int *sum, unsigned int n, unsigned int v);

/**
 * swrate_add() for an n that may differ from call to call, and be 0: then
 * nothing is taken away.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
unsigned int swrate_add_dynamic(unsigned int *sum, unsigned int n, unsigned int v);

/**
 * swrate_add() of s equal samples at once, s being small beside n.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
unsigned int swrate_add_scaled(unsigned int *sum, unsigned int n, unsigned int v, unsigned int s);

/**
 * swrate_add() that gives up, and drops the sample, if another thread changes
 * the sum meanwhile. Returns the sum afterwards.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
unsigned int swrate_add_opportunistic(unsigned int *sum, unsigned int n, unsigned int v);

/**
 * swrate_add_scaled() that gives up as swrate_add_opportunistic() does.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
unsigned int swrate_add_scaled_opportunistic(unsigned int *sum,
                                             unsigned int n,
                                             unsigned int v,
                                             unsigned int s);

/**
 * The average of a sum over n samples, rounded up.
 *
 * Thread rule: *any thread*, *async-signal-safe*.
 */
unsigned int swrate_avg(unsigned int sum, unsigned int n);

#ifdef __cplusplus
}
#endif

#endif /* KEEL_FREQ_CTR_H */
