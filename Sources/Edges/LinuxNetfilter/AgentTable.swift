import Clibnftnl
import Glibc
import LinuxBase
import Model
import Synchronization

/// An agent's own nf_tables table (family netdev) on the interface that faces the director.
///
/// Ingress, after the taps and after tc, for frames whose packet type is still "multicast" (a tc program that has made
/// it "host" has decided already):
/// - to a group of `own_groups`: packet type host, so that the kernel's TCP takes them;
/// - to a group of `tapped_groups`, or to any other group of Baton: dropped; the tap has seen them.
///
/// And for the unicast copies of the forwarding `duplicate`, which come from a slot's mark (`SlotID.mark`): of own
/// groups let through, all others dropped. The sets of marks follow those of groups.
///
/// Egress, before tc: everything whose source address is in `fenced4` or `fenced6` is dropped. The fence puts the VIPs
/// into these sets and takes them out.
///
/// Every change is one batch, which the kernel does whole or not at all. The table stays when the process ends, so
/// that neither a crash of the daemon stops traffic nor its fence falls; it goes with `remove()` or the interface. Any
/// thread.
public final class AgentTable: Sendable {
    public let name: String
    public let interface: String
    private let state: Mutex<State>

    struct State {
        let socket: NetfilterSocket
        var vips: [IPAddress]
        var fenced: Bool
    }

    private init(name: String, interface: String, state: sending State) {
        self.name = name
        self.interface = interface
        self.state = Mutex(state)
    }

    /// Makes the table, in place of what a former life of the agent left under the name, in one batch.
    ///
    /// - Parameters:
    ///   - name: the table's name; one for each agent instance in a network namespace.
    ///   - own, tapped, fenced: what holds from the first instant; a restarted agent hands over `contents(of:)`.
    /// - Throws: EEXIST when a table of the name exists that is not Baton's; ENODEV without the interface.
    public static func create(
        name: String,
        interface: String,
        vips: [IPAddress],
        own: [MACAddress] = [],
        tapped: [MACAddress] = [],
        fenced: Bool = false
    ) throws(LinuxError) -> AgentTable {
        let socket = try NetfilterSocket()
        if let comment = try comment(of: name, socket), comment != mark {
            throw LinuxError(
                "create nftables table",
                "netdev \(name)",
                errno: EEXIST,
                detail: "there is one that Baton did not make",
                remedy: "remove it (nft delete table netdev \(name)), or configure another name"
            )
        }
        try checkSizes(own, tapped, vips)
        guard if_nametoindex(interface) != 0 else {
            throw LinuxError(
                "create nftables table",
                "netdev \(name) on \(interface)",
                errno: ENODEV,
                remedy: "name an interface that exists"
            )
        }
        try socket.commit("create nftables table", "netdev \(name) on \(interface)") { (batch) throws(LinuxError) in
            // Deleting what does not exist would fail the batch: make sure that there is something to delete.
            try batch.addTable(name, mark)
            try batch.deleteTable(name)
            try batch.addTable(name, mark)
            for counter in CounterName.allCases { try batch.addCounter(counter, table: name) }
            for set in SetName.allCases { try batch.addSet(set, table: name) }
            try batch.addChain(.ingress, table: name, interface: interface)
            try batch.addChain(.egress, table: name, interface: interface)
            try batch.addRules(table: name)
            try batch.replaceGroups(own: own, tapped: tapped, table: name)
            if fenced { try batch.replaceFence(vips, table: name) }
        }
        return AgentTable(name: name, interface: interface, state: State(socket: socket, vips: vips, fenced: fenced))
    }

    /// Which groups' frames reach this machine's TCP, and which are only for the tap. Takes the place of both sets.
    public func setGroups(own: [MACAddress], tapped: [MACAddress]) throws(LinuxError) {
        try AgentTable.checkSizes(own, tapped, [])
        try state.withLock { (state) throws(LinuxError) in
            try state.socket.commit("set groups of nftables table", name) { (batch) throws(LinuxError) in
                try batch.replaceGroups(own: own, tapped: tapped, table: name)
            }
        }
    }

