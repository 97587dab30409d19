import Model
import Testing

@testable import Configuration

@Suite("Services that are replayed as HTTP")
struct HTTPReplayTests {
    private func service(_ more: String) -> String {
        directorText(service: "  - {name: web, address: 10.0.0.100:80, \(more)}")
    }

    @Test("the defaults are the careful ones")
    func defaults() throws {
        let value = try director(service("replay: http")).get().services[0]
        #expect(value.replay == .http)
        #expect(value.http == HTTPReplay(methods: .safe, rangeFrom: 1_000_000))
    }

    @Test(
        "methods and sizes",
        arguments: [
            ("methods: idempotent, range_from: 64kB", HTTPReplay(methods: .idempotent, rangeFrom: 64_000)),
            ("methods: all, range_from: off", HTTPReplay(methods: .all, rangeFrom: nil)),
            ("methods: safe, range_from: 2GB", HTTPReplay(methods: .safe, rangeFrom: 2_000_000_000)),
        ])
    func values(text: String, expected: HTTPReplay) throws {
        #expect(try director(service("replay: http, " + text)).get().services[0].http == expected)
    }

    @Test(
        "mistakes name their place",
        arguments: [
            ("replay: http, methods: POST", "methods: \"POST\" is not a set of methods; expected safe, idempotent or all"),
            ("replay: http, range_from: 1", "range_from: 1 has no unit that is known"),
            ("replay: http, range_from: 5B", "range_from: 5B is out of range"),
            ("replay: http, range_from: many", "range_from: many is not a size"),
            ("replay: stream, methods: all", "\"methods\" is about requests, and the replay policy is stream"),
        ])
    func mistakes(text: String, complaint: String) {
        let messages = director(service(text)).messages
        #expect(messages.contains(complaint), "\(messages)")
    }
}
