import BPFObjects
import Clibbpf
import Glibc

/// What a veth pair needs and a network card does by itself.
public enum VirtualEthernet {
    /// Lets an interface take the frames that an XDP program on its veth peer sends by XDP_TX, natively.
    ///
    /// The driver puts such frames into the receiver's ring, but wakes the receiver only if that has an XDP program too
    /// (drivers/net/veth.c, veth_xdp_flush; GRO alone does not do): without this they are lost with no error counted.
    /// The program attached here passes everything. It stays until the interface is deleted or `stopTaking` is called.
    /// The interface is looked up in the calling thread's network namespace.
    public static func takeTransmittedFrames(interface: UInt32) throws(BPFError) {
        var object = try BPFObjectHandle(.pass)
        try object.load()
        let program = try object.program("baton_pass")
        let flags = UInt32(XDP_FLAGS_DRV_MODE) | UInt32(XDP_FLAGS_UPDATE_IF_NOEXIST)
        let code = bpf_xdp_attach(Int32(interface), program.descriptor.number, flags, nil)
        // A program that is there already does as well.
        guard code == 0 || code == -EBUSY || code == -EEXIST else {
            throw BPFError.latest(
                "attach XDP program \(program.name) to interface", interfaceName(interface), code: -code)
        }
    }

    /// Takes the program of `takeTransmittedFrames` away; none there is fine.
    public static func stopTaking(interface: UInt32) throws(BPFError) {
        let code = bpf_xdp_detach(Int32(interface), UInt32(XDP_FLAGS_DRV_MODE), nil)
        guard code == 0 || code == -ENOENT || code == -ENODEV else {
            throw BPFError.latest("detach the XDP program of interface", interfaceName(interface), code: -code)
        }
    }
}
