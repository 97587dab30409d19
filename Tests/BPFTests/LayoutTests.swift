import BPFObjects
import CContract
import Glibc
import LinuxBPF
import Model
import Testing

/// Pinned maps of another layout: migrated or refused, never misread.
@Suite struct LayoutTests {
    private static let version = UInt32(BATON_LAYOUT_VERSION)
    private static let hash: UInt32 = 1
    private static let array: UInt32 = 2
    private let configuration = DirectorPlane.Configuration(flows: 4096, interfaceAddress: nil)
    private let flowKey = baton_flow_key(client: IPAddress(ipv4: 0x0a00_0002), clientPort: 1234, service: 3, servicePort: 80)
    private let serviceKey = baton_service_key(address: IPAddress(ipv4: 0x0a00_0001), port: 80)

    /// Maps as the director of layout 2 pinned them: a flow in slot 5, a service with a table of 40 places from place 7.
    private func pinLayout2(in folder: String) throws {
        var object = try BPFObjectHandle(.director)
        try object.setMaxEntries(of: "flows", 4096)
        _ = try object.load(
            pinningMapsIn: folder, layoutVersion: 2,
            maps: ["flows", "slots", "slot_records", "service_cursor", "slot_copies", "counters"])
        let flows = try #require(try BPFMap<baton_flow_key, baton_flow>.pinned(at: folder + "/flows"))
        try flows.put(flowKey, baton_flow(slot: 5, flags: 1, group_time: 2, group_ack: 77, last_seen_ns: 9))
        let services = try RawMap.create("services", type: Self.hash, keyBytes: 20, valueBytes: 16, maxEntries: 256)
        // id 3, selective, COUNTER, offset 7, length 40, secret 0x01020304.
        let value: [UInt8] = [3, 0, 2, 0, 7, 0, 0, 0, 40, 0, 0, 0, 4, 3, 2, 1]
        try services.put(RawEntries(keyBytes: 20, valueBytes: 16, keys: bytes(of: serviceKey), values: value))
        try services.pin(at: folder + "/services")
        let plan = try RawMap.create("plan", type: Self.array, keyBytes: 4, valueBytes: 2, maxEntries: 1 << 20)
        var places = RawEntries(keyBytes: 4, valueBytes: 2)
        for place in UInt32(7)..<47 {
            places.keys += bytes(of: place)
            places.values += bytes(of: UInt16(place % 2 == 0 ? 5 : 6))
        }
        try plan.put(places)
        try plan.pin(at: folder + "/plan")
    }

    private func bytes(of value: some BitwiseCopyable) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

    private func pinnedVersion(_ folder: String) throws -> UInt32? {
        try BPFMap<UInt32, UInt32>.pinned(at: folder + "/layout")?.get(0)
    }

    private func migrate(_ folder: String) throws -> [PinnedMap] {
        var object = try BPFObjectHandle(.director)
        try object.setMaxEntries(of: "flows", 4096)
        return try object.load(pinningMapsIn: folder, layoutVersion: Self.version, history: .director)
    }

    @Test func layout2IsMigratedWithItsFlows() throws {
        let folder = try PinFolder()
        try pinLayout2(in: folder.path)
        #expect(try pinnedVersion(folder.path) == 2)
        let namespace = try Namespace()
        try namespace.run("ip link add eth0 type veth peer name peer0")
        try namespace.enter {
            let start = try DirectorPlane.start(
                configuration, interface: try interfaceIndex("eth0"), pins: folder.path)
            #expect(start.maps.first { $0.name == "services" }?.isMigrated == true)
            #expect(start.maps.first { $0.name == "flows" }?.isMigrated == true)
            #expect(start.maps.first { $0.name == "slots" }?.isReused == true)
            let service = try #require(try start.plane.services.get(serviceKey))
            #expect(service.id == 3 && service.forwarding == 2 && service.plan_length == 40)
            #expect(service.hash_secret == 0x0102_0304 && service.candidates == 6 && service.persistence_s == 0)
            // The known flow goes on, and a new one is dispatched by the former table.
            for (packet, slots) in [(Packet(client: IPAddress(ipv4: 0x0a00_0002), clientPort: 1234), [5]),
                (Packet(clientPort: 99, flags: .syn), [5, 6])] as [(Packet, [UInt16])]
            {
                for slot in UInt16(5)...6 {
                    try start.plane.slots.put(
                        UInt32(slot),
                        baton_slot(
                            owner: DirectorFixture.owner(slot), group: SlotID(rawValue: slot).group,
                            flags: UInt16(BATON_SLOT_ACTIVE.rawValue)))
                }
                let run = try start.plane.program.testRun(packet.bytes())
                let destination = try #require(MACAddress(bytes: run.frame.prefix(6)))
                let known = slots.flatMap { [DirectorFixture.owner($0), SlotID(rawValue: $0).group] }
                #expect(run.verdict == 3 && known.contains(destination), "\(destination)")
            }
        }
        #expect(try pinnedVersion(folder.path) == Self.version)
        // A second start finds nothing to migrate.
        #expect(try migrate(folder.path).allSatisfy { $0.isReused && !$0.isMigrated })
        #expect(access(folder.path + "/ready", F_OK) != 0 && access(folder.path + "/next", F_OK) != 0)
    }

