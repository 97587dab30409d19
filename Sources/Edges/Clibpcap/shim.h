#ifndef BATON_CLIBPCAP_SHIM_H
#define BATON_CLIBPCAP_SHIM_H

/* pcap/bpf.h and linux/bpf.h each define a struct bpf_insn of their own; under these names both fit in one program. */
#define bpf_program pcap_bpf_program
#define bpf_insn pcap_bpf_insn
#include <pcap/pcap.h>
#undef bpf_program
#undef bpf_insn

#endif
