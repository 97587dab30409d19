import Clibnftnl
import Glibc
import LinuxBase
import Model

/// The parts of an agent's table as nf_tables messages.
extension NetfilterBatch {
    mutating func addTable(_ name: String, _ comment: String) throws(LinuxError) {
        try add("table", type: NFT_MSG_NEWTABLE, flags: Int(NLM_F_CREATE)) { header in
            guard let table = nftnl_table_alloc() else { return }
            defer { nftnl_table_free(table) }
            nftnl_table_set_str(table, UInt16(NFTNL_TABLE_NAME.rawValue), name)
            // nft's own form of a comment: type, length, zero-terminated text (libnftnl/udata.h).
            let text = Array(comment.utf8) + [0]
            let userData = [UInt8(NFTNL_UDATA_TABLE_COMMENT.rawValue), UInt8(text.count)] + text
            nftnl_table_set_data(table, UInt16(NFTNL_TABLE_USERDATA.rawValue), userData, UInt32(userData.count))
            nftnl_table_nlmsg_build_payload(header, table)
        }
    }

    mutating func deleteTable(_ name: String) throws(LinuxError) {
        try add("delete table", type: NFT_MSG_DELTABLE) { header in
            guard let table = nftnl_table_alloc() else { return }
            defer { nftnl_table_free(table) }
            nftnl_table_set_str(table, UInt16(NFTNL_TABLE_NAME.rawValue), name)
            nftnl_table_nlmsg_build_payload(header, table)
        }
    }

    mutating func addCounter(_ counter: AgentTable.CounterName, table: String) throws(LinuxError) {
        try add("counter \(counter.rawValue)", type: NFT_MSG_NEWOBJ, flags: Int(NLM_F_CREATE)) { header in
            guard let object = nftnl_obj_alloc() else { return }
            defer { nftnl_obj_free(object) }
            nftnl_obj_set_str(object, UInt16(NFTNL_OBJ_TABLE), table)
            nftnl_obj_set_str(object, UInt16(NFTNL_OBJ_NAME), counter.rawValue)
            nftnl_obj_set_u32(object, UInt16(NFTNL_OBJ_TYPE), UInt32(NFT_OBJECT_COUNTER))
            nftnl_obj_set_u64(object, UInt16(NFTNL_OBJ_CTR_PKTS), 0)
            nftnl_obj_set_u64(object, UInt16(NFTNL_OBJ_CTR_BYTES), 0)
            nftnl_obj_nlmsg_build_payload(header, object)
        }
    }

    mutating func addSet(_ set: AgentTable.SetName, table: String) throws(LinuxError) {
        try add("set \(set.rawValue)", type: NFT_MSG_NEWSET, flags: Int(NLM_F_CREATE)) { header in
            guard let object = nftnl_set_alloc() else { return }
            defer { nftnl_set_free(object) }
            nftnl_set_set_str(object, UInt16(NFTNL_SET_TABLE.rawValue), table)
            nftnl_set_set_str(object, UInt16(NFTNL_SET_NAME.rawValue), set.rawValue)
            nftnl_set_set_u32(object, UInt16(NFTNL_SET_ID.rawValue), set.number)
            nftnl_set_set_u32(object, UInt16(NFTNL_SET_FAMILY.rawValue), UInt32(NFPROTO_NETDEV))
            nftnl_set_set_u32(object, UInt16(NFTNL_SET_KEY_TYPE.rawValue), set.keyType)
            nftnl_set_set_u32(object, UInt16(NFTNL_SET_KEY_LEN.rawValue), set.keyBytes)
            nftnl_set_nlmsg_build_payload(header, object)
        }
    }

