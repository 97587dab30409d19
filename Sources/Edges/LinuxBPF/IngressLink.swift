import Clibbpf
import Glibc

extension BPFLink {
    /// `BPF_TCX_INGRESS` and `BPF_LINK_TYPE_TCX` of linux/bpf.h (since Linux 6.6), which older headers do not have.
    private static let tcxIngress = bpf_attach_type(rawValue: 46)
    private static let tcxLink: UInt32 = 11

    /// Attaches a tc program at an interface's ingress by a link (tcx), beside whatever tc filters are there.
    ///
    /// The interface is looked up in the calling thread's network namespace.
    public static func attachIngress(_ program: BPFProgram, interface: UInt32) throws(BPFError) -> BPFLink {
        let subject = "tc program \(program.name) to the ingress of interface \(interfaceName(interface))"
        let number = bpf_link_create(program.descriptor.number, Int32(interface), tcxIngress, nil)
        guard number >= 0 else {
            throw BPFError.latest("attach", subject, remedy: errno == EINVAL ? "run Linux 6.12 or later" : nil)
        }
        return BPFLink(subject: subject, descriptor: Descriptor(owning: number))
    }

    /// Takes over the pinned link of an earlier run, exchanging its program atomically, or attaches and pins a new one.
    ///
    /// A pinned link whose interface is gone or is another one is unpinned and replaced.
    @discardableResult
    public static func attachOrUpdateIngress(
        _ program: BPFProgram, interface: UInt32, pin path: String
    ) throws(BPFError) -> BPFLink {
        if let old = try pinned(at: path) {
            if try old.ingressInterface() == interface {
                try old.update(to: program)
                return old
            }
            try unpin(path)
        }
        let link = try attachIngress(program, interface: interface)
        try link.pin(at: path)
        return link
    }

    /// The interface of a tcx link; nil when that has been deleted, or when it is another kind of link.
    func ingressInterface() throws(BPFError) -> UInt32? {
        var info = bpf_link_info()
        var size = UInt32(MemoryLayout<bpf_link_info>.size)
        guard bpf_obj_get_info_by_fd(descriptor.number, &info, &size) == 0 else {
            throw BPFError.latest("ask about the link of", subject)
        }
        // The interface's index is the first field of `xdp` and `tcx` alike.
        guard info.type == BPFLink.tcxLink, info.xdp.ifindex != 0 else { return nil }
        return info.xdp.ifindex
    }
}
