import Clibnftnl
import Glibc
import LinuxBase
import Model

extension AgentTable {
    /// Frames and bytes counted since the table was made.
    public struct Count: Hashable, Sendable {
        public var frames: UInt64 = 0
        public var bytes: UInt64 = 0

        public init(frames: UInt64 = 0, bytes: UInt64 = 0) {
            self.frames = frames
            self.bytes = bytes
        }
    }

    public struct Counters: Hashable, Sendable {
        /// Frames to own groups, let through to TCP.
        public var accepted = Count()
        /// Frames to tapped groups, dropped after the tap.
        public var tapped = Count()
        /// Frames to Baton's groups that are neither, dropped.
        public var strangers = Count()
        /// Frames from fenced VIPs, dropped.
        public var fenced = Count()

        public init() {}
    }

    /// Reads the counters; one dump.
    public func counters() throws(LinuxError) -> Counters {
        try withSocket { (socket) throws(LinuxError) in
            var counters = Counters()
            try socket.query(
                "read counters of nftables table",
                name,
                type: Int(NFT_MSG_GETOBJ.rawValue),
                flags: Int(NLM_F_DUMP),
                family: Int(NFPROTO_NETDEV),
                build: { nftnlRequest($0, table: name) }
            ) { header in
                guard let object = nftnl_obj_alloc() else { return }
                defer { nftnl_obj_free(object) }
                guard nftnl_obj_nlmsg_parse(header, object) == 0,
                    nftnl_obj_get_str(object, UInt16(NFTNL_OBJ_TABLE)).map({ String(cString: $0) }) == name,
                    let text = nftnl_obj_get_str(object, UInt16(NFTNL_OBJ_NAME)),
                    let counter = CounterName(rawValue: String(cString: text))
                else { return }
                let count = Count(
                    frames: nftnl_obj_get_u64(object, UInt16(NFTNL_OBJ_CTR_PKTS)),
                    bytes: nftnl_obj_get_u64(object, UInt16(NFTNL_OBJ_CTR_BYTES))
                )
                switch counter {
                case .accepted: counters.accepted = count
                case .tapped: counters.tapped = count
                case .strangers: counters.strangers = count
                case .fenced: counters.fenced = count
                }
            }
            return counters
        }
    }

    /// What a table of Baton's holds: what a restarted agent finds of its former life.
    public struct Contents: Hashable, Sendable {
        public var own: [MACAddress]
        public var tapped: [MACAddress]
        /// The VIPs behind the fence; empty when it is down.
        public var fenced: [IPAddress]

        public init(own: [MACAddress], tapped: [MACAddress], fenced: [IPAddress]) {
            self.own = own
            self.tapped = tapped
            self.fenced = fenced
        }
    }

    /// Reads the table of the name; nil when there is none, or one that Baton did not make.
    public static func contents(of name: String) throws(LinuxError) -> Contents? {
        let socket = try NetfilterSocket()
        guard try comment(of: name, socket) == mark else { return nil }
        let fenced4 = try elements(.fenced4, of: name, socket).compactMap { key in
            key.count == 4 ? IPAddress(ipv4: key.reduce(0) { $0 << 8 | UInt32($1) }) : nil
        }
        return Contents(
            own: try elements(.ownGroups, of: name, socket).compactMap { MACAddress(bytes: $0) }
                .sorted { $0.rawValue < $1.rawValue },
            tapped: try elements(.tappedGroups, of: name, socket).compactMap { MACAddress(bytes: $0) }
                .sorted { $0.rawValue < $1.rawValue },
            fenced: (fenced4 + (try elements(.fenced6, of: name, socket).compactMap { IPAddress(bytes: $0) })).sorted()
        )
    }

    private static func elements(
        _ set: SetName,
        of table: String,
        _ socket: NetfilterSocket
    ) throws(LinuxError) -> [[UInt8]] {
        var keys: [[UInt8]] = []
        try socket.query(
            "read set of nftables table",
            "\(table) \(set.rawValue)",
            type: Int(NFT_MSG_GETSETELEM.rawValue),
            flags: Int(NLM_F_DUMP),
            family: Int(NFPROTO_NETDEV)
        ) { header in
            guard let object = nftnl_set_alloc() else { return }
            defer { nftnl_set_free(object) }
            nftnl_set_set_str(object, UInt16(NFTNL_SET_TABLE.rawValue), table)
            nftnl_set_set_str(object, UInt16(NFTNL_SET_NAME.rawValue), set.rawValue)
            nftnl_set_elems_nlmsg_build_payload(header, object)
        } body: { header in
            keys += NetfilterSocket.elementKeys(header)
        }
        return keys
    }

    /// The comment of the netdev table of the name: empty where it has none, nil without such a table.
    static func comment(of name: String, _ socket: NetfilterSocket) throws(LinuxError) -> String? {
        var comment: String?
        do {
            try socket.query(
                "look for nftables table",
                "netdev \(name)",
                type: Int(NFT_MSG_GETTABLE.rawValue),
                flags: 0,
                family: Int(NFPROTO_NETDEV),
                build: { nftnlRequest($0, table: name) }
            ) { header in
                guard let table = nftnl_table_alloc() else { return }
                defer { nftnl_table_free(table) }
                guard nftnl_table_nlmsg_parse(header, table) == 0 else { return }
                var length: UInt32 = 0
                let data = nftnl_table_get_data(table, UInt16(NFTNL_TABLE_USERDATA.rawValue), &length)
                comment =
                    data.map {
                        NetfilterSocket.comment(UnsafeRawBufferPointer(start: $0, count: Int(length)))
                    } ?? ""
            }
        } catch  where error.errno == ENOENT {
            return nil
        }
        return comment ?? ""
    }
}

/// The one attribute that table and object requests have in common: NFTA_TABLE_NAME and NFTA_OBJ_TABLE are both 1.
private func nftnlRequest(_ header: UnsafeMutablePointer<nlmsghdr>, table: String) {
    mnl_attr_put_strz(header, 1, table)
}

extension NetfilterSocket {
    /// The text of a comment among a table's user data (type, length, value ...).
    fileprivate static func comment(_ data: UnsafeRawBufferPointer) -> String {
        var rest = data[...]
        while rest.count >= 2 {
            let (type, length) = (rest[rest.startIndex], Int(rest[rest.startIndex + 1]))
            let value = rest.dropFirst(2).prefix(length)
            if UInt32(type) == NFTNL_UDATA_TABLE_COMMENT.rawValue {
                return String(decoding: value.prefix { $0 != 0 }, as: UTF8.self)
            }
            rest = rest.dropFirst(2 + length)
        }
        return ""
    }

    /// The keys of the elements in one part of a set's dump.
    fileprivate static func elementKeys(_ header: UnsafePointer<nlmsghdr>) -> [[UInt8]] {
        guard let set = nftnl_set_alloc() else { return [] }
        defer { nftnl_set_free(set) }
        guard nftnl_set_elems_nlmsg_parse(header, set) == 0, let walk = nftnl_set_elems_iter_create(set) else {
            return []
        }
        defer { nftnl_set_elems_iter_destroy(walk) }
        var keys: [[UInt8]] = []
        while let element = nftnl_set_elems_iter_next(walk) {
            var length: UInt32 = 0
            guard let key = nftnl_set_elem_get(element, UInt16(NFTNL_SET_ELEM_KEY), &length) else { continue }
            keys.append(Array(UnsafeRawBufferPointer(start: key, count: Int(length))))
        }
        return keys
    }
}
