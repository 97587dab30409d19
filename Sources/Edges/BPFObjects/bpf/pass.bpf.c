/* Lets every frame pass. A veth needs some XDP program of its own before it takes what XDP_TX on its peer sends. */
#include "prelude.h"

SEC("xdp.frags")
int baton_pass(struct xdp_md *context)
{
    return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
