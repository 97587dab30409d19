import Clibbpf
import Glibc

/// A tc hook of an interface (the qdisc `clsact`), and programs at it in direct-action mode.
///
/// The kernel keeps both when the process dies. All calls go over netlink, in the network namespace of the calling
/// thread, and may be made from any thread.
public struct TrafficControlHook: Sendable {
    public enum Direction: Sendable {
        case ingress
        case egress
    }

    public let interface: UInt32
    public let direction: Direction
    /// Which filter of the hook is meant; together they name it, so that attaching again replaces.
    public let priority: UInt32
    public let handle: UInt32

    public init(interface: UInt32, direction: Direction, priority: UInt32 = 1, handle: UInt32 = 1) {
        self.interface = interface
        self.direction = direction
        self.priority = priority
        self.handle = handle
    }

    /// Makes the qdisc `clsact`, which serves both directions.
    /// - Returns: false when the interface has one already, which is then not ours to destroy.
    @discardableResult
    public func create() throws(BPFError) -> Bool {
        LibbpfLog.clear()
        var hook = hook()
        let code = bpf_tc_hook_create(&hook)
        if code == 0 { return true }
        if code == -EEXIST { return false }
        throw BPFError.latest("make a clsact qdisc on", subject, code: -code)
    }

    /// Attaches a program, in the place of the one that stands there with the same priority and handle.
    public func attach(_ program: BPFProgram) throws(BPFError) {
        LibbpfLog.clear()
        var hook = hook()
        var options = options()
        options.prog_fd = program.descriptor.number
        options.flags = UInt32(BPF_TC_F_REPLACE.rawValue)
        let code = bpf_tc_attach(&hook, &options)
        guard code == 0 else { throw BPFError.latest("attach program \(program.name) to", subject, code: -code) }
    }

    /// Takes the program away; none there is fine.
    public func detach() throws(BPFError) {
        LibbpfLog.clear()
        var hook = hook()
        var options = options()
        let code = bpf_tc_detach(&hook, &options)
        // EINVAL: there is no clsact at all.
        guard code == 0 || code == -ENOENT || code == -EINVAL || code == -ENODEV else {
            throw BPFError.latest("detach the program from", subject, code: -code)
        }
    }

    /// Removes the qdisc with all programs of both directions, those of others included. Only if `create` made it.
    public func destroy() throws(BPFError) {
        LibbpfLog.clear()
        var hook = hook()
        hook.attach_point = bpf_tc_attach_point(BPF_TC_INGRESS.rawValue | BPF_TC_EGRESS.rawValue)
        let code = bpf_tc_hook_destroy(&hook)
        guard code == 0 || code == -ENOENT || code == -EINVAL || code == -ENODEV else {
            throw BPFError.latest("remove the clsact qdisc of", subject, code: -code)
        }
    }

    /// The kernel's number of the program attached; nil when there is none.
    public func attachedProgram() throws(BPFError) -> UInt32? {
        LibbpfLog.clear()
        var hook = hook()
        var options = options()
        let code = bpf_tc_query(&hook, &options)
        if code == 0 { return options.prog_id }
        if code == -ENOENT || code == -EINVAL { return nil }
        throw BPFError.latest("ask for the program of", subject, code: -code)
    }

    private var subject: String {
        "\(direction) of interface \(interfaceName(interface))"
    }

    private func hook() -> bpf_tc_hook {
        var hook = bpf_tc_hook()
        hook.sz = BATON_TC_HOOK_BYTES
        hook.ifindex = Int32(interface)
        hook.attach_point = direction == .ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS
        return hook
    }

    private func options() -> bpf_tc_opts {
        var options = bpf_tc_opts()
        options.sz = BATON_TC_OPTIONS_BYTES
        options.handle = handle
        options.priority = priority
        return options
    }
}
