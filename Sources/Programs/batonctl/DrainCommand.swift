import AdminProtocol
import ArgumentParser
import ControlPlane
import Glibc
import Model

struct DrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain",
        abstract: "Frees a back-end of its connections; returns when it may be restarted."
    )

    @ParentCommand var parent: Batonctl
    @OptionGroup var connection: Connection

    @Argument(help: "The back-end's name.")
    var name: String

    @Flag(help: "Let its backups take its connections over.")
    var migrate = false

    @Flag(help: "Wait until its connections have ended by themselves.")
    var wait = false

    @Flag(help: "With --migrate: do not wait for connections that no backup knows; they are reset.")
    var now = false

    @Option(help: "Seconds after which to give up waiting; the drain itself goes on. 0: none.")
    var timeout = 0.0

    func validate() throws {
        guard migrate != wait else { throw ValidationError("say either --migrate or --wait") }
        guard !now || migrate else { throw ValidationError("--now goes with --migrate") }
        guard timeout >= 0, timeout.isFinite else { throw ValidationError("--timeout: 0 or more seconds") }
    }

    func run() throws {
        let mode = wait ? "wait" : now ? "migrate-now" : "migrate"
        let watch = DrainWatch(connection: connection, socket: parent.socket)
        var status = try watch.ask("drain", ["backend": name, "mode": mode])
        let start = DrainWatch.seconds()
        var said = ""
        while status.state != "drained" {
            guard timeout == 0 || DrainWatch.seconds() - start < timeout else {
                watch.show(status)
                throw ExitCode(2)
            }
            let text = DrainWatch.text(status)
            if !connection.json, text != said { print(text) }
            said = text
            usleep(50_000)
            status = try watch.ask("drain-status", ["backend": name])
            guard status.state != "none" else {
                watch.show(status)
                throw ExitCode(3)
            }
        }
        watch.show(status)
    }
}

struct UndrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "undrain",
        abstract: "Lets a drained back-end have new flows again."
    )

    @ParentCommand var parent: Batonctl
    @OptionGroup var connection: Connection

    @Argument(help: "The back-end's name.")
    var name: String

    func run() throws {
        let watch = DrainWatch(connection: connection, socket: parent.socket)
        watch.show(try watch.ask("undrain", ["backend": name]))
    }
}

/// Asks the director for a drain's progress, and prints it.
struct DrainWatch {
    var connection: Connection
    var socket: String

    func ask(_ command: String, _ arguments: [String: String]) throws -> DrainStatus {
        let bytes = try connection.ask(AdminRequest(command: command, arguments: arguments), fallback: socket)
        return try connection.decode(DrainStatus.self, bytes)
    }

    func show(_ status: DrainStatus) {
        if connection.json, let bytes = try? AdminJSON.encode(status) {
            printJSON(bytes)
        } else {
            print(DrainWatch.text(status))
        }
    }

    static func text(_ status: DrainStatus) -> String {
        switch status.state {
        case "none": return "\(status.backend): not drained"
        case "drained": return "\(status.backend): drained; it may be restarted"
        default:
            let flows = status.flows.map { ", \($0) flows left" } ?? ""
            let obstacle = status.waitingFor.map { ", waiting for: \($0)" } ?? ""
            return "\(status.backend): \(status.state)\(flows)\(obstacle)"
        }
    }

    /// CLOCK_MONOTONIC.
    static func seconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
