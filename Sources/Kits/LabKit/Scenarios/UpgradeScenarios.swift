import CContract
import Glibc
import LinuxBPF
import Model

/// The director's program is exchanged for another version: flows stay.
let upgradeScenarios: [Scenario] = [
    Scenario(
        "director-upgrade",
        "A director finds the pinned maps of layout 2, migrates them and goes on under a download, every flow in its slot; "
            + "one that finds a layout that it does not know refuses to start, and the traffic goes on.",
        run: directorUpgrade)
]

private func directorUpgrade(_ context: ScenarioContext) throws -> Figures {
    var options = LabOptions()
    options.fileSize = 60_000_000
    return try context.withLab(options) { lab in
        let download = try Download(lab: lab, .init(rate: 15_000_000))
        defer { download.cancel() }
        _ = try lab.connected(download, bytes: 2_000_000)
        let idle = try (0..<6).map { _ in try LineClient(lab: lab, port: LabPlan.port) }
        let before = try slots(lab)
        try stopDirector(lab)
        try makeLayout2(lab)
        try lab.startDaemon("director")
        try waitUntil("the director after the upgrade", timeout: 10, every: 20) { (try? lab.directorStatus()) != nil }
        let version = try layout(lab)
        try expect(version == Int(BATON_LAYOUT_VERSION), "the layout's version is \(version) after the migration")
        let after = try slots(lab)
        try expect(
            before.allSatisfy { after[$0.key] == $0.value }, "flows before the upgrade \(before), and after it \(after)")
        try lab.waitUntilLive()
        // A new connection is dispatched.
        let newcomer = try LineClient(lab: lab, port: LabPlan.port)
        _ = try lab.server(ofClientPort: newcomer.localPort)
        let refusal = try refuse(lab)
        let result = try download.result(timeout: 30)
        guard let file = lab.file() else { throw LabError.failed("no file") }
        try expect(result.exitCode == 0 && result.matches(file), "the download is wrong: \(result.error)")
        withExtendedLifetime((idle, newcomer)) {}
        return ["flows": .integer(Int64(before.count)), "refusal": .string(refusal)]
    }
}

/// The slot of each flow, by the client's address.
private func slots(_ lab: Lab) throws -> [String: Int] {
    var slots: [String: Int] = [:]
    for flow in try lab.directorFlows()["flows"]?.array ?? [] {
        if let client = flow["client"]?.string { slots[client] = flow["slot"]?.integer }
    }
    try expect(slots.count >= 7, "the director knows \(slots.count) flows, not seven at least")
    return slots
}

private func stopDirector(_ lab: Lab) throws {
    try lab.signal("director", role: "director", SIGTERM)
    try waitUntil("the director's end", timeout: 10, every: 10) { (try? lab.directorStatus()) == nil }
}

private func pins(_ lab: Lab) -> String { lab.plan.pins + "/director" }

private func layout(_ lab: Lab) throws -> Int {
    try RawMap.pinned(at: pins(lab) + "/layout")?.entries().values.first.map(Int.init) ?? 0
}

private func setLayout(_ lab: Lab, _ version: UInt8) throws {
    try RawMap.pinned(at: pins(lab) + "/layout")?.put(
        RawEntries(keyBytes: 4, valueBytes: 4, keys: [0, 0, 0, 0], values: [version, 0, 0, 0]))
}

/// What differs in layout 2: `struct baton_service` has 16 bytes and no entries by number, and the plan one place an
/// element. The running program keeps its own maps, and goes on; so flows keep the port that they had not in layout 2.
private func makeLayout2(_ lab: Lab) throws {
    let folder = pins(lab)
    guard let services = try RawMap.pinned(at: folder + "/services"), let plan = try RawMap.pinned(at: folder + "/plan")
    else { throw LabError.failed("the director has pinned no services") }
    let oldServices = try RawMap.create("services", type: 1, keyBytes: 20, valueBytes: 16, maxEntries: 256)
    let present = try services.entries()
    for place in 0..<present.count where present.keys[place * 20 + 18] != 0 {
        let key = Array(present.keys[place * 20..<place * 20 + 20])
        let value = Array(present.values[place * present.valueBytes..<place * present.valueBytes + 16])
        try oldServices.put(RawEntries(keyBytes: 20, valueBytes: 16, keys: key, values: value))
    }
    let oldPlan = try RawMap.create("plan", type: 2, keyBytes: 4, valueBytes: 2, maxEntries: 1 << 20)
    let rows = try plan.entries()
    var places = RawEntries(keyBytes: 4, valueBytes: 2)
    for place in UInt32(0)..<4096 { places.keys += withUnsafeBytes(of: place) { Array($0) } }
    places.values = Array(rows.values.prefix(4096 * 2))
    try oldPlan.put(places)
    for (name, map) in [("services", oldServices), ("plan", oldPlan)] {
        unlink(folder + "/" + name)
        try map.pin(at: folder + "/" + name)
    }
    // What layout 2 did not have.
    let later = [
        "candidates", "loads", "load_corrections", "clients", "destinations", "answers", "port_ranges", "fragmented",
    ]
    for name in later {
        unlink(folder + "/" + name)
    }
    try setLayout(lab, 2)
}

/// A layout of the future: the director ends with a sentence, and leaves everything as it is.
private func refuse(_ lab: Lab) throws -> String {
    try stopDirector(lab)
    try setLayout(lab, 200)
    let result = try lab.run(
        in: "director", command: [lab.programs + "/baton-director", "--configuration", lab.plan.directorConfiguration],
        timeout: 10)
    let text = result.errors.trimmedLines
    try expect(
        !result.status.isSuccess && text.contains("layout version 200"), "the director ended with \(result.status): \(text)")
    try expect(try layout(lab) == 200, "the refused maps were changed")
    return text
}
