/* What `baton_route` notes of the way of a frame. Everywhere else `answer` is 0, and nothing of this is left. */
#ifndef BATON_DIRECTOR_ROUTE_H
#define BATON_DIRECTOR_ROUTE_H

#include "director_maps.h"

/* `counts` stands in for the counters themselves. */
_Static_assert(sizeof(((struct baton_answer *)0)->counts) == sizeof(struct baton_director_counts), "same counters");
_Static_assert(sizeof(((struct baton_answer *)0)->service_counts) == sizeof(struct baton_service_counters),
               "same counters");

static __always_inline void answer_flag(struct baton_answer *answer, __u32 flag)
{
    if (answer)
        answer->flags |= flag;
}

static __always_inline void answer_service(struct baton_answer *answer, __u16 service)
{
    if (!answer)
        return;
    answer->service = service;
    answer->flags |= BATON_ANSWER_SERVICE;
}

static __always_inline void answer_slot(struct baton_answer *answer, __u16 slot)
{
    if (!answer || slot == BATON_NO_SLOT)
        return;
    answer->slot = slot;
    answer->flags |= BATON_ANSWER_SLOT;
}

/* Puts the answer behind the packet; false when the frame has no room for it. */
static __always_inline bool write_answer(struct xdp_md *context, const struct baton_answer *answer)
{
    void *start = (void *)(long)context->data;
    void *end = (void *)(long)context->data_end;
    struct baton_answer *place = start + BATON_ANSWER_OFFSET;

    if ((void *)(place + 1) > end)
        return false;
    __builtin_memcpy(place, answer, sizeof(*place));
    return true;
}

#endif