    /// Layout 3 had no port in a flow's key: it is that of the flow's service.
    @Test func flowsOfLayout3GetTheirServicesPort() throws {
        let folder = try PinFolder()
        var former = try BPFObjectHandle(.director)
        try former.setMaxEntries(of: "flows", 4096)
        _ = try former.load(
            pinningMapsIn: folder.path, layoutVersion: 3, maps: ["flows", "half_open", "slots", "slot_records", "plan"])
        let services = try RawMap.create("services", type: Self.hash, keyBytes: 20, valueBytes: 32, maxEntries: 256)
        for (id, port) in [(3, 80), (4, 443)] as [(UInt16, UInt16)] {
            let key = baton_service_key(address: IPAddress(ipv4: 0x0a00_0001), port: port)
            let value = bytes(of: id) + [2, 0] + [UInt8](repeating: 0, count: 28)
            try services.put(RawEntries(keyBytes: 20, valueBytes: 32, keys: bytes(of: key), values: value))
        }
        try services.pin(at: folder.path + "/services")
        for name in ["flows", "half_open"] {
            let map = try #require(try BPFMap<baton_flow_key, baton_flow>.pinned(at: folder.path + "/" + name))
            for id in [3, 4, 9] as [UInt16] {
                let key = baton_flow_key(client: IPAddress(ipv4: 0x0a00_0002), clientPort: 1234, service: id, servicePort: 0)
                try map.put(key, baton_flow(slot: 5, flags: 1, group_time: 2, group_ack: UInt32(id), last_seen_ns: 9))
            }
        }
        #expect(try migrate(folder.path).filter(\.isMigrated).map(\.name).sorted() == ["flows", "half_open", "services"])
        for name in ["flows", "half_open"] {
            let map = try #require(try BPFMap<baton_flow_key, baton_flow>.pinned(at: folder.path + "/" + name))
            // The service 9 is gone: nobody asks for its flows.
            for (id, port) in [(3, 80), (4, 443), (9, 0)] as [(UInt16, UInt16)] {
                let key = baton_flow_key(
                    client: IPAddress(ipv4: 0x0a00_0002), clientPort: 1234, service: id, servicePort: port)
                #expect(try map.get(key)?.group_ack == UInt32(id), "\(name), service \(id)")
            }
        }
    }