    mutating func addChain(_ chain: AgentTable.ChainName, table: String, interface: String) throws(LinuxError) {
        try add("chain \(chain.rawValue)", type: NFT_MSG_NEWCHAIN, flags: Int(NLM_F_CREATE)) { header in
            guard let object = nftnl_chain_alloc() else { return }
            defer { nftnl_chain_free(object) }
            nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_TABLE.rawValue), table)
            nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_NAME.rawValue), chain.rawValue)
            nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_TYPE.rawValue), "filter")
            nftnl_chain_set_u32(object, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue), chain.hook)
            // Only orders the netdev chains of one hook; taps and tc ingress come before all of them.
            nftnl_chain_set_s32(object, UInt16(NFTNL_CHAIN_PRIO.rawValue), 0)
            nftnl_chain_set_u32(object, UInt16(NFTNL_CHAIN_POLICY.rawValue), Rule.Verdict.accept.rawValue)
            nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_DEV.rawValue), interface)
            nftnl_chain_nlmsg_build_payload(header, object)
        }
    }

    private mutating func addRule(
        _ chain: AgentTable.ChainName,
        _ description: String,
        table: String,
        _ fill: (Rule) -> Void
    ) throws(LinuxError) {
        try add("rule \(description)", type: NFT_MSG_NEWRULE, flags: Int(NLM_F_CREATE | NLM_F_APPEND)) { header in
            guard let rule = Rule(table: table, chain: chain.rawValue) else { return }
            fill(rule)
            rule.finish(into: header)
        }
    }

    mutating func addRules(table: String) throws(LinuxError) {
        // Broadcast, frames to this host, and what a tc program has made host; but not from a mark.
        try addRule(.ingress, "not multicast", table: table) { rule in
            rule.loadMeta(NFT_META_PKTTYPE)
            // PACKET_MULTICAST (linux/if_packet.h).
            rule.compare(NFT_CMP_NEQ, [2])
            rule.loadPayload(NFT_PAYLOAD_LL_HEADER, offset: 6, length: 4)
            rule.compare(NFT_CMP_NEQ, Array(SlotID(rawValue: 0).mark.bytes.prefix(4)))
            rule.verdict(.accept)
        }
        try addRule(.ingress, "own groups", table: table) { rule in
            rule.loadPayload(NFT_PAYLOAD_LL_HEADER, offset: 0, length: 6)
            rule.lookUp(.ownGroups)
            rule.count(.accepted)
            rule.setPacketTypeHost()
            rule.verdict(.accept)
        }
        try addRule(.ingress, "tapped groups", table: table) { rule in
            rule.loadPayload(NFT_PAYLOAD_LL_HEADER, offset: 0, length: 6)
            rule.lookUp(.tappedGroups)
            rule.count(.tapped)
            rule.verdict(.drop)
        }
        try addMarkRules(table: table)
        // A bridge that floods groups brings those of others too.
        try addRule(.ingress, "other groups", table: table) { rule in
            rule.loadPayload(NFT_PAYLOAD_LL_HEADER, offset: 0, length: 4)
            rule.compare(NFT_CMP_EQ, Array(SlotID(rawValue: 0).group.bytes.prefix(4)))
            rule.count(.strangers)
            rule.verdict(.drop)
        }
        try addFenceRule(.fenced4, etherType: 0x0800, sourceAt: 12, table: table)
        try addFenceRule(.fenced6, etherType: 0x86dd, sourceAt: 8, table: table)
    }

    /// The packet type stays: a copy that a bridge floods is another host's, and the kernel drops it as such.
    private mutating func addMarkRules(table: String) throws(LinuxError) {
        try addRule(.ingress, "own marks", table: table) { rule in
            rule.loadPayload(NFT_PAYLOAD_LL_HEADER, offset: 6, length: 6)
            rule.lookUp(.ownMarks)
            rule.count(.accepted)
            rule.verdict(.accept)
        }
        try addRule(.ingress, "tapped marks", table: table) { rule in
            rule.loadPayload(NFT_PAYLOAD_LL_HEADER, offset: 6, length: 6)
            rule.lookUp(.tappedMarks)
            rule.count(.tapped)
            rule.verdict(.drop)
        }
        try addRule(.ingress, "other marks", table: table) { rule in
            rule.loadPayload(NFT_PAYLOAD_LL_HEADER, offset: 6, length: 4)
            rule.compare(NFT_CMP_EQ, Array(SlotID(rawValue: 0).mark.bytes.prefix(4)))
            rule.count(.strangers)
            rule.verdict(.drop)
        }
    }

    /// The source address stands at byte 12 of an IPv4 header (RFC 791 3.1), at byte 8 of an IPv6 one (RFC 8200 3).
    private mutating func addFenceRule(
        _ set: AgentTable.SetName,
        etherType: UInt16,
        sourceAt offset: Int,
        table: String
    ) throws(LinuxError) {
        try addRule(.egress, set.rawValue, table: table) { rule in
            rule.loadMeta(NFT_META_PROTOCOL)
            rule.compare(NFT_CMP_EQ, [UInt8(etherType >> 8), UInt8(etherType & 0xff)])
            rule.loadPayload(NFT_PAYLOAD_NETWORK_HEADER, offset: offset, length: Int(set.keyBytes))
            rule.lookUp(set)
            rule.count(.fenced)
            rule.verdict(.drop)
        }
    }

    /// Empties a set and puts these keys in.
    mutating func replace(_ set: AgentTable.SetName, _ keys: [[UInt8]], table: String) throws(LinuxError) {
        // A message without elements deletes them all.
        try add("empty set \(set.rawValue)", type: NFT_MSG_DELSETELEM) { header in
            NetfilterBatch.elements(set, [], table, header)
        }
        guard !keys.isEmpty else { return }
        try add("elements of set \(set.rawValue)", type: NFT_MSG_NEWSETELEM, flags: Int(NLM_F_CREATE)) { header in
            NetfilterBatch.elements(set, keys, table, header)
        }
    }

    /// The sets of groups, and with them those of the same slots' marks.
    mutating func replaceGroups(own: [MACAddress], tapped: [MACAddress], table: String) throws(LinuxError) {
        let marks = { (groups: [MACAddress]) in groups.compactMap { SlotID(group: $0)?.mark.bytes } }
        try replace(.ownGroups, own.map(\.bytes), table: table)
        try replace(.tappedGroups, tapped.map(\.bytes), table: table)
        try replace(.ownMarks, marks(own), table: table)
        try replace(.tappedMarks, marks(tapped), table: table)
    }

    mutating func replaceFence(_ vips: [IPAddress], table: String) throws(LinuxError) {
        try replace(.fenced4, vips.filter(\.isIPv4).map { Array($0.bytes.suffix(4)) }, table: table)
        try replace(.fenced6, vips.filter { !$0.isIPv4 }.map(\.bytes), table: table)
    }

    private static func elements(
        _ set: AgentTable.SetName,
        _ keys: [[UInt8]],
        _ table: String,
        _ header: UnsafeMutablePointer<nlmsghdr>
    ) {
        guard let object = nftnl_set_alloc() else { return }
        defer { nftnl_set_free(object) }
        nftnl_set_set_str(object, UInt16(NFTNL_SET_TABLE.rawValue), table)
        nftnl_set_set_str(object, UInt16(NFTNL_SET_NAME.rawValue), set.rawValue)
        nftnl_set_set_u32(object, UInt16(NFTNL_SET_ID.rawValue), set.number)
        for key in keys {
            guard let element = nftnl_set_elem_alloc() else { continue }
            nftnl_set_elem_set(element, UInt16(NFTNL_SET_ELEM_KEY), key, UInt32(key.count))
            nftnl_set_elem_add(object, element)
        }
        nftnl_set_elems_nlmsg_build_payload(header, object)
    }
}
