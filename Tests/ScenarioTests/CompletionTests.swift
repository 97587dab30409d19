import Glibc
import Testing

/// The completion script of batonctl, in a real bash.
@Suite("Shell completion")
struct CompletionTests {
    private static let programs = getenv("BATON_PROGRAMS").map { String(cString: $0) }

    /// Runs a script of bash; its status and what it printed.
    private func bash(_ script: String) throws -> (status: Int32, output: String) {
        let command = "bash --norc --noprofile -c '" + script.replacing("'", with: "'\\''") + "' 2>&1"
        let pipe = try #require(popen(command, "r"))
        var output: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while case let count = fread(&buffer, 1, buffer.count, pipe), count > 0 { output += buffer[..<count] }
        return (pclose(pipe) >> 8, String(decoding: output, as: UTF8.self))
    }

    @Test("bash takes it, and completes commands and options by it", arguments: [
        ("batonctl rel", ["reload"]), ("batonctl ser", ["service", "server"]), ("batonctl service ", ["add", "edit", "del"]),
        ("batonctl list --con", ["--connections"]), ("batonctl server add --wei", ["--weight"]),
    ])
    func completes(line: String, words: [String]) throws {
        let programs = try #require(Self.programs, "BATON_PROGRAMS is not set; run the tests by `make test`")
        let script = try bash("\(programs)/batonctl --generate-completion-script bash")
        try #require(script.status == 0 && script.output.contains("complete "), "\(script.output.prefix(200))")
        let parts = line.split(separator: " ", omittingEmptySubsequences: false).map { "\"\($0)\"" }
        let asked = try bash(
            """
            \(script.output)
            COMP_WORDS=(\(parts.joined(separator: " "))); COMP_CWORD=\(parts.count - 1)
            COMP_LINE="\(line)"; COMP_POINT=${#COMP_LINE}
            name=$(complete -p batonctl | sed "s/.*-F \\([^ ]*\\).*/\\1/")
            "$name" batonctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            printf "%s\\n" "${COMPREPLY[@]}"
            """)
        let found = asked.output.split(separator: "\n").map { $0.split(separator: " ").joined() }
        for word in words { #expect(found.contains(word), "\(line): \(asked.output)") }
    }
}
