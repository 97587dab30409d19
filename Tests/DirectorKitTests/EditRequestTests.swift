import Configuration
import Testing

@testable import DirectorKit

@Suite("Edits as batonctl sends them")
struct EditRequestTests {
    @Test("a key comes before those below it")
    func order() {
        let edit = ConfigurationEdit([
            "kind": "service", "verb": "edit", "target": "web", "set.policy.port": "true", "set.policy": "\"sh\"",
            "unset.persistence": "", "dry_run": "true",
        ])
        #expect(
            edit
                == ConfigurationEdit(
                    .edit, .service, "web",
                    [.init("policy", "\"sh\""), .init("policy.port", "true"), .init("persistence", nil)]))
    }

    @Test("what is no edit", arguments: [
        ["kind": "service", "verb": "edit"], ["kind": "slot", "verb": "edit", "target": "x"],
        ["kind": "server", "verb": "move", "target": "x"], [:],
    ])
    func refused(arguments: [String: String]) { #expect(ConfigurationEdit(arguments) == nil) }
}

@Suite("Rows of the plan map")
struct PlanRoomTests {
    @Test("a service that is gone leaves its rows to others")
    func room() {
        var room = PlanRoom(rows: 10)
        #expect(room.take(6, for: 1) == 0)
        #expect(room.take(6, for: 2) == nil)
        room.keepNone(of: 1)
        #expect(room.take(6, for: 2) == 0)
    }
}
