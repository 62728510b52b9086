/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * keel/stick_table.h: tables of keys and counters whose entries expire.
 *
 * A table maps a key (an address, an integer, a string, bytes) to counters and
 * rates. An entry lives until it was not touched for the table's time, or until
 * a full table needs its place; while somebody holds a reference it stays.
 * Functions that return an entry return a reference with it, which the caller
 * gives back: stktable_release(), or the decrefcnt argument of others. Data are
 * read under stksess_rdlock() and written under stksess_wrlock(), by whoever
 * holds a reference.
 *
 * All functions may be called by any thread at any time unless they say
 * otherwise; registered threads find entries without a lock. In the child of a
 * fork() of several threads tables must not be used, and no entry expires.
 *
 * Made from src/abi/stick_table.rs: edit that.
 */
#ifndef KEEL_STICK_TABLE_H
#define KEEL_STICK_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <keel/freq_ctr.h>

#ifdef __cplusplus
extern "C" {
#endif

struct freq_ctr;
struct task;

/** Keys: integers, 4 bytes in native order. */
#define SMP_T_SINT 2

/** Keys: IPv4 addresses, 4 bytes in network order. */
#define SMP_T_IPV4 4

/** Keys: IPv6 addresses, 16 bytes in network order. */
#define SMP_T_IPV6 5

/** Keys: strings, of which key_size bytes less one count. */
#define SMP_T_STR 6

/** Keys: key_size bytes. */
#define SMP_T_BIN 7

/** No error. */
#define PE_NONE 0

/** The type of data does not exist. */
#define PE_ENUM_OOR 1

/** It is stored already, or something is that it excludes. */
#define PE_EXIST 2

/** It wants an argument. */
#define PE_ARG_MISSING 3

/** It takes no argument. */
#define PE_ARG_NOT_USED 4

/** The argument cannot be read. */
#define PE_ARG_INVC 5

/** The argument is out of range. */
#define PE_ARG_VALUE_OOR 8

/** Standard types: int. */
#define STD_T_SINT 0

/** unsigned int. */
#define STD_T_UINT 1

/** unsigned long long. */
#define STD_T_ULL 2

/** struct freq_ctr. */
#define STD_T_FRQP 3

/** A pointer to a string that the user keeps. */
#define STD_T_DICT 4

/** Types of data take no argument, */
#define ARG_T_NONE 0

/** an integer, */
#define ARG_T_INT 1

/** or a period in milliseconds. */
#define ARG_T_DELAY 2

/** Types of data; the numbers are those of data_ofs[] and its like. */
#define STKTABLE_DT_SERVER_ID 0

/** General purpose tag. */
#define STKTABLE_DT_GPT0 1

/** General purpose counter. */
#define STKTABLE_DT_GPC0 2

/** Its rate. */
#define STKTABLE_DT_GPC0_RATE 3

/** Connections. */
#define STKTABLE_DT_CONN_CNT 4

/** Their rate. */
#define STKTABLE_DT_CONN_RATE 5

/** Connections now. */
#define STKTABLE_DT_CONN_CUR 6

/** Sessions. */
#define STKTABLE_DT_SESS_CNT 7

/** Their rate. */
#define STKTABLE_DT_SESS_RATE 8

/** Requests. */
#define STKTABLE_DT_HTTP_REQ_CNT 9

/** Their rate. */
#define STKTABLE_DT_HTTP_REQ_RATE 10

/** Clients' errors. */
#define STKTABLE_DT_HTTP_ERR_CNT 11

/** Their rate. */
#define STKTABLE_DT_HTTP_ERR_RATE 12

/** Bytes from clients. */
#define STKTABLE_DT_BYTES_IN_CNT 13

/** Their rate. */
#define STKTABLE_DT_BYTES_IN_RATE 14

/** Bytes to clients. */
#define STKTABLE_DT_BYTES_OUT_CNT 15

/** Their rate. */
#define STKTABLE_DT_BYTES_OUT_RATE 16

/** Second general purpose counter. */
#define STKTABLE_DT_GPC1 17

/** Its rate. */
#define STKTABLE_DT_GPC1_RATE 18

/** A server's name. */
#define STKTABLE_DT_SERVER_KEY 19

/** Servers' failures. */
#define STKTABLE_DT_HTTP_FAIL_CNT 20

/** Their rate. */
#define STKTABLE_DT_HTTP_FAIL_RATE 21

/** General purpose tags, an array. */
#define STKTABLE_DT_GPT 22

/** General purpose counters, an array. */
#define STKTABLE_DT_GPC 23

/** Their rates. */
#define STKTABLE_DT_GPC_RATE 24

/** Protocol oddities. */
#define STKTABLE_DT_GLITCH_CNT 25

/** Their rate. */
#define STKTABLE_DT_GLITCH_RATE 26

/** Types that always exist. */
#define STKTABLE_STATIC_DATA_TYPES 27

/** Types that stktable_register_data_store() can add. */
#define STKTABLE_EXTRA_DATA_TYPES 16

/** All types. */
#define STKTABLE_DATA_TYPES 43

/** stktable_types[]: the line's word "len" may follow. */
#define STK_F_CUSTOM_KEYSIZE 1

/** An argument of a type of data. */
union stktable_data_arg {
    /** As an integer. */
    int i;
    /** As a period in milliseconds. */
    unsigned int u;
    /** As a pointer. */
    void *p;
};

/**
 * A table. Fill in id, type, key_size, size, nopurge and expire, zero the rest,
 * call stktable_alloc_data_type() for each datum, then stktable_init(); or have
 * keel_stktable_new() do all that. It must stay where it is.
 */
struct stktable {
    /** The name; NULL: it cannot be found by one. The user's to free. */
    char *id;
    /** The name on the wire; the user's. */
    char *nid;
    /** The user's: the next table in its list. */
    struct stktable *next;
    /** SMP_T_*. */
    unsigned long type;
    /** Bytes of a key; of a string with its NUL. */
    size_t key_size;
    /** The most entries; 0: the table is not used. May be changed later. */
    unsigned int size;
    /** Non-zero: a full table refuses new entries instead of evicting old ones. */
    int nopurge;
    /** Milliseconds that an entry lives after it was touched; 0: for ever. */
    int expire;
    /** How many entries there are, stored or not. Read only, as what follows. */
    unsigned int current;
    /** The task that expires entries; NULL where expire was 0. */
    struct task *exp_task;
    /**
     * The user's: woken (TASK_WOKEN_MSG) by local touches. Set it before the
     * first entry is made: only then do entries have room for updates.
     */
    struct task *sync_task;
    /**
     * The user's: non-zero while peers use the table, which then cannot be freed.
     * Non-zero when the first entry is made, entries have room for updates.
     */
    unsigned int refcnt;
    /** Bytes of data in an entry. */
    int data_size;
    /** Where each type's first element is, from the entry's address; 0: not stored. */
    int data_ofs[43];
    /** How many elements of each type are stored. */
    unsigned int data_nbelem[43];
    /** Each type's argument. */
    union stktable_data_arg data_arg[43];
    /** The number of the last update, in a ring of 2^32. */
    unsigned int update;
    /** The number of the last local update. */
    unsigned int localupdate;
    /** The user's: up to where all peers have all updates. */
    unsigned int commitupdate;
    /** The library's. */
    uint64_t keel_private[9];
};

/** An entry. Its data lie below this address, its key follows. */
struct stksess {
    /**
     * When it expires, in ticks; where expire is 0, when it was last touched.
     * Read it atomically; change it by touching, or follow a change by
     * stktable_requeue_exp().
     */
    unsigned int expire;
    /** References to it; with the highest bit set it has left the table. */
    unsigned int ref_cnt;
    /** The library's. */
    unsigned int keel_private[3];
    /** The first bytes of the key. */
    unsigned int keel_key[1];
};

/**
 * A key that is looked for. A string ends at its first NUL, after key_len bytes
 * or after the table's key_size less one, whichever comes first; of all other
 * types the table's key_size bytes are read, whatever key_len says.
 */
struct stktable_key {
    /** Its first byte. It is not changed, and need not be aligned. */
    void *key;
    /** Its length. */
    size_t key_len;
};

/** A tracked counter: see stkctr_entry(). */
struct stkctr {
    /** The entry's address, and flags. */
    unsigned long entry;
    /** Its table. */
    struct stktable *table;
};

/** A type of keys. */
struct stktable_type {
    /** Its word; NULL: no such keys. */
    const char *kw;
    /** STK_F_*. */
    int flags;
    /** The key_size where nothing else is said. */
    size_t default_size;
};

/**
 * Makes a table of HAProxy's words, as "type ip size 1m expire 30s store
 * conn_cnt,conn_rate(10s),gpc(4)": type integer, ip, ipv6, string or binary,
 * the latter two with "len BYTES"; size with k, m, g; expire in us, ms, s, m,
 * h, d (ms by default); nopurge. id is copied; NULL: no name. keel_init()
 * comes first where entries expire; keel_deinit() frees what is left.
 *
 * Returns the table, or NULL with *err (if err is not NULL) set to a sentence
 * that says what is wrong, which the caller gives to free().
 *
 * Thread rule: *any thread*.
 */
struct stktable *keel_stktable_new(const char *id, const char *line, char **err);

/**
 * Frees a table of keel_stktable_new() with all its entries. NULL is fine.
 * Nobody uses the table or an entry any more. A table whose refcnt is not 0,
 * or that keel_stktable_new() did not make, is a panic.
 *
 * Thread rule: *any thread*.
 */
void keel_stktable_free(struct stktable *t);

/**
 * Initialises a table that was filled in, and its expiry task if expire is not
 * 0, for which keel_init() comes first. A table of size 0 is not used: it finds
 * and creates nothing.
 *
 * Returns 1, or 0 with errno EINVAL (a type of keys that does not exist or does
 * not suit key_size, a negative expire, a size beyond 2^31, no keel_init()),
 * EALREADY (it is initialised), or ENOMEM.
 *
 * Thread rule: *any thread*.
 */
int stktable_init(struct stktable *t);

/**
 * Frees what stktable_init() made, and all entries; the structure is the
 * caller's, and may be initialised again. Nobody uses the table or an entry any
 * more. A table whose refcnt is not 0 is a panic.
 *
 * Thread rule: *any thread*.
 */
void stktable_deinit(struct stktable *t);

/**
 * Lets an initialised table be found by its id, which must not change any more.
 * Of two of the same id the first one is found. keel_stktable_new() does it.
 *
 * Thread rule: *any thread*.
 */
void stktable_store_name(struct stktable *t);

/**
 * Returns the table of this name, or NULL.
 *
 * Thread rule: *any thread*.
 */
struct stktable *stktable_find_by_name(const char *name);

/**
 * Reserves room in each entry for a datum of this type (STKTABLE_DT_*), before
 * the table is initialised. For arrays sa is the number of elements (1 to
 * 100) and sa2 the argument, for others sa is the argument; NULL: none.
 * Periods are times as in keel_stktable_new(), 2 ms at least.
 *
 * Returns PE_NONE; PE_ENUM_OOR: there is no such type; PE_EXIST: the table has
 * it, or is initialised; or PE_ARG_*.
 *
 * Thread rule: *any thread*, one at a time for a table.
 */
int stktable_alloc_data_type(struct stktable *t, int type, const char *sa, const char *sa2);

/**
 * Returns the number of the type of data with this name, or -1.
 *
 * Thread rule: *any thread*.
 */
int stktable_get_data_type(const char *name);

/**
 * Adds a type of data: in slot idx, or in the first free one if that is
 * negative. name is not copied, and must stay.
 *
 * Returns the number of the type, or -1: no free slot, the name is in use, or
 * STD_T_* or ARG_T_* does not exist.
 *
 * Thread rule: *any thread*.
 */
int stktable_register_data_store(int idx, const char *name, int std_type, int arg_type);

/**
 * Reads a type of keys from words that end with a NULL, from args[*idx] on:
 * "ip", "string len 64"; sets *type and *key_size, and moves *idx past them.
 *
 * Returns 0, or 1 where the words are no type: then nothing is set.
 *
 * Thread rule: *any thread*.
 */
int stktable_parse_type(char **args, int *idx, unsigned long *type, size_t *key_size);

/**
 * Finds the entry with this key, expired or not.
 *
 * Returns it with a reference, or NULL.
 *
 * Thread rule: *any thread*.
 */
struct stksess *stktable_lookup_key(struct stktable *t, struct stktable_key *key);

/**
 * Finds the entry that has the key of ts, an entry of this or another table.
 *
 * Returns it with a reference, or NULL; also where the other table's type or
 * key_size differs, or keys of 8 KiB or more cannot be told apart.
 *
 * Thread rule: *any thread*.
 */
struct stksess *stktable_lookup(struct stktable *t, struct stksess *ts);

/**
 * Finds the entry with this key, or creates it; the date of one that is there
 * does not change. A full table evicts others, or refuses (nopurge).
 *
 * Returns it with a reference; NULL: the key is NULL, the table is full of
 * entries that are in use or may not be evicted, or memory lacks.
 *
 * Thread rule: *any thread*.
 */
struct stksess *stktable_get_entry(struct stktable *t, struct stktable_key *key);

/**
 * Finds or creates the entry with this key, and touches it as
 * stktable_touch_local() does.
 *
 * Returns it without a reference, as a sign of success: it may be gone at any
 * time. NULL as stktable_get_entry().
 *
 * Thread rule: *any thread*.
 */
struct stksess *stktable_update_key(struct stktable *t, struct stktable_key *key);

/**
 * Makes an entry that is not stored, with zeroed data, held by nobody. key
 * may be NULL: stksess_setkey() then goes before stktable_set_entry().
 *
 * Returns it, or NULL as stktable_get_entry().
 *
 * Thread rule: *any thread*.
 */
struct stksess *stksess_new(struct stktable *t, struct stktable_key *key);

/**
 * Gives an entry that is not stored its key, cut off where it is too long.
 *
 * Thread rule: *owner thread only*.
 */
void stksess_setkey(struct stktable *t, struct stksess *ts, struct stktable_key *key);

/**
 * Returns the key of an entry: key_size bytes, which the caller does not change.
 *
 * Thread rule: *any thread*.
 */
void *keel_stksess_key(struct stksess *ts);

/**
 * Frees an entry that was never stored. A stored one, or one that has left the
 * table, is a panic. NULL is fine.
 *
 * Thread rule: *owner thread only*.
 */
void stksess_free(struct stktable *t, struct stksess *ts);

/**
 * Stores nts, unless the table has an entry with its key.
 *
 * Returns the one that is stored, with a reference. If that is another one, the
 * caller still owns nts.
 *
 * Thread rule: *any thread*.
 */
struct stksess *stktable_set_entry(struct stktable *t, struct stksess *nts);

/**
 * Removes an entry and frees it, if nobody holds a reference; with decrefcnt
 * the caller's own is given back first, and its pointer is dead afterwards.
 *
 * Returns 1 if it is gone, or 0: others hold it.
 *
 * Thread rule: *any thread*.
 */
int stksess_kill(struct stktable *t, struct stksess *ts, int decrefcnt);

/**
 * stksess_kill() without giving a reference back: for who knows that the entry
 * is there.
 *
 * Thread rule: *any thread*.
 */
int __stksess_kill(struct stktable *t, struct stksess *ts);

/**
 * stksess_kill() if the entry has expired; else gives the reference back, if
 * decrefcnt says so.
 *
 * Thread rule: *any thread*.
 */
void stksess_kill_if_expired(struct stktable *t, struct stksess *ts, int decrefcnt);

/**
 * Gives a reference back. NULL is fine.
 *
 * Thread rule: *any thread*.
 */
void stktable_release(struct stktable *t, struct stksess *ts);

/**
 * Touches an entry: it lives for the table's time from now on, and is a local
 * update, for which the sync_task is woken. With decrefcnt the reference is
 * given back.
 *
 * Thread rule: *any thread*.
 */
void stktable_touch_local(struct stktable *t, struct stksess *ts, int decrefcnt);

/**
 * Notes that an entry was learned from a peer. Its date stays what it is, or
 * what the caller has just written. With decrefcnt the reference is given back.
 *
 * Thread rule: *any thread*.
 */
void stktable_touch_remote(struct stktable *t, struct stksess *ts, int decrefcnt);

/**
 * As stktable_touch_local(), with a date of the caller's, in ticks: it may be
 * earlier than the entry's; with TICK_ETERNITY the entry does not expire.
 *
 * Thread rule: *any thread*.
 */
void stktable_touch_with_exp(struct stktable *t, struct stksess *ts, int decrefcnt, int expire);

/**
 * Makes sure that the entry will be looked at by its date, which the caller has
 * changed, and holds a reference.
 *
 * Thread rule: *any thread*.
 */
void stktable_requeue_exp(struct stktable *t, const struct stksess *ts);

/**
 * The handler of a table's exp_task, whose context is the table: frees entries
 * that have expired and are not in use, at most about a thousand, and sets the
 * task's next date. Returns the task.
 *
 * Thread rule: *any thread*.
 */
struct task *process_table_expire(struct task *task, void *context, unsigned int _state);

/**
 * Evicts up to to_batch entries that nobody holds, those first that were not
 * touched for longest, expired or not, also of a nopurge table. Looks at twice
 * as many at most.
 *
 * Returns how many.
 *
 * Thread rule: *any thread*.
 */
int stktable_trash_oldest(struct stktable *t, int to_batch);

/**
 * Returns where an entry's datum of this type is (element 0 of an array), or
 * NULL if the table does not store it.
 *
 * Thread rule: *any thread*.
 */
void *stktable_data_ptr(struct stktable *t, struct stksess *ts, int type);

/**
 * Returns where an element of an array is, or NULL if the table does not store
 * it. What is no array has one element.
 *
 * Thread rule: *any thread*.
 */
void *stktable_data_ptr_idx(struct stktable *t, struct stksess *ts, int type, unsigned int idx);

/**
 * Waits until nobody reads or writes the entry's data.
 *
 * Thread rule: *any thread*.
 */
void stksess_wrlock(struct stksess *ts);

/**
 * Waits until nobody writes the entry's data.
 *
 * Thread rule: *any thread*.
 */
void stksess_rdlock(struct stksess *ts);

/**
 * Ends stksess_wrlock().
 *
 * Thread rule: *owner thread only*.
 */
void stksess_wrunlock(struct stksess *ts);

/**
 * Ends stksess_rdlock().
 *
 * Thread rule: *owner thread only*.
 */
void stksess_rdunlock(struct stksess *ts);

/**
 * The first update after number from, up to to, in the ring of 2^32: local
 * ones are numbered up to localupdate, remote ones from half a ring after the
 * first remote touch's number on, up to update + 2^31.
 *
 * Returns its entry with a reference and sets *number (if it is not NULL), or
 * NULL.
 *
 * Thread rule: *any thread*.
 */
struct stksess *keel_stktable_next_update(struct stktable *t,
                                          unsigned int from,
                                          unsigned int to,
                                          unsigned int *number);

/**
 * Returns how many entries there are, stored or not.
 *
 * Thread rule: *any thread*.
 */
unsigned int keel_stktable_current(struct stktable *t);

/**
 * Returns about how many bytes of memory one entry of a well filled table
 * takes, its part of the index included. 0 where the table is not in use.
 *
 * Thread rule: *any thread*.
 */
unsigned int keel_stktable_cost(struct stktable *t);

/**
 * Writes what 'show table' shows to a descriptor: a line for the table and one
 * for each entry. filter is NULL or "": all; "key K": the one with that key;
 * "data.TYPE OP VALUE", OP being eq, ne, le, ge, lt or gt, also several of
 * them: those that meet all. No lock is held for more than a few entries.
 *
 * Returns the bytes written, or a negative errno: -EINVAL: the filter is wrong,
 * or about a datum that is not stored, and nothing is written; -ENOMEM; or
 * write()'s.
 *
 * Thread rule: *any thread*.
 */
int keel_dump_stktable(struct stktable *t, int fd, const char *filter);

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

#ifdef __cplusplus
}
#endif

#endif /* KEEL_STICK_TABLE_H */
