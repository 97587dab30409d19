import CContract
import LinuxBPF

/// The director's interface and its pins.
enum DataPlaneChecks {
    /// Another XDP program where Baton's shall be.
    static func program(interface: UInt32, name: String, state: String) throws -> [Finding] {
        let pinned = try BPFLink.pinned(at: state + "/link").flatMap { try $0.xdpInterface() }
        if pinned == interface { return Finding.ok("xdp", "Baton's own XDP program is at \(name)") }
        guard let mode = try BPFLink.xdpMode(of: interface) else {
            return Finding.ok("xdp", "no XDP program is at \(name)")
        }
        return [
            Finding(
                "xdp", .fatal, "another XDP program (\(mode.rawValue)) is at \(name), where Baton's has to be",
                remedy: "take it off: `ip link set dev \(name) xdp off`, or end the program that put it there")
        ]
    }

    /// Maps of a layout that this version cannot use.
    static func layout(state: String) throws -> [Finding] {
        guard BPFFileSystem.contains(state), let map = try BPFMap<UInt32, UInt32>.pinned(at: state + "/layout"),
            let found = try map.get(0)
        else { return Finding.ok("layout", "nothing is pinned yet in \(state)") }
        let version = UInt32(BATON_LAYOUT_VERSION)
        if found == version { return Finding.ok("layout", "the pinned maps have layout version \(found)") }
        if LayoutHistory.director.reaches(version, from: found) {
            return Finding.ok("layout", "the pinned maps have layout version \(found), and will be migrated to \(version)")
        }
        return [
            Finding(
                "layout", .fatal, "the maps pinned in \(state) have layout version \(found), this program has \(version)",
                remedy: "go back to the version that made them, or stop the service and remove them: connections are lost")
        ]
    }
}
