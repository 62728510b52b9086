/* The type of handlers, as FreeBSD names it. */
typedef void callout_func_t(void *);

/* sbintime_t's units. All but the first two are cut off: multiply the seconds, or
 * shift last, never add up many of the small ones. */
#define SBT_1S  ((sbintime_t)1 << 32)
#define SBT_1M  (SBT_1S * 60)
#define SBT_1MS (SBT_1S / 1000)
#define SBT_1US (SBT_1S / 1000000)
#define SBT_1NS (SBT_1S / 1000000000)
#define SBT_MAX ((sbintime_t)0x7fffffffffffffffLL)

/* The precision as a fraction of the interval: interval >> x, x from 0 to 126. */
#define C_PREL(x)            (((x) + 1) << 1)
#define C_PRELGET(x)         ((((x) >> 1) & 0x7f) - 1)
