import Glibc
import LinuxBase
import Synchronization

/// Values below /proc/sys; network ones are those of the calling thread's network namespace.
///
/// Names are paths with slashes (`net/ipv4/conf/eth0.5/rp_filter`), because interface names may hold dots.
public enum Sysctl {
    public static func exists(_ name: String) -> Bool {
        (try? path(name)).map { access($0, F_OK) == 0 } ?? false
    }

    /// The value without the line's end.
    public static func read(_ name: String) throws(LinuxError) -> String {
        let path = try path(name)
        let file = FileDescriptor(
            owning: try systemCall("read kernel setting", name) { open(path, O_RDONLY | O_CLOEXEC) }
        )
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = try systemCall("read kernel setting", name) { Glibc.read(file.rawValue, &buffer, buffer.count) }
        var text = buffer[..<count]
        while let last = text.last, last == 0x0a || last == 0x20 { text = text.dropLast() }
        return String(decoding: text, as: UTF8.self)
    }

    public static func write(_ name: String, _ value: String) throws(LinuxError) {
        let path = try path(name)
        let file = FileDescriptor(
            owning: try systemCall("set kernel setting", name) { open(path, O_WRONLY | O_CLOEXEC) }
        )
        let bytes = Array(value.utf8)
        _ = try systemCall("set kernel setting", "\(name) to \(value)") {
            Glibc.write(file.rawValue, bytes, bytes.count)
        }
    }

    private static func path(_ name: String) throws(LinuxError) -> String {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }) else {
            throw LinuxError("use kernel setting", name, errno: EINVAL, detail: "not a path below /proc/sys")
        }
        return "/proc/sys/\(name)"
    }
}

/// Kernel settings changed for a while: remembers what was there before and puts it back.
///
/// Any thread, but always of one network namespace.
public final class SysctlChanges: Sendable {
    /// One changed setting.
    public struct Change: Hashable, Sendable {
        public var name: String
        /// What was there before.
        public var before: String
        public var after: String

        public init(name: String, before: String, after: String) {
            self.name = name
            self.before = before
            self.after = after
        }
    }

    private let recorded: Mutex<[Change]>
    private let memory: SysctlMemory?

    /// - Parameter memory: where changes are written before they are made; what a former life has left there is undone
    ///   by this one.
    public init(memory: SysctlMemory? = nil) {
        self.memory = memory
        recorded = Mutex(memory?.load() ?? [])
    }

    /// What has been changed and not yet restored, oldest first.
    public var changes: [Change] { recorded.withLock { $0 } }

    /// Sets a value unless it is so already. The value before the first change of a name is the one that comes back.
    public func set(_ name: String, _ value: String) throws(LinuxError) {
        try recorded.withLock { (changes) throws(LinuxError) in
            let before = try Sysctl.read(name)
            guard before != value else { return }
            var planned = changes
            if let known = planned.firstIndex(where: { $0.name == name }) {
                planned[known].after = value
            } else {
                planned.append(Change(name: name, before: before, after: value))
            }
            try memory?.save(planned)
            changes = planned
            try Sysctl.write(name, value)
        }
    }

    /// Answers ARP only for addresses of the interface asked, and asks with addresses of that interface only: a VIP on
    /// `lo` stays unknown to the network (arp_ignore = 1, arp_announce = 2; Documentation/networking/ip-sysctl).
    public func silenceARP(on interface: String) throws(LinuxError) {
        for place in ["all", "lo", interface] {
            try set("net/ipv4/conf/\(place)/arp_ignore", "1")
            try set("net/ipv4/conf/\(place)/arp_announce", "2")
        }
    }

    /// Puts everything back, newest first. What somebody else has changed since stays as it is. Goes on after a failure
    /// (an interface that is gone, say) and returns the failures.
    @discardableResult
    public func restore() -> [LinuxError] {
        recorded.withLock { changes in
            var failures: [LinuxError] = []
            for change in changes.reversed() {
                do throws(LinuxError) {
                    if try Sysctl.read(change.name) == change.after {
                        try Sysctl.write(change.name, change.before)
                    }
                } catch {
                    if error.errno != ENOENT { failures.append(error) }
                }
            }
            changes = []
            try? memory?.save([])
            return failures
        }
    }
}