    /// An exchange that was interrupted: before its end nothing has happened, after it the new maps count.
    @Test(arguments: ["next", "ready"]) func anInterruptedExchange(_ state: String) throws {
        let folder = try PinFolder()
        try pinLayout2(in: folder.path)
        mkdir(folder.path + "/\(state)", 0o700)
        let services = try RawMap.create(
            "services", type: Self.hash, keyBytes: 20, valueBytes: 40, maxEntries: Int(BATON_MAX_SERVICE_KEYS))
        try services.pin(at: folder.path + "/\(state)/services")
        if state == "ready" {
            let plan = try RawMap.create(
                "plan", type: Self.array, keyBytes: 4, valueBytes: 64, maxEntries: Int(BATON_PLAN_PLACES) / 32)
            try plan.pin(at: folder.path + "/ready/plan")
            let layout = try RawMap.create("layout", type: Self.array, keyBytes: 4, valueBytes: 4, maxEntries: 1)
            try layout.put(RawEntries(keyBytes: 4, valueBytes: 4, keys: [0, 0, 0, 0], values: bytes(of: Self.version)))
            try layout.pin(at: folder.path + "/ready/layout")
        }
        let maps = try migrate(folder.path)
        #expect(try pinnedVersion(folder.path) == Self.version)
        let found = try #require(try BPFMap<baton_service_key, baton_service>.pinned(at: folder.path + "/services"))
        // `next` was half made: the former service is converted again. `ready` held an empty map, which counts.
        #expect(try found.get(serviceKey)?.id == (state == "next" ? 3 : nil))
        #expect(maps.contains { $0.isMigrated } == (state == "next"))
        for name in ["ready", "next"] { #expect(access(folder.path + "/" + name, F_OK) != 0) }
        let flows = try #require(try BPFMap<baton_flow_key, baton_flow>.pinned(at: folder.path + "/flows"))
        #expect(try flows.get(flowKey)?.group_ack == 77)
    }

    @Test func whatNoStepLeadsToIsRefusedAndLeftAlone() throws {
        for version in [UInt32(1), Self.version + 1, 99] {
            let folder = try PinFolder()
            try pinLayout2(in: folder.path)
            let layout = try #require(try BPFMap<UInt32, UInt32>.pinned(at: folder.path + "/layout"))
            try layout.put(0, version)
            let error = #expect(throws: BPFError.self) { try migrate(folder.path) }
            #expect(error?.description.contains("layout version \(version)") == true)
            #expect(error?.remedy?.contains("go back to the version that made them") == true)
            #expect(try RawMap.pinned(at: folder.path + "/services")?.entries().count == 1)
            #expect(try pinnedVersion(folder.path) == version)
        }
    }

    @Test func aMapThatIsNotWhatItsVersionSaysIsRefused() throws {
        let folder = try PinFolder()
        try pinLayout2(in: folder.path)
        unlink(folder.path + "/services")
        let odd = try RawMap.create("services", type: Self.hash, keyBytes: 20, valueBytes: 24, maxEntries: 256)
        try odd.pin(at: folder.path + "/services")
        let error = #expect(throws: BPFError.self) { try migrate(folder.path) }
        #expect(error?.subject == folder.path + "/services")
        #expect(try pinnedVersion(folder.path) == 2)
    }

    /// A step for a map that the programs write to: what comes in while the programs are exchanged is not lost.
    @Test func latecomersAreCopied() throws {
        let folder = try PinFolder()
        var former = try BPFObjectHandle(.director)
        _ = try former.load(pinningMapsIn: folder.path, layoutVersion: 6)
        let old = try #require(try BPFMap<baton_flow_key, baton_flow>.pinned(at: folder.path + "/flows"))
        try old.put(flowKey, baton_flow(slot: 5, flags: 1, group_time: 0, group_ack: 1, last_seen_ns: 1))
        let change = MapChange(keyBytes: 24, valueBytes: 16, isWrittenByPrograms: true) { entries in
            entries.mapValues(to: 16) { value in
                var next = Array(value)
                next[4] &+= 1
                return next
            }
        }
        // Two steps at once: both conversions run.
        let history = LayoutHistory(steps: [
            6: LayoutStep(changes: ["flows": change]), 7: LayoutStep(changes: ["flows": change], dropped: ["loads"]),
        ])
        var present = try BPFObjectHandle(.director)
        let maps = try present.load(pinningMapsIn: folder.path, layoutVersion: 8, history: history)
        #expect(maps.filter(\.isMigrated).map(\.name) == ["flows"])
        #expect(maps.first { $0.name == "loads" }?.isReused == false)
        let new: BPFMap<baton_flow_key, baton_flow> = try present.map("flows")
        #expect(try new.get(flowKey)?.group_ack == 3)
        let late = baton_flow_key(client: IPAddress(ipv4: 0x0a00_0003), clientPort: 1, service: 3, servicePort: 80)
        try old.put(late, baton_flow(slot: 5, flags: 1, group_time: 0, group_ack: 1, last_seen_ns: 1))
        try new.put(flowKey, baton_flow(slot: 6, flags: 1, group_time: 0, group_ack: 50, last_seen_ns: 1))
        try present.copyLatecomers()
        #expect(try new.get(late)?.group_ack == 3)
        #expect(try new.get(flowKey)?.group_ack == 50)
    }
}
