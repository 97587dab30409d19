import Clibbpf
import Glibc

/// How a program sits at an interface: in the driver, or behind it in the stack (works everywhere, slower).
public enum XDPMode: String, Sendable {
    case native
    case generic
}

/// The tie between a program and its place in the kernel. It falls when its last descriptor and its last pin are gone.
///
/// Any thread may use it; attaching looks in the network namespace of the calling thread.
public struct BPFLink: Sendable {
    public let subject: String
    let descriptor: Descriptor

    // MARK: XDP

    /// Attaches to an interface, in the driver if `modes` allows it and it can, else in the stack.
    ///
    /// An interface that has a program already is not tried again in another mode.
    public static func attachXDP(
        _ program: BPFProgram, interface: UInt32, modes: Set<XDPMode> = [.native, .generic]
    ) throws(BPFError) -> (link: BPFLink, mode: XDPMode) {
        guard modes.contains(.native) else { return (try attachGenericXDP(program, interface: interface), .generic) }
        let subject = "XDP program \(program.name) to interface \(interfaceName(interface))"
        let native = createXDP(program, interface, flags: UInt32(XDP_FLAGS_DRV_MODE))
        if native >= 0 { return (BPFLink(subject: subject, descriptor: Descriptor(owning: native)), .native) }
        let code = errno
        guard modes.contains(.generic), ![EBUSY, EEXIST, EPERM, ENODEV].contains(code) else {
            let taken = code == EBUSY || code == EEXIST
            throw BPFError.latest(
                "attach", subject, code: code,
                remedy: taken ? "another XDP program is there: see `ip link show`, remove it first" : nil
            )
        }
        return (try attachGenericXDP(program, interface: interface), .generic)
    }

    /// Attaches behind the driver, in the stack: for drivers without XDP, and for tests.
    public static func attachGenericXDP(_ program: BPFProgram, interface: UInt32) throws(BPFError) -> BPFLink {
        let subject = "XDP program \(program.name) to interface \(interfaceName(interface))"
        let generic = createXDP(program, interface, flags: UInt32(XDP_FLAGS_SKB_MODE))
        guard generic >= 0 else { throw BPFError.latest("attach", subject, cause: "in generic mode") }
        return BPFLink(subject: subject, descriptor: Descriptor(owning: generic))
    }

    private static func createXDP(_ program: BPFProgram, _ interface: UInt32, flags: UInt32) -> Int32 {
        var options = bpf_link_create_opts()
        options.sz = BATON_LINK_CREATE_OPTIONS_BYTES
        options.flags = flags
        return bpf_link_create(program.descriptor.number, Int32(interface), BPF_XDP, &options)
    }

    /// What `attachOrUpdateXDP` found.
    public enum Outcome: Equatable, Sendable {
        case attached(XDPMode)
        /// The link was there; its program was exchanged between two frames.
        case updated
    }

    /// Takes over the pinned link of an earlier run, exchanging its program atomically, or attaches and pins a new one.
    ///
    /// A pinned link whose interface is gone or is another one is unpinned and replaced.
    public static func attachOrUpdateXDP(
        _ program: BPFProgram, interface: UInt32, pin path: String, modes: Set<XDPMode> = [.native, .generic]
    ) throws(BPFError) -> (link: BPFLink, outcome: Outcome) {
        if let old = try pinned(at: path) {
            if try old.xdpInterface() == interface {
                try old.update(to: program)
                return (old, .updated)
            }
            try unpin(path)
        }
        let (link, mode) = try attachXDP(program, interface: interface, modes: modes)
        try link.pin(at: path)
        return (link, .attached(mode))
    }

    /// The interface of an XDP link; nil when that has been deleted, or when it is another kind of link.
    public func xdpInterface() throws(BPFError) -> UInt32? {
        var info = bpf_link_info()
        var size = UInt32(MemoryLayout<bpf_link_info>.size)
        guard bpf_obj_get_info_by_fd(descriptor.number, &info, &size) == 0 else {
            throw BPFError.latest("ask about the link of", subject)
        }
        guard info.type == BPF_LINK_TYPE_XDP.rawValue, info.xdp.ifindex != 0 else { return nil }
        return info.xdp.ifindex
    }

    /// How the interface's XDP program is attached; nil when there is none.
    public static func xdpMode(of interface: UInt32) throws(BPFError) -> XDPMode? {
        var options = bpf_xdp_query_opts()
        options.sz = BATON_XDP_QUERY_OPTIONS_BYTES
        guard bpf_xdp_query(Int32(interface), 0, &options) == 0 else {
            throw BPFError.latest("ask for the XDP program of interface", interfaceName(interface))
        }
        switch Int(options.attach_mode) {
        case XDP_ATTACHED_NONE: return nil
        case XDP_ATTACHED_SKB: return .generic
        default: return .native
        }
    }

    // MARK: Tracing

    /// Attaches a `tp_btf` (or fentry/fexit) program; its section names the place.
    public static func attachTracing(_ program: BPFProgram) throws(BPFError) -> BPFLink {
        let subject = "tracing program \(program.name)"
        let number = bpf_raw_tracepoint_open(nil, program.descriptor.number)
        guard number >= 0 else { throw BPFError.latest("attach", subject) }
        return BPFLink(subject: subject, descriptor: Descriptor(owning: number))
    }

    // MARK: All kinds

    /// Opens a pinned link; nil when nothing is pinned there.
    public static func pinned(at path: String) throws(BPFError) -> BPFLink? {
        guard let descriptor = try Descriptor.pinned(at: path) else { return nil }
        return BPFLink(subject: path, descriptor: descriptor)
    }

    /// Pins it, so that it outlives the process.
    public func pin(at path: String) throws(BPFError) {
        try descriptor.pin(at: path)
    }

    /// Removes a pin; none there is fine.
    public static func unpin(_ path: String) throws(BPFError) {
        guard unlink(path) == 0 || errno == ENOENT else { throw BPFError.latest("remove the pin", path) }
    }

    /// Exchanges the program atomically: each frame meets the old or the new one. Not for tracing links.
    public func update(to program: BPFProgram) throws(BPFError) {
        guard bpf_link_update(descriptor.number, program.descriptor.number, nil) == 0 else {
            throw BPFError.latest("put program \(program.name) in the place of", subject)
        }
    }

    /// Takes the program out of its place now, whoever else holds the link. Not for tracing links.
    public func detach() throws(BPFError) {
        guard bpf_link_detach(descriptor.number) == 0 else { throw BPFError.latest("detach", subject) }
    }
}

/// The index of an interface in the calling thread's network namespace.
public func interfaceIndex(_ name: String) throws(BPFError) -> UInt32 {
    let index = if_nametoindex(name)
    guard index != 0 else {
        throw BPFError.latest("find", "interface \(name)", remedy: "see `ip link` for the interfaces there are")
    }
    return index
}

func interfaceName(_ index: UInt32) -> String {
    var name = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
    guard if_indextoname(index, &name) != nil else { return "number \(index)" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
