import CLinux
import LinuxBase

extension AddressManager {
    /// The kinds of queueing disciplines at an interface, such as `noqueue`, `fq_codel` or `tbf`; the kernel's order.
    public func queueDisciplines(of interface: UInt32) throws(LinuxError) -> [String] {
        var message = NetlinkMessage(type: Int(RTM_GETQDISC), flags: Int(NLM_F_DUMP))
        message.append(tcmsg())
        var kinds: [String] = []
        for reply in try netlink.request(message, operation: "list queueing disciplines", subject: "") {
            guard let fixed = reply.fixedPart(tcmsg.self), fixed.tcm_ifindex == Int32(bitPattern: interface) else { continue }
            reply.forEachAttribute(after: MemoryLayout<tcmsg>.size) { type, bytes in
                // TCA_KIND (linux/rtnetlink.h).
                if type == 1 { kinds.append(bytes.text) }
            }
        }
        return kinds
    }
}
