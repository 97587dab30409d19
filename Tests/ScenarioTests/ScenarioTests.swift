import Glibc
import LabKit
import Testing

/// What the issue wants shown, with real daemons, real nginx and curl: the scenarios of `baton-lab scenario run`.
///
/// They need root, and the daemons built (BATON_PROGRAMS names their directory; `make test` sets it).
@Suite("Scenarios in network namespaces", .serialized)
struct ScenarioTests {
    @Test("root and the daemons are there")
    func prerequisites() throws {
        try #require(geteuid() == 0, "network namespaces and eBPF need root; run the tests as root, with sudo for example")
        let programs = try #require(Self.programs, "BATON_PROGRAMS is not set; run the tests by `make test`")
        for name in ["baton-director", "baton-agent", "batonctl"] {
            #expect(access("\(programs)/\(name)", X_OK) == 0, "\(programs)/\(name) is not built; run `make build`")
        }
    }

    @Test("scenario", arguments: ScenarioRegistry.all.map(\.name))
    func scenario(name: String) throws {
        try #require(geteuid() == 0, "network namespaces and eBPF need root; run the tests as root, with sudo for example")
        let outcome = try Self.lanes.get().outcome(of: name)
        #expect(outcome.passed, "\(name): \(outcome.figures)")
    }

    /// All of them, from when the first is asked for.
    private static let lanes = Result {
        try ScenarioLanes(
            ScenarioRegistry.all, lanes: 2, programs: programs, labName: "test\(getpid() % 100_000)")
    }

    private static var programs: String? { getenv("BATON_PROGRAMS").map { String(cString: $0) } }
}
