/* Dispatch policies by others: the C interface, major version 1.
 *
 * A policy is a shared object with one exported symbol, `baton_policy`, of the type `struct baton_policy`. The director
 * loads it from a path in its configuration, once, and never unloads it. It calls `plan` on its control thread when the
 * back-ends have changed; never for a packet. What `plan` writes is checked before it is used.
 *
 * Fields are only ever appended; `struct_bytes` says how many the module knows. Another major version is refused.
 */
#ifndef BATON_POLICY_H
#define BATON_POLICY_H

#include <stdint.h>

enum { BATON_POLICY_ABI = 1 };

/* A back-end that is up. They come rising by slot, each slot once. */
struct baton_policy_backend {
    uint16_t slot;
    uint16_t weight;    /* 0: no new flows */
};

/* enum baton_plan_kind of the director, as far as a module may use it. */
enum baton_policy_kind {
    BATON_POLICY_COUNTER = 0,           /* places of the table one after the other */
    BATON_POLICY_HASH_SOURCE = 1,       /* a place by the client's address */
    BATON_POLICY_HASH_FLOW = 3,         /* a place by the 5-tuple */
    BATON_POLICY_HASH_CLIENT = 4,       /* a place by the client's address and port */
    BATON_POLICY_LEAST_OVERHEAD = 16,   /* candidates by (256 active + inactive) / weight */
    BATON_POLICY_LEAST_DELAY = 17,      /* candidates by (active + 1) / weight */
    BATON_POLICY_FIRST = 18,            /* the first candidate that is up */
    BATON_POLICY_FIRST_WITH_ROOM = 19,  /* the first with active <= weight */
};

struct baton_policy_plan {
    uint32_t kind;              /* enum baton_policy_kind; 0 on entry */
    uint32_t table_length;      /* places written; 0 on entry */
    uint16_t *table;            /* room for `table_room` slots */
    uint32_t table_room;
    uint32_t candidate_count;   /* candidates written; 0 on entry */
    struct baton_policy_backend *candidates;    /* room for as many as there are back-ends */
};

struct baton_policy {
    uint32_t abi;               /* BATON_POLICY_ABI */
    uint32_t struct_bytes;      /* sizeof(struct baton_policy) */
    const char *name;           /* in the configuration: 1 to 32 of A-Z a-z 0-9 . _ - */
    const char *summary;        /* one line */
    /* Fills the plan and returns 0; anything else is an error. The same back-ends must give the same plan. It must
     * return within milliseconds, and keep none of the pointers. */
    int32_t (*plan)(const struct baton_policy_backend *backends, uint32_t count, struct baton_policy_plan *plan);
};

#endif
