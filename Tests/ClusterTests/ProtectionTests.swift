import Model
import Testing
import Wire

@testable import Cluster

/// Whom an agent asks for journals, who may ask it, and what the director keeps of the reports.
@Suite("Resynchronisation in the cluster's machines")
struct ProtectionTests {
    private static let now = MachineInputTests.start

    /// Agent 1 ("web2", slot 1, life 2), by default the backup of slot 0.
    private func agent(_ slots: [RingTable.SlotEntry]? = nil) -> (machine: AgentMachine, effects: [AgentEffect]) {
        var machine = AgentMachine(
            identity: AgentIdentity(
                name: "web2", mac: MACAddress(rawValue: 2), address: IPAddress(ipv4: 2), services: []),
            seed: 3)
        var effects: [AgentEffect] = []
        machine.handle(.start, now: Self.now, into: &effects)
        machine.handle(.serviceSocketsDestroyed, now: Self.now, into: &effects)
        machine.handle(.connected, now: Self.now, into: &effects)
        let welcome = Welcome(
            backend: BackendID(rawValue: 1), slot: SlotID(rawValue: 1), directorLife: Life(rawValue: 99),
            heartbeatInterval: .milliseconds(10), window: .milliseconds(50), lease: .milliseconds(45), services: [])
        machine.handle(.received(.welcome(welcome)), now: Self.now, into: &effects)
        machine.handle(.received(.ring(table(machine.life, slots))), now: Self.now, into: &effects)
        machine.checkInvariants()
        return (machine, effects)
    }

    private func table(_ life: Life, _ slots: [RingTable.SlotEntry]?, epoch: UInt64 = 4) -> RingTable {
        let member = { (id: UInt16, life: Life) in
            RingTable.Member(
                id: BackendID(rawValue: id), name: "web\(id + 1)", life: life, slot: SlotID(rawValue: id),
                address: IPAddress(ipv4: UInt32(id) + 1), mac: MACAddress(rawValue: UInt64(id)), present: true)
        }
        return RingTable(
            epoch: Epoch(rawValue: epoch),
            members: [member(0, Life(rawValue: 7)), member(1, life), member(2, Life(rawValue: 8))],
            slots: slots ?? [entry(0, owner: 0, backups: [1]), entry(1, owner: 1, backups: [2])])
    }

    private func entry(_ slot: UInt16, owner: UInt16, backups: [UInt16]) -> RingTable.SlotEntry {
        RingTable.SlotEntry(
            slot: SlotID(rawValue: slot), primary: BackendID(rawValue: slot), owner: BackendID(rawValue: owner),
            backups: backups.map { BackendID(rawValue: $0) }, state: slot == owner ? .active : .takenOver)
    }

    private func sources(_ effects: [AgentEffect]) -> [SlotSource]? {
        var last: [SlotSource]?
        for case .sources(let sources) in effects { last = sources }
        return last
    }

    @Test("A backup asks the owner whom the ring table names, in the life that it names")
    func asksTheOwner() {
        var (machine, effects) = agent()
        let source = SlotSource(
            slot: SlotID(rawValue: 0), owner: BackendID(rawValue: 0), ownerLife: Life(rawValue: 7),
            address: IPAddress(ipv4: 1))
        #expect(sources(effects) == [source])
        effects = []
        machine.handle(.timer, now: Self.now, into: &effects)
        #expect(sources(effects) == nil, "nothing new")
        // The slot has another owner, and this agent still backs it up.
        let moved = table(machine.life, [entry(0, owner: 2, backups: [1]), entry(1, owner: 1, backups: [2])], epoch: 5)
        machine.handle(.received(.ring(moved)), now: Self.now, into: &effects)
        #expect(sources(effects)?.map(\.owner) == [BackendID(rawValue: 2)])
        // The end of this life.
        effects = []
        machine.handle(.received(.fence(Fence(slot: SlotID(rawValue: 1), epoch: Epoch(rawValue: 6)))), now: Self.now, into: &effects)
        #expect(sources(effects) == [])
        machine.checkInvariants()
    }

    @Test("An owner tells its backups, in their lives, and nobody else")
    func tellsBackupsOnly() {
        let (machine, _) = agent()
        let own = SlotID(rawValue: 1)
        let backup = BackendID(rawValue: 2)
        #expect(machine.mayTell(own, to: backup, life: Life(rawValue: 8)))
        #expect(!machine.mayTell(own, to: backup, life: Life(rawValue: 9)), "another life")
        #expect(!machine.mayTell(own, to: BackendID(rawValue: 0), life: Life(rawValue: 7)), "no backup of it")
        #expect(!machine.mayTell(SlotID(rawValue: 0), to: backup, life: Life(rawValue: 8)), "another's slot")
        let hello = PeerHello(sender: backup, senderLife: Life(rawValue: 8), receiverLife: machine.life)
        #expect(machine.isPeer(hello))
        #expect(!machine.isPeer(PeerHello(sender: backup, senderLife: Life(rawValue: 8), receiverLife: Life(rawValue: 1))))
        #expect(!machine.isPeer(PeerHello(sender: backup, senderLife: Life(rawValue: 1), receiverLife: machine.life)))
    }

    @Test("Reports go to the director, again after a new ring table, and never of slots that are not backed up")
    func reports() {
        var (machine, effects) = agent()
        let mine = SlotProtection(slot: SlotID(rawValue: 0), phase: .copying, connections: 3, protected: 1, missing: 2)
        let other = SlotProtection(slot: SlotID(rawValue: 9), phase: .copying)
        effects = []
        machine.handle(.protection([mine, other]), now: Self.now, into: &effects)
        #expect(effects.contains(.send(.protection([mine]))))
        effects = []
        machine.handle(.received(.ring(table(machine.life, nil, epoch: 8))), now: Self.now, into: &effects)
        #expect(effects.contains(.send(.protection([mine]))))
    }

    @Test("The director keeps what a slot's own backups say")
    func director() {
        var machine = MachineInputTests.director()
        var effects: [DirectorEffect] = []
        for number in 1...2 as ClosedRange<UInt64> {
            let session = SessionID(rawValue: number)
            machine.handle(
                .received(MachineInputTests.join("web\(number)", life: number), from: session), now: Self.now,
                into: &effects)
        }
        let (first, second) = (machine.slots[0].id, machine.slots[1].id)
        let about = { (slot: SlotID, protected: UInt32) in
            StreamMessage.protection([SlotProtection(slot: slot, phase: .synchronised, connections: 9, protected: protected)])
        }
        machine.handle(.received(about(first, 8), from: SessionID(rawValue: 2)), now: Self.now, into: &effects)
        machine.handle(.received(about(first, 9), from: SessionID(rawValue: 2)), now: Self.now, into: &effects)
        machine.handle(.received(about(second, 1), from: SessionID(rawValue: 2)), now: Self.now, into: &effects)
        #expect(machine.protection(of: first).map(\.report.protected) == [9])
        #expect(machine.protection(of: first).map(\.backup) == ["web2"])
        #expect(machine.protection(of: second).isEmpty, "its own owner is no backup")
        machine.checkInvariants()
    }
}
