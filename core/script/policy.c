// SPDX-License-Identifier: MIT
#include "script/policy.h"

#include "script/state.h"

const struct policy_kind *const policy_kinds[POLICY_KINDS] = {
    [POLICY_LIMIT] = &policy_limit,
    [POLICY_COMPRESSION] = &policy_compression,
    [POLICY_CACHE] = &policy_cache,
};

void policies_free(struct route *route)
{
    for (unsigned i = 0; i < POLICY_KINDS; i++)
        if (route->policies[i])
            policy_kinds[i]->free(route->policies[i]);
}
