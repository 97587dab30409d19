import ArgumentParser
import Glibc
import LabKit

struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Download a file, let its server fail in the middle, and show what happens.",
        discussion: """
            Builds a lab of its own and takes it down again. The exit status is 0 only if every SHA-256 is right and \
            another back-end finished the job.
            """)

    @Option(name: .customLong("lab"), help: "The name of the lab that is built. (default: a name of its own)")
    var name: String?
    @Option(help: "How the server fails: link, power, app or freeze.")
    var how = KillMode.link
    @Option(help: "How many downloads at once.")
    var clients = 1
    @Option(help: "The size of the file, such as 200MB.")
    var size = ByteCount(200_000_000)
    @Option(help: "Each client's pace in bytes a second, such as 25MB.")
    var rate = ByteCount(25_000_000)
    @Option(name: .customLong("at"), help: "When the server fails, in percent of the file.")
    var percent = 40.0
    @Option(help: "How many web servers.")
    var backends = 3
    @Option(help: "The directory of baton-director, baton-agent and batonctl. (default: that of baton-lab)")
    var programs: String?
    @Flag(help: "Print a report as JSON; what a person reads goes to standard error.")
    var json = false

    func run() throws {
        let console = Console(json: json)
        var demoOptions = Demo.Options()
        demoOptions.how = how
        demoOptions.clients = clients
        demoOptions.size = size.bytes
        demoOptions.rate = rate.bytes
        demoOptions.failAt = percent / 100
        let demo = try Demo(options: demoOptions, console: console)
        var options = LabOptions()
        options.backends = backends
        options.programs = programs
        options.fileSize = size.bytes
        console.line(
            "Baton: \(clients == 1 ? "a download" : "\(clients) downloads") and a server that fails (\(how.rawValue))\n"
        )
        let lab = try Lab(name: name ?? "demo\(getpid())", options: options) { console.line("  " + $0) }
        let report = try Lab.built(lab) { try demo.run(in: $0) }
        for line in Demo.timeline(report) { console.line(line) }
        if json { print(try JSONValue.text(report)) }
        if !report.passed { throw ExitCode.failure }
    }
}
