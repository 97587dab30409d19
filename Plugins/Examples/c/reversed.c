/* An example of a dispatch policy in C: round robin from the highest slot to the lowest. */
#include "baton_policy.h"

static int32_t plan(const struct baton_policy_backend *backends, uint32_t count, struct baton_policy_plan *plan)
{
    plan->kind = BATON_POLICY_COUNTER;
    for (uint32_t left = count; left > 0; left--) {
        if (backends[left - 1].weight == 0)
            continue;
        if (plan->table_length == plan->table_room)
            return -1;
        plan->table[plan->table_length++] = backends[left - 1].slot;
    }
    return 0;
}

const struct baton_policy baton_policy = {
    .abi = BATON_POLICY_ABI,
    .struct_bytes = sizeof(struct baton_policy),
    .name = "reversed",
    .summary = "round robin, the highest slot first",
    .plan = plan,
};
