import Clibnftnl
import Glibc

/// A rule in the making: nf_tables expressions in order, each reading or writing register 1.
struct Rule {
    private let rule: OpaquePointer

    init?(table: String, chain: String) {
        guard let rule = nftnl_rule_alloc() else { return nil }
        self.rule = rule
        nftnl_rule_set_str(rule, UInt16(NFTNL_RULE_TABLE.rawValue), table)
        nftnl_rule_set_str(rule, UInt16(NFTNL_RULE_CHAIN.rawValue), chain)
    }

    /// Writes the rule into a message and frees it.
    func finish(into header: UnsafeMutablePointer<nlmsghdr>) {
        nftnl_rule_nlmsg_build_payload(header, rule)
        nftnl_rule_free(rule)
    }

    private func add(_ name: String, _ configure: (OpaquePointer) -> Void) {
        guard let expression = nftnl_expr_alloc(name) else { return }
        configure(expression)
        nftnl_rule_add_expr(rule, expression)
    }

    private static var register: UInt32 { UInt32(NFT_REG_1.rawValue) }

    func loadMeta(_ key: nft_meta_keys) {
        add("meta") {
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_META_KEY), key.rawValue)
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_META_DREG), Rule.register)
        }
    }

    func loadPayload(_ base: nft_payload_bases, offset: Int, length: Int) {
        add("payload") {
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_PAYLOAD_DREG), Rule.register)
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_PAYLOAD_BASE), base.rawValue)
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_PAYLOAD_OFFSET), UInt32(offset))
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_PAYLOAD_LEN), UInt32(length))
        }
    }

    /// Goes on only where the register compares so with the bytes.
    func compare(_ operation: nft_cmp_ops, _ bytes: [UInt8]) {
        add("cmp") {
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_CMP_SREG), Rule.register)
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_CMP_OP), operation.rawValue)
            nftnl_expr_set($0, UInt16(NFTNL_EXPR_CMP_DATA), bytes, UInt32(bytes.count))
        }
    }

    /// Goes on only where the register is an element of the set.
    func lookUp(_ set: AgentTable.SetName) {
        add("lookup") {
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_LOOKUP_SREG), Rule.register)
            nftnl_expr_set_str($0, UInt16(NFTNL_EXPR_LOOKUP_SET), set.rawValue)
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_LOOKUP_SET_ID), set.number)
        }
    }

    /// Counts in a named counter of the table.
    func count(_ counter: AgentTable.CounterName) {
        add("objref") {
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_OBJREF_IMM_TYPE), UInt32(NFT_OBJECT_COUNTER))
            nftnl_expr_set_str($0, UInt16(NFTNL_EXPR_OBJREF_IMM_NAME), counter.rawValue)
        }
    }

    /// `meta pkttype set host`: the kernel's TCP takes frames to a multicast address only so.
    func setPacketTypeHost() {
        add("immediate") {
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_IMM_DREG), Rule.register)
            // PACKET_HOST (linux/if_packet.h).
            nftnl_expr_set($0, UInt16(NFTNL_EXPR_IMM_DATA), [UInt8(0)], 1)
        }
        add("meta") {
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_META_KEY), NFT_META_PKTTYPE.rawValue)
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_META_SREG), Rule.register)
        }
    }

    enum Verdict: UInt32 {
        // NF_DROP, NF_ACCEPT (linux/netfilter.h).
        case drop = 0
        case accept = 1
    }

    func verdict(_ verdict: Verdict) {
        add("immediate") {
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_IMM_DREG), UInt32(NFT_REG_VERDICT.rawValue))
            nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_IMM_VERDICT), verdict.rawValue)
        }
    }
}
