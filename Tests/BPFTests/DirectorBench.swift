import BPFObjects
import CContract
import LinuxBPF
import Model
import Testing

/// Figures for the README; printed, not asserted, for they belong to the machine.
@Suite struct DirectorBench {
    @Test func nanosecondsForAFrame() throws {
        try Requirement.root()
        // No address check and unicast "groups": the same frame, rewritten, must be served again and again.
        let plane = try DirectorPlane.load(.init(flows: 1_000_000, interfaceAddress: nil))
        try plane.putTable([1])
        let unicast = DirectorFixture.owner(1)
        try plane.slots.put(1, baton_slot(owner: unicast, group: unicast, flags: UInt16(BATON_SLOT_ACTIVE.rawValue)))
        var service = baton_service()
        service.forwarding = UInt8(BATON_FORWARD_SELECTIVE.rawValue)
        service.plan_length = 1
        for address in [DirectorFixture.vip, DirectorFixture.vip6] {
            try plane.setService(baton_service_key(address: address, port: 80), service)
        }
        for number in UInt32(0)..<100_000 {
            let key = baton_flow_key(client: IPAddress(ipv4: 0x0b00_0000 + number), clientPort: 1, service: 0, servicePort: 80)
            try plane.flows.put(key, baton_flow(slot: 1, flags: 1, group_time: 0, group_ack: 0, last_seen_ns: 0))
        }
        let six = Packet(client: IPAddress(high: 0x2001_0db8_0000_0001, low: 9), service: DirectorFixture.vip6)
        var syn6 = six
        syn6.flags = .syn
        for packet in [Packet(flags: .syn), Packet(), syn6, six] { _ = try plane.program.testRun(packet.bytes()) }
        var empty = try BPFObjectHandle(.pass)
        try empty.load()
        let nothing = try empty.program("baton_pass").testRun(Packet().bytes(), repetitions: 1_000_000).nanoseconds
        print("director data plane: a program that does nothing (the price of measuring): \(nothing) ns a frame")
        let cases: [(String, [UInt8])] = [
            ("not ours: ARP", [UInt8](repeating: 0xff, count: 12) + [8, 6] + [UInt8](repeating: 0, count: 46)),
            ("not ours: TCP to another address", Packet(service: IPAddress(ipv4: 1)).bytes()),
            ("no flow", Packet(clientPort: 1).bytes()),
            ("pure ACK to the owner", Packet().bytes()),
            ("pure ACK to the owner, IPv6", six.bytes()),
            ("data to the group", Packet(payload: [1, 2, 3]).bytes()),
            ("SYN of a living flow", Packet(flags: .syn).bytes()),
        ]
        for (name, frame) in cases {
            let best = try (0..<3).map { _ in
                try plane.program.testRun(frame, repetitions: 1_000_000).nanoseconds
            }.min()
            print("director data plane: \(name): \(best ?? 0) ns a frame")
        }
    }

    @Test func bytesForAFlow() throws {
        try Requirement.root()
        for flows: UInt32 in [10_000, 100_000, 1_000_000] {
            let plane = try DirectorPlane.load(.init(flows: flows, interfaceAddress: nil))
            let bytes = try plane.flows.memoryBytes()
            let perFlow = Double(bytes) / Double(flows)
            print("director flow table: \(flows) flows take \(bytes) bytes, \(perFlow) a flow")
            #expect((40...200).contains(perFlow))
        }
    }
}
