/* What a datum of each type is, by stktable_data_cast(). Data are aligned to 4. */
union stktable_data {
    int std_t_sint;
    unsigned int std_t_uint;
    unsigned long long std_t_ull;
    struct freq_ctr std_t_frqp;
    void *std_t_dict;
} __attribute__((packed, aligned(4)));

/** The datum at <ptr>, as its standard type: std_t_sint, std_t_uint, std_t_ull,
 * std_t_frqp or std_t_dict. It can be assigned to. */
#define stktable_data_cast(ptr, type) (((union stktable_data *)(ptr))->type)

/** Bytes of a datum of the standard type <type> (STD_T_*); 0: there is none. */
static inline int stktable_type_size(int type)
{
    switch (type) {
    case STD_T_SINT:
    case STD_T_UINT:
        return 4;
    case STD_T_ULL:
        return 8;
    case STD_T_FRQP:
        return (int)sizeof(struct freq_ctr);
    case STD_T_DICT:
        return (int)sizeof(void *);
    default:
        return 0;
    }
}

/** The types of keys, by SMP_T_*; those without a name cannot be keys. */
extern const struct stktable_type stktable_types[];

/** A type of data. */
struct stktable_data_type {
    /** Its word; NULL: free. */
    const char *name;
    /** STD_T_*. */
    int std_type;
    /** ARG_T_*. */
    int arg_type;
    /** Of several elements, as many as its first argument says. */
    unsigned int is_array : 1;
    /** Never learned from peers. */
    unsigned int is_local : 1;
    /** No arithmetic. */
    unsigned int as_is : 1;
};

/** The types of data, by STKTABLE_DT_*; free ones have no name. */
extern struct stktable_data_type stktable_data_types[];

/** The user's list of tables, linked by their next fields. keel_stktable_new()
 * puts its tables there, keel_stktable_free() takes them out. */
extern struct stktable *stktables_list;

/* A tracked counter: the entry that it holds a reference to, and flags in the two
 * lowest bits. */
#define STKCTR_TRACK_BACKEND 1
#define STKCTR_TRACK_CONTENT 2

/** Its entry, or NULL. */
static inline struct stksess *stkctr_entry(struct stkctr *stkctr)
{
    return (struct stksess *)(stkctr->entry & ~3UL);
}

/** Its flags. */
static inline unsigned int stkctr_flags(struct stkctr *stkctr)
{
    return (unsigned int)(stkctr->entry & 3UL);
}

/** Gives it an entry, whose reference it takes over, or NULL; no flags. */
static inline void stkctr_set_entry(struct stkctr *stkctr, struct stksess *entry)
{
    stkctr->entry = (unsigned long)entry;
}

/** Sets flags. */
static inline void stkctr_set_flags(struct stkctr *stkctr, unsigned int flags)
{
    stkctr->entry |= flags & 3UL;
}

/** Clears flags. */
static inline void stkctr_clr_flags(struct stkctr *stkctr, unsigned int flags)
{
    stkctr->entry &= ~(flags & 3UL);
}

/* Adds <n> to a counter of UINT or ULL and to its rate, where they are stored, and touches
 * the entry if one was: 0 where there is no entry, else 1. */
static inline int keel_stkctr_add(struct stkctr *stkctr, int counter, int rate, unsigned long long n)
{
    struct stksess *ts = stkctr_entry(stkctr);
    void *total, *freq;

    if (!ts)
        return 0;
    stksess_wrlock(ts);
    total = stktable_data_ptr(stkctr->table, ts, counter);
    freq = stktable_data_ptr(stkctr->table, ts, rate);
    if (total && stktable_data_types[counter].std_type == STD_T_ULL)
        stktable_data_cast(total, std_t_ull) += n;
    else if (total)
        stktable_data_cast(total, std_t_uint) += (unsigned int)n;
    if (freq)
        update_freq_ctr_period(&stktable_data_cast(freq, std_t_frqp),
                               stkctr->table->data_arg[rate].u, (unsigned int)n);
    stksess_wrunlock(ts);
    if (total || freq)
        stktable_touch_local(stkctr->table, ts, 0);
    return 1;
}

/** Counts a request: 0 where nothing is tracked, else 1; the same below. */
static inline int stkctr_inc_http_req_ctr(struct stkctr *stkctr)
{
    return keel_stkctr_add(stkctr, STKTABLE_DT_HTTP_REQ_CNT, STKTABLE_DT_HTTP_REQ_RATE, 1);
}

/** Counts a client's error. */
static inline int stkctr_inc_http_err_ctr(struct stkctr *stkctr)
{
    return keel_stkctr_add(stkctr, STKTABLE_DT_HTTP_ERR_CNT, STKTABLE_DT_HTTP_ERR_RATE, 1);
}

/** Counts a server's failure. */
static inline int stkctr_inc_http_fail_ctr(struct stkctr *stkctr)
{
    return keel_stkctr_add(stkctr, STKTABLE_DT_HTTP_FAIL_CNT, STKTABLE_DT_HTTP_FAIL_RATE, 1);
}

/** Counts bytes from the client. */
static inline int stkctr_inc_bytes_in_ctr(struct stkctr *stkctr, unsigned long long bytes)
{
    return keel_stkctr_add(stkctr, STKTABLE_DT_BYTES_IN_CNT, STKTABLE_DT_BYTES_IN_RATE, bytes);
}

/** Counts bytes to the client. */
static inline int stkctr_inc_bytes_out_ctr(struct stkctr *stkctr, unsigned long long bytes)
{
    return keel_stkctr_add(stkctr, STKTABLE_DT_BYTES_OUT_CNT, STKTABLE_DT_BYTES_OUT_RATE, bytes);
}

/** Counts <n> glitches. */
static inline int stkctr_add_glitch_ctr(struct stkctr *stkctr, unsigned int n)
{
    return keel_stkctr_add(stkctr, STKTABLE_DT_GLITCH_CNT, STKTABLE_DT_GLITCH_RATE, n);
}
