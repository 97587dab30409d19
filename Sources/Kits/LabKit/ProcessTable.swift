import CLab
import Glibc
import Model

/// One process for good: its number, and the time it started, which a reused number does not share.
public struct ProcessIdentity: Hashable, Sendable, Codable {
    public var process: Int32
    /// Clock ticks after boot (`/proc/<pid>/stat`, field 22; proc(5)).
    public var startTime: UInt64

    public init(process: Int32, startTime: UInt64) {
        self.process = process
        self.startTime = startTime
    }

    /// The process that has this number now; nil when there is none.
    public init?(current process: Int32) {
        guard let entry = ProcessEntry(process) else { return nil }
        self.init(process: process, startTime: entry.startTime)
    }

    /// Whether the process is there and not a zombie.
    public var isAlive: Bool {
        guard let entry = ProcessEntry(process) else { return false }
        return entry.startTime == startTime && entry.state != "Z" && entry.state != "X"
    }

    /// Sends a signal to this very process; false when it has gone.
    @discardableResult
    public func signal(_ number: Int32) -> Bool {
        let pidfd = clab_pidfd_open(process)
        guard pidfd >= 0 else { return false }
        defer { close(pidfd) }
        // The pidfd now stands for whoever has the number; only then is it safe to compare.
        guard ProcessIdentity(current: process) == self else { return false }
        return clab_pidfd_send_signal(pidfd, number) == 0
    }
}

/// One line of `/proc/<pid>/stat`.
struct ProcessEntry {
    var name: String
    var state: Character
    var parent: Int32
    var startTime: UInt64

    init?(_ process: Int32) {
        guard let text = readFile("/proc/\(process)/stat"), let open = text.firstIndex(of: "("),
            // The name may hold anything, a parenthesis too: the last one closes it.
            let shut = text.lastIndex(of: ")"), open < shut
        else { return nil }
        let fields = text[text.index(after: shut)...].split(separator: " ")
        guard fields.count > 19, let state = fields[0].first, let parent = Int32(fields[1]),
            let start = UInt64(fields[19])
        else { return nil }
        name = String(text[text.index(after: open)..<shut])
        self.state = state
        self.parent = parent
        startTime = start
    }
}

enum ProcessTable {
    /// All processes whose network namespace is the one mounted at `path`; this process is never among them.
    static func members(ofNamespace path: String) -> [ProcessIdentity] {
        guard let number = namespaceNumber(path) else { return [] }
        let wanted = "net:[\(number)]"
        return listDirectory("/proc").compactMap { name in
            guard let process = Int32(name), process != getpid(),
                readLink("/proc/\(name)/ns/net") == wanted
            else { return nil }
            return ProcessIdentity(current: process)
        }.filter(\.isAlive)
    }

    /// The inode number of a mounted namespace; nil when nothing, or something else, is at the path.
    static func namespaceNumber(_ path: String) -> UInt64? {
        var information = stat()
        guard stat(path, &information) == 0 else { return nil }
        return UInt64(information.st_ino)
    }

    /// Signals every member, again until a pass finds nobody who was not signalled: members may fork meanwhile.
    static func signalAll(inNamespace path: String, _ number: Int32) {
        var done: Set<ProcessIdentity> = []
        for _ in 0..<20 {
            let fresh = members(ofNamespace: path).filter { !done.contains($0) }
            if fresh.isEmpty { return }
            for member in fresh {
                member.signal(number)
                done.insert(member)
            }
        }
    }

    /// Kills every member and waits until they are gone. Throws `.timeout` when one does not die.
    static func killAll(inNamespace path: String) throws {
        try waitUntil("processes of \(path) dying", timeout: 10) {
            let members = members(ofNamespace: path)
            for member in members { member.signal(SIGKILL) }
            return members.isEmpty
        }
    }
}
