import CLinux
import Glibc
import LinuxBPF

/// What the interface does to frames before the data plane sees them.
enum OffloadChecks {
    /// - Parameters:
    ///   - lro: large receive offload; nil where the driver does not say.
    ///   - mode: how XDP is attached; nil where it is not (an agent).
    static func judge(interface: String, lro: Bool?, gro: Bool?, mode: XDPMode?) -> [Finding] {
        var found: [Finding] = []
        if lro == true {
            found.append(
                Finding(
                    "offloads", .fatal,
                    "\(interface) joins segments in hardware (large-receive-offload): they cannot be forwarded, and their "
                        + "timestamps are lost",
                    remedy: "ethtool -K \(interface) lro off"))
        }
        if gro == true, mode == .generic {
            found.append(
                Finding(
                    "offloads", .fatal,
                    "\(interface) has XDP in its generic form, which comes after GRO: joined segments are longer than the "
                        + "MTU and do not leave again",
                    remedy: "ethtool -K \(interface) gro off, or a driver with native XDP"))
        }
        return found.isEmpty ? Finding.ok("offloads", "no offload of \(interface) is in the way") : found
    }

    static func run(interface: String, mode: XDPMode?) -> [Finding] {
        let flags = value(interface, UInt32(CLINUX_ETHTOOL_GFLAGS))
        return judge(
            interface: interface, lro: flags.map { $0 & UInt32(CLINUX_FLAG_LRO) != 0 },
            gro: value(interface, UInt32(CLINUX_ETHTOOL_GGRO)).map { $0 != 0 }, mode: mode)
    }

    private static func value(_ interface: String, _ command: UInt32) -> UInt32? {
        var value: UInt32 = 0
        return clinux_ethtool_get(interface, command, &value) == 0 ? value : nil
    }
}
