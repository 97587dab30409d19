import AdminProtocol
import ArgumentParser
import ControlPlane
import Glibc
import Model

struct ReloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload",
        abstract: "Reads the director's configuration file again, and applies what has changed: all of it or nothing."
    )

    @ParentCommand var parent: Batonctl
    @OptionGroup var connection: Connection

    @Flag(help: "Only show what would change.")
    var dryRun = false

    func run() throws {
        try connection.change(
            AdminRequest(command: "reload", arguments: dryRun ? ["dry_run": "true"] : [:]), fallback: parent.socket)
    }
}

struct RestoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Makes a file that `batonctl save` has printed the running configuration: all of it or nothing.",
        discussion: "The director's own file stays as it is until `batonctl save --write`."
    )

    @ParentCommand var parent: Batonctl
    @OptionGroup var connection: Connection

    @Argument(help: "The file.", completion: .file())
    var file: String

    @Flag(help: "Only show what would change.")
    var dryRun = false

    func run() throws {
        var arguments = ["path": try absolute(file)]
        if dryRun { arguments["dry_run"] = "true" }
        try connection.change(AdminRequest(command: "restore", arguments: arguments), fallback: parent.socket)
    }

    /// The director has a working directory of its own.
    private func absolute(_ path: String) throws -> String {
        guard let resolved = realpath(path, nil) else {
            throw ValidationError("\(path): \(String(cString: strerror(errno)))")
        }
        defer { free(resolved) }
        return String(cString: resolved)
    }
}

struct SaveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "save",
        abstract: "Prints the running configuration as a file, or writes it to the director's own.",
        discussion: "Comments of the file are not kept; with --write its former content is kept beside it, as FILE.bak."
    )

    @ParentCommand var parent: Batonctl
    @OptionGroup var connection: Connection

    @Flag(help: "Write it to the file that the director was started with.")
    var write = false

    func run() throws {
        let request = AdminRequest(command: "save", arguments: write ? ["write": "true"] : [:])
        let bytes = try connection.ask(request, fallback: parent.socket)
        let saved = try connection.decode(SavedConfiguration.self, bytes)
        if connection.json {
            printJSON(bytes)
        } else if let path = saved.path {
            print("wrote \(path)\(saved.backup.map { "; what it said before is in \($0)" } ?? "")")
        } else {
            print(saved.text, terminator: "")
        }
    }
}

extension Connection {
    /// Asks for a change of the configuration, and says what came of it.
    ///
    /// - Throws: `ExitCode(1)` where it was not, or would not be, applied.
    func change(_ request: AdminRequest, fallback: String) throws {
        let bytes = try AdminClient(path: socket ?? fallback, timeout: .seconds(60)).request(request)
        let report = try decode(ChangeReport.self, bytes)
        if json {
            printJSON(bytes)
        } else {
            for line in report.lines { print(line) }
        }
        if !report.isSuccess { throw ExitCode(1) }
    }
}
