import BuiltinModules
import Model
import ModuleInterfaces
import Testing
import Wire

@testable import Cluster

/// Who of several backups takes over first: the ring's order among those that know every connection.
@Suite("Order of backups")
struct BackupOrderTests {
    private static let start = MachineInputTests.start

    /// A director and what it hears; back-end `webN` has session and life N.
    private struct Cluster {
        var machine: DirectorMachine
        var now = BackupOrderTests.start

        init(backups: Int, names: [String] = ["web1", "web2", "web3"]) {
            machine = DirectorMachine(life: Life(rawValue: 99))
            let configuration = DirectorConfiguration(
                backends: names.map { BackendConfiguration(name: $0, address: IPAddress(ipv4: 7)) },
                services: [ServiceConfiguration(MachineInputTests.service, policy: RoundRobin())],
                backups: backups,
                ring: SuccessorRing(),
                detector: BuiltinModules.registry.detection[0].make)
            handle(.configuration(configuration))
        }

        mutating func handle(_ input: DirectorInput) {
            var effects: [DirectorEffect] = []
            machine.handle(input, now: now, into: &effects)
            machine.checkInvariants()
        }

        private mutating func say(_ message: StreamMessage, _ number: UInt64) {
            handle(.received(message, from: SessionID(rawValue: number)))
        }

        mutating func join(_ numbers: UInt64...) {
            for number in numbers { say(MachineInputTests.join("web\(number)", life: number), number) }
        }

        /// Until no new table comes of it.
        mutating func acknowledge(_ numbers: UInt64...) {
            var former: Epoch?
            while former != machine.epoch {
                former = machine.epoch
                for number in numbers { say(.ringAcknowledged(machine.epoch), number) }
            }
        }

        mutating func serve(_ numbers: UInt64...) {
            for number in numbers { say(.sign(Sign(service: ServiceID(rawValue: 0), kind: .up)), number) }
        }

        mutating func report(_ phase: SlotProtection.Phase, of slot: UInt16, by number: UInt64) {
            say(.protection([SlotProtection(slot: SlotID(rawValue: slot), phase: phase)]), number)
        }

        /// The backups of a slot, formers among them, as the ring table has them.
        func backups(of slot: UInt16) -> [String] {
            let entry = machine.table.slots.first { $0.slot == SlotID(rawValue: slot) }
            return (entry?.backups ?? []).map(machine.name(of:))
        }
    }

    @Test("Back-ends that come in any order back each other up in the order of the ring", arguments: [
        [1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1],
    ] as [[UInt64]])
    func arrival(order: [UInt64]) throws {
        var cluster = Cluster(backups: 2)
        for number in order { cluster.join(number) }
        cluster.acknowledge(1, 2, 3)
        let ring = ["web1", "web2", "web3"]
        for (slot, number) in order.enumerated() {
            let next = (0..<2).map { ring[(Int(number) + $0) % 3] }
            #expect(cluster.backups(of: UInt16(slot)) == next, "web\(number)")
        }
    }

    @Test("Who came late is first once it has copied what it missed, not before")
    func late() {
        var cluster = Cluster(backups: 2)
        cluster.join(1, 3)
        cluster.acknowledge(1, 3)
        cluster.serve(1, 3)
        cluster.now = cluster.now + .seconds(1)
        cluster.join(2)
        cluster.acknowledge(1, 2, 3)
        #expect(cluster.backups(of: 0) == ["web3", "web2"])
        cluster.report(.copying, of: 0, by: 2)
        #expect(cluster.backups(of: 0) == ["web3", "web2"])
        cluster.report(.synchronised, of: 0, by: 2)
        #expect(cluster.backups(of: 0) == ["web2", "web3"])
        // Of a slot that it does not back up, nothing is believed.
        cluster.report(.synchronised, of: 2, by: 2)
        #expect(cluster.backups(of: 2) == ["web3", "web1"])
    }

    @Test("With one backup, the former one stays first until its successor has the connections")
    func former() {
        var cluster = Cluster(backups: 1)
        cluster.join(1, 3)
        cluster.acknowledge(1, 3)
        cluster.serve(1, 3)
        cluster.now = cluster.now + .seconds(1)
        cluster.join(2)
        cluster.acknowledge(1, 2, 3)
        #expect(cluster.backups(of: 0) == ["web3", "web2"])
        let epoch = cluster.machine.epoch
        cluster.report(.synchronised, of: 0, by: 2)
        #expect(cluster.backups(of: 0) == ["web2", "web3"])
        #expect(cluster.machine.epoch > epoch)
        cluster.report(.synchronised, of: 0, by: 2)
        #expect(cluster.machine.epoch.rawValue == epoch.rawValue + 1, "the same again changes nothing")
    }
}
