/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keel/ticks.h: dates in milliseconds that wrap every 49.7 days.
 *
 * Dates are ordered by the sign of their difference, so that two of them can
 * be compared while they are less than 24.8 days apart. 0 is no date at all.
 * A date is made with tick_add() or tick_add_ifset(), which never answer 0:
 * the clock itself may read 0 and is no date.
 *
 * Made from src/abi/ticks.rs: edit that.
 */
#ifndef KEEL_TICKS_H
#define KEEL_TICKS_H

#ifdef __cplusplus
extern "C" {
#endif

/** No date: never. */
#define TICK_ETERNITY 0

/** A number of milliseconds in ticks, and back. */
#define MS_TO_TICKS(ms) (ms)
#define TICKS_TO_MS(tk) (tk)

/** 1 where <expire> is a date, 0 where it is TICK_ETERNITY. */
static inline int tick_isset(int expire)
{
    return expire != TICK_ETERNITY;
}

/** <timeout> after <now>. A timeout of 0 is not infinite: it is now. */
static inline int tick_add(int now, int timeout)
{
    /* In unsigned arithmetic: dates wrap. */
    int date = (int)((unsigned int)now + (unsigned int)timeout);

    return date != TICK_ETERNITY ? date : 1;
}

/** <timeout> after <now>; TICK_ETERNITY where the timeout is not set. */
static inline int tick_add_ifset(int now, int timeout)
{
    return tick_isset(timeout) ? tick_add(now, timeout) : TICK_ETERNITY;
}

/** 1 where <t1> is before <t2>; both must be set. */
static inline int tick_is_lt(int t1, int t2)
{
    return (int)((unsigned int)t1 - (unsigned int)t2) < 0;
}

/** 1 where <t1> is before <t2> or equal; both must be set. */
static inline int tick_is_le(int t1, int t2)
{
    return (int)((unsigned int)t1 - (unsigned int)t2) <= 0;
}

/** 1 where <timer> is set and has come: a date equal to <now> has. */
static inline int tick_is_expired(int timer, int now)
{
    return tick_isset(timer) && tick_is_le(timer, now);
}

/** The earlier one of a date or none, and a date <t2> that is set. */
static inline int tick_first_2nz(int t1, int t2)
{
    return tick_isset(t1) && tick_is_le(t1, t2) ? t1 : t2;
}

/** The earlier one of two dates, of which either or both may be unset. */
static inline int tick_first(int t1, int t2)
{
    return tick_isset(t2) ? tick_first_2nz(t1, t2) : t1;
}

/** Ticks from <now> to <expire>, 0 where it has come; <expire> must be set. */
static inline int tick_remain(int now, int expire)
{
    return tick_is_expired(expire, now) ? 0 : (int)((unsigned int)expire - (unsigned int)now);
}

#ifdef __cplusplus
}
#endif

#endif /* KEEL_TICKS_H */
