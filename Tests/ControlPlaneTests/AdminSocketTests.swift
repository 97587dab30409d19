import Glibc
import Model
import NIOCore
import Synchronization
import Testing

@testable import ControlPlane

@Suite(.serialized) struct AdminSocketTests {
    private struct Status: Codable, Equatable, Sendable {
        var name: String
        var clients: Int
    }

    /// A folder of the test's own, with a path for a socket in a folder that does not exist yet.
    private final class Folder: Sendable {
        let root: String
        var path: String { root + "/run/baton/director.sock" }

        init() throws {
            var template = Array("/tmp/baton-admin-XXXXXX".utf8CString)
            try #require(mkdtemp(&template) != nil)
            root = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }

        deinit {
            for path in [path, root + "/run/baton", root + "/run", root] where unlink(path) != 0 { rmdir(path) }
        }
    }

    private static let bigBytes = 2_000_000

    private static func serve(
        _ control: ControlLoop,
        _ path: String,
        late: Recorder<EventLoopPromise<[UInt8]>> = Recorder()
    ) async throws -> NIOLoopBound<AdminSocket> {
        let loop = control.loop
        return try await control.make {
            try AdminSocket(path: path, on: loop, logger: LogCapture().logger) { request in
                switch request.command {
                case "status":
                    return .encoding(Status(name: request.arguments["name"] ?? "none", clients: 3))
                case "pretty":
                    return .json(Array("{\n  \"name\": \"a\\nb\",\r\n  \"clients\": 1\n}\n".utf8))
                case "big":
                    return .json([UInt8](repeating: UInt8(ascii: "x"), count: bigBytes))
                case "late":
                    let promise = loop.makePromise(of: [UInt8].self)
                    late.append(promise)
                    return .later(promise.futureResult)
                default:
                    return .failure("unknown command \(request.command)")
                }
            }
        }
    }

