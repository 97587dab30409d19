/* The descriptor: static data with the layout of C. The policy itself is in spare.swift. */
#include "baton_policy.h"

int32_t spare_plan(const struct baton_policy_backend *, uint32_t, struct baton_policy_plan *);

const struct baton_policy baton_policy = {
    BATON_POLICY_ABI, sizeof(struct baton_policy), "spare", "least connections, the lowest weight spared", spare_plan,
};
