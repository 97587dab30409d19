import Glibc
import Model

/// Nanoseconds of processor time of a process' threads (`/proc/<pid>/task/<tid>/schedstat`, first field).
enum ThreadTime {
    /// - Parameter name: counts only threads of this name (`comm`); nil: all.
    static func nanoseconds(of process: Int32, thread name: String? = nil) -> UInt64 {
        listDirectory("/proc/\(process)/task").reduce(0) { sum, task in
            let folder = "/proc/\(process)/task/\(task)"
            if let name, readFile(folder + "/comm")?.trimmedLines != name { return sum }
            return sum + (readFile(folder + "/schedstat")?.split(separator: " ").first.flatMap { UInt64($0) } ?? 0)
        }
    }
}
