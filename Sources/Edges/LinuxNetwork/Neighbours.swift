import CLinux
import Glibc
import LinuxBase

extension AddressManager {
    /// Drops the frames that wait at an interface until a neighbour's link-layer address is known, and forgets these
    /// neighbours: whoever has something to send asks again.
    ///
    /// The kernel keeps such frames for three seconds, above every filter of the interface (`arp_queue`,
    /// net/core/neighbour.c).
    /// - Returns: how many neighbours were being looked for.
    @discardableResult
    public func dropFramesWithoutNeighbour(at interface: UInt32) throws(LinuxError) -> Int {
        var message = NetlinkMessage(type: Int(RTM_GETNEIGH), flags: Int(NLM_F_DUMP))
        message.append(ndmsg())
        var forgotten = 0
        for reply in try netlink.request(message, operation: "list neighbours", subject: "") {
            guard let fixed = reply.fixedPart(ndmsg.self), fixed.ndm_ifindex == Int32(bitPattern: interface),
                fixed.ndm_state & UInt16(NUD_INCOMPLETE) != 0
            else { continue }
            var address: [UInt8] = []
            reply.forEachAttribute(after: MemoryLayout<ndmsg>.size) { type, bytes in
                if type == Int(NDA_DST) { address = Array(bytes) }
            }
            var deletion = NetlinkMessage(type: Int(RTM_DELNEIGH), flags: 0)
            deletion.append(
                ndmsg(
                    ndm_family: fixed.ndm_family, ndm_pad1: 0, ndm_pad2: 0, ndm_ifindex: fixed.ndm_ifindex,
                    ndm_state: 0, ndm_flags: 0, ndm_type: 0))
            deletion.attribute(Int(NDA_DST), address)
            do {
                _ = try netlink.request(deletion, operation: "forget neighbour", subject: "")
                forgotten += 1
            } catch  where error.errno == ENOENT {
                // It has failed meanwhile, and its frames with it.
            }
        }
        return forgotten
    }
}