    @Test func requestsAreAnswered() async throws {
        let folder = try Folder()
        let control = ControlLoop()
        let socket = try await Self.serve(control, folder.path)
        let client = AdminClient(path: folder.path)
        try await onThread {
            let status = try client.request(AdminRequest(command: "status"), as: Status.self)
            #expect(status == Status(name: "none", clients: 3))
            let named = try client.request(AdminRequest(command: "status", arguments: ["name": "web1"]))
            #expect(String(decoding: named, as: UTF8.self) == #"{"clients":3,"name":"web1"}"#)
            let pretty = try client.request(AdminRequest(command: "pretty"), as: Status.self)
            #expect(pretty == Status(name: "a\nb", clients: 1))
            #expect(try client.request(AdminRequest(command: "big")).count == Self.bigBytes)
            let unknown = #expect(throws: AdminClientError.self) {
                _ = try client.request(AdminRequest(command: "dance"), as: Status.self)
            }
            #expect(unknown?.code == .refused)
            #expect(unknown?.description == "baton-director: unknown command dance")
            let other = #expect(throws: AdminClientError.self) {
                _ = try client.request(AdminRequest(command: "status"), as: [Int].self)
            }
            #expect(other?.code == .malformed)
        }
        try await control.run { socket.value.close() }
    }

    @Test func fileHasItsModeAndGoesWithTheSocket() async throws {
        let folder = try Folder()
        let control = ControlLoop()
        let socket = try await Self.serve(control, folder.path)
        var status = stat()
        #expect(lstat(folder.path, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
        #expect(status.st_mode & S_IFMT == S_IFSOCK)
        try await control.run {
            socket.value.close()
            socket.value.close()
        }
        #expect(lstat(folder.path, &status) != 0)
    }

    @Test func staleFileIsReplacedAndALiveOneIsNot() async throws {
        let folder = try Folder()
        let control = ControlLoop()
        let first = try await Self.serve(control, folder.path)
        let error = await #expect(throws: SocketError.self) { _ = try await Self.serve(control, folder.path) }
        #expect(error?.description.contains("running already") == true)
        #expect(
            try await onThread { try AdminClient(path: folder.path).request(AdminRequest(command: "status")).count } > 0
        )
        try await control.run { first.value.close() }

        // What a killed daemon leaves behind.
        let dead = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
        #expect(LocalSocketFile.withAddress(folder.path) { bind(dead, $0, $1) } == 0)
        #expect(listen(dead, 1) == 0)
        close(dead)
        let missing = try await onThread {
            #expect(throws: AdminClientError.self) {
                try AdminClient(path: folder.path).request(AdminRequest(command: "x"))
            }
        }
        #expect(missing?.code == .notRunning)
        let second = try await Self.serve(control, folder.path)
        #expect(
            try await onThread { try AdminClient(path: folder.path).request(AdminRequest(command: "status")).count } > 0
        )

        // A file that is another's by now stays when the old owner ends.
        unlink(folder.path)
        let third = try await Self.serve(control, folder.path)
        try await control.run { second.value.close() }
        #expect(
            try await onThread { try AdminClient(path: folder.path).request(AdminRequest(command: "status")).count } > 0
        )
        try await control.run { third.value.close() }
    }

    @Test func whatIsNoSocketIsLeftAlone() async throws {
        let folder = try Folder()
        let control = ControlLoop()
        let file = open(folder.root + "/run", O_CREAT | O_WRONLY, 0o600)
        close(file)
        let inside = await #expect(throws: SocketError.self) { _ = try await Self.serve(control, folder.path) }
        #expect(inside != nil)
        let at = await #expect(throws: SocketError.self) { _ = try await Self.serve(control, folder.root + "/run") }
        #expect(at?.description.contains("is no socket") == true)
        let long = "/tmp/" + String(repeating: "x", count: 200)
        let tooLong = await #expect(throws: SocketError.self) { _ = try await Self.serve(control, long) }
        #expect(tooLong?.code == ENAMETOOLONG)
    }

    @Test func errorsOfTheClientSayWhatToDo() async throws {
        let folder = try Folder()
        try await onThread {
            let missing = #expect(throws: AdminClientError.self) {
                try AdminClient(path: folder.path, daemon: "baton-agent").request(AdminRequest(command: "status"))
            }
            #expect(missing?.code == .notRunning)
            #expect(missing?.description == "no socket at \(folder.path): is baton-agent running?")
            let long = #expect(throws: AdminClientError.self) {
                try AdminClient(path: String(repeating: "x", count: 300)).request(AdminRequest(command: "status"))
            }
            #expect(long?.code == .failed)
        }
    }

    @Test func answerThatDoesNotComeTimesOut() async throws {
        let folder = try Folder()
        let control = ControlLoop()
        let late = Recorder<EventLoopPromise<[UInt8]>>()
        let socket = try await Self.serve(control, folder.path, late: late)
        let start = ContinuousClock.now
        let error = try await onThread {
            #expect(throws: AdminClientError.self) {
                try AdminClient(path: folder.path, timeout: .milliseconds(200)).request(AdminRequest(command: "late"))
            }
        }
        #expect(error?.code == .timedOut)
        #expect(ContinuousClock.now - start < .seconds(3))
        // Others are served while one waits, and an answer to a client that has gone harms nobody.
        #expect(
            try await onThread { try AdminClient(path: folder.path).request(AdminRequest(command: "status")).count } > 0
        )
        for promise in late.all { promise.succeed([1]) }
        let cut = Task {
            try await onThread {
                #expect(throws: AdminClientError.self) {
                    try AdminClient(path: folder.path).request(AdminRequest(command: "late"))
                }
            }
        }
        #expect(try await eventually { late.count == 2 })
        try await control.run { socket.value.close() }
        #expect(try await cut.value?.code == .cutOff)
        for promise in late.all { promise.fail(CancellationError()) }
    }

    @Test func requestsOfOneConnectionAreAnsweredInTheirOrder() async throws {
        let folder = try Folder()
        let control = ControlLoop()
        let late = Recorder<EventLoopPromise<[UInt8]>>()
        let socket = try await Self.serve(control, folder.path, late: late)
        let answering = Task {
            while late.count == 0 { try await Task.sleep(for: .milliseconds(5)) }
            try await Task.sleep(for: .milliseconds(50))
            late.all[0].succeed(Array(#""late""#.utf8))
        }
        let lines = try await onThread {
            let raw = try RawSocket(unixPath: folder.path)
            let requests = [
                #"{"command":"status","arguments":{"name":"1"}}"#, #"{"command":"late"}"#, "", "[1]",
                #"{"command":"status"}"#,
            ]
            // In pieces, to meet every border.
            for byte in (requests.joined(separator: "\n") + "\n").utf8 { raw.write([byte]) }
            var text = ""
            while text.count(where: { $0 == "\n" }) < 5, let bytes = raw.read(), !bytes.isEmpty {
                text += String(decoding: bytes, as: UTF8.self)
            }
            return text.split(separator: "\n").map(String.init)
        }
        try await answering.value
        try #require(lines.count == 5)
        #expect(lines[0] == #"{"clients":3,"name":"1"}"#)
        #expect(lines[1] == #""late""#)
        #expect(lines[2].contains("not a request") && lines[3] == lines[2])
        #expect(lines[4] == #"{"clients":3,"name":"none"}"#)
        try await control.run { socket.value.close() }
    }

    @Test func hostileLinesAreRefused() async throws {
        let folder = try Folder()
        let control = ControlLoop()
        let socket = try await Self.serve(control, folder.path)
        try await onThread {
            for length in [AdminSocket.requestLimit + 1, 1_000_000] {
                let raw = try RawSocket(unixPath: folder.path)
                raw.write([UInt8](repeating: UInt8(ascii: "a"), count: length))
                let answer = String(decoding: raw.readAll(), as: UTF8.self)
                #expect(answer.contains("at most 16384 bytes") || answer.isEmpty)
            }
            // Very many short lines at once: answered one by one, others served between them.
            let raw = try RawSocket(unixPath: folder.path)
            raw.write([UInt8](repeating: 10, count: 500))
            var lines = 0
            while lines < 500, let bytes = raw.read(), !bytes.isEmpty { lines += bytes.count { $0 == 10 } }
            #expect(lines == 500)
            var random = TestRandom(seed: 8)
            for _ in 0..<200 {
                let raw = try RawSocket(unixPath: folder.path)
                raw.write(random.bytes(Int(random.next() % 2000)) + [10])
                if random.next() % 2 == 0 { _ = raw.read() }
            }
            let deep = try RawSocket(unixPath: folder.path)
            deep.write([UInt8](repeating: UInt8(ascii: "["), count: 16_000) + [10])
            #expect(String(decoding: deep.read() ?? [], as: UTF8.self).contains("not a request"))
        }
        #expect(
            try await onThread { try AdminClient(path: folder.path).request(AdminRequest(command: "status")).count } > 0
        )
        try await control.run { socket.value.close() }
    }

    @Test func clientsAreManyButBounded() async throws {
        let folder = try Folder()
        let control = ControlLoop()
        let socket = try await Self.serve(control, folder.path)
        try await onThread {
            var idle: [CInt] = []
            for _ in 0..<AdminSocket.clientLimit {
                let descriptor = Glibc.socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
                #expect(LocalSocketFile.withAddress(folder.path) { connect(descriptor, $0, $1) } == 0)
                idle.append(descriptor)
            }
            let refused = #expect(throws: AdminClientError.self) {
                try AdminClient(path: folder.path).request(AdminRequest(command: "status"), as: Status.self)
            }
            #expect(refused?.description == "baton-director: too many clients")
            for descriptor in idle { close(descriptor) }
        }
        #expect(try await eventually { try await control.run { socket.value.clientCount } == 0 })
        try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<50 {
                group.addTask {
                    try await onThread {
                        try AdminClient(path: folder.path).request(AdminRequest(command: "status")).count
                    }
                }
            }
            for try await count in group { #expect(count > 0) }
        }
        try await control.run { socket.value.close() }
    }

    /// A client that goes away within a long answer does not end the daemon by SIGPIPE.
    @Test func clientThatLeavesWithinItsAnswer() async throws {
        let folder = try Folder()
        let control = ControlLoop()
        let socket = try await Self.serve(control, folder.path)
        try await onThread {
            for _ in 0..<5 {
                let raw = try RawSocket(unixPath: folder.path)
                raw.write(Array("{\"command\":\"big\"}\n".utf8))
                _ = raw.read(limit: 100)
            }
        }
        #expect(try await eventually { try await control.run { socket.value.clientCount } == 0 })
        #expect(
            try await onThread { try AdminClient(path: folder.path).request(AdminRequest(command: "status")).count } > 0
        )
        try await control.run { socket.value.close() }
    }
}
