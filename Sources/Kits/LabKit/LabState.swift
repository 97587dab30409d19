import Foundation
import Glibc

/// What a lab remembers on disk, so that another run of `baton-lab` finds it.
struct LabState: Codable, Sendable {
    struct Process: Codable, Sendable, Equatable {
        var node: String
        /// `director`, `agent`, `nginx`, or a name that the caller gave.
        var role: String
        var identity: ProcessIdentity
        var command: [String]
    }

    var name: String
    var backends: Int
    var daemons: Bool
    var programs: String
    var webRoot: String
    /// Nil: nginx.
    var server: WebServerKind?
    var ready = false
    var processes: [Process] = []
    var files: [PublishedFile] = []
    /// Nodes whose cable is cut, and nodes that are frozen.
    var cut: [String] = []
    var frozen: [String] = []

    static func read(_ plan: LabPlan) -> LabState? {
        guard let text = readFile(plan.stateFile) else { return nil }
        return try? JSONDecoder().decode(LabState.self, from: Data(text.utf8))
    }

    func write(_ plan: LabPlan) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try writeFile(plan.stateFile, String(decoding: encoder.encode(self), as: UTF8.self) + "\n")
    }

    /// Reads, changes and writes the state while no other run of the program can.
    @discardableResult
    static func update<Result>(_ plan: LabPlan, _ change: (inout LabState) throws -> Result) throws -> Result {
        let lock = open(plan.lockFile, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard lock >= 0 else {
            throw LabError.state("no lab named \"\(plan.name)\" is up (\(plan.directory) is missing)")
        }
        defer { close(lock) }
        while flock(lock, LOCK_EX) != 0 {
            guard errno == EINTR else { throw LabError.system(plan.lockFile, code: errno) }
        }
        guard var state = read(plan) else {
            throw LabError.state("\(plan.stateFile) is missing or garbled; run `baton-lab down --lab \(plan.name)`")
        }
        let result = try change(&state)
        try state.write(plan)
        return result
    }
}