    /// On: nothing with a VIP as its source leaves through the interface. In force when the call returns, but for
    /// frames that are in the NIC's queue already.
    public func setFence(_ on: Bool) throws(LinuxError) {
        try state.withLock { (state) throws(LinuxError) in
            let vips = state.vips
            try state.socket.commit("set fence of nftables table", name) { (batch) throws(LinuxError) in
                try batch.replaceFence(on ? vips : [], table: name)
            }
            state.fenced = on
        }
    }

    /// Changes the VIPs that the fence is for; a fence that is up stays up, for the new ones.
    public func setVIPs(_ vips: [IPAddress]) throws(LinuxError) {
        try AgentTable.checkSizes([], [], vips)
        try state.withLock { (state) throws(LinuxError) in
            if state.fenced {
                try state.socket.commit("set fence of nftables table", name) { (batch) throws(LinuxError) in
                    try batch.replaceFence(vips, table: name)
                }
            }
            state.vips = vips
        }
    }

    /// Removes the table; no error when it is gone already (with its interface, say, or by hand).
    public func remove() throws(LinuxError) {
        try state.withLock { (state) throws(LinuxError) in
            do throws(LinuxError) {
                try state.socket.commit("remove nftables table", name) { (batch) throws(LinuxError) in
                    try batch.deleteTable(name)
                }
            } catch  where error.errno == ENOENT {
                // As wished.
            }
        }
    }

    func withSocket<Result>(
        _ body: (NetfilterSocket) throws(LinuxError) -> Result
    ) throws(LinuxError) -> Result where Result: Sendable {
        try state.withLock { (state) throws(LinuxError) in try body(state.socket) }
    }

    private static func checkSizes(
        _ own: [MACAddress],
        _ tapped: [MACAddress],
        _ vips: [IPAddress]
    ) throws(LinuxError) {
        guard max(own.count, tapped.count) <= Limits.slots, vips.count <= Limits.services else {
            throw LinuxError("fill nftables sets", "", errno: E2BIG, detail: "more than \(Limits.slots) elements")
        }
    }

    /// The table's comment, which `nft list ruleset` shows; a table without it is somebody else's.
    static let mark = "made by baton-agent"
}

// MARK: Names

extension AgentTable {
    enum SetName: String, CaseIterable {
        case ownGroups = "own_groups"
        case tappedGroups = "tapped_groups"
        case ownMarks = "own_marks"
        case tappedMarks = "tapped_marks"
        case fenced4 = "fenced4"
        case fenced6 = "fenced6"

        /// Of the set within its batch.
        var number: UInt32 {
            switch self {
            case .ownGroups: 1
            case .tappedGroups: 2
            case .fenced4: 3
            case .fenced6: 4
            case .ownMarks: 5
            case .tappedMarks: 6
            }
        }

        var keyBytes: UInt32 {
            switch self {
            case .ownGroups, .tappedGroups, .ownMarks, .tappedMarks: 6
            case .fenced4: 4
            case .fenced6: 16
            }
        }

        /// The data type that nft(8) shows (its datatype.h: ipv4_addr 7, ipv6_addr 8, ether_addr 9); the kernel does
        /// not read it.
        var keyType: UInt32 {
            switch self {
            case .ownGroups, .tappedGroups, .ownMarks, .tappedMarks: 9
            case .fenced4: 7
            case .fenced6: 8
            }
        }
    }

    enum CounterName: String, CaseIterable {
        case accepted, tapped, strangers, fenced
    }

    enum ChainName: String {
        case ingress, egress

        var hook: UInt32 {
            switch self {
            case .ingress: UInt32(NF_NETDEV_INGRESS.rawValue)
            case .egress: UInt32(NF_NETDEV_EGRESS.rawValue)
            }
        }
    }
}
