import Model

/// The ring of one epoch: who is in it, who owns each slot, and who backs it up.
public struct RingTable: Hashable, Sendable {
    public var epoch: Epoch
    /// In the order of the ring.
    public var members: [Member]
    /// Rising by slot; retired slots are left out.
    public var slots: [SlotEntry]

    public struct Member: Hashable, Sendable {
        public var id: BackendID
        public var name: String
        public var life: Life
        /// The slot of this life.
        public var slot: SlotID
        public var address: IPAddress
        public var mac: MACAddress
        /// False while the director does not hear from it: nobody needs its echo.
        public var present: Bool

        public init(
            id: BackendID,
            name: String,
            life: Life,
            slot: SlotID,
            address: IPAddress,
            mac: MACAddress,
            present: Bool
        ) {
            self.id = id
            self.name = name
            self.life = life
            self.slot = slot
            self.address = address
            self.mac = mac
            self.present = present
        }
    }

    public struct SlotEntry: Hashable, Sendable {
        public var slot: SlotID
        /// The back-end that the slot was made for.
        public var primary: BackendID
        /// Who serves the slot, or is taking it over; nil when nobody can.
        public var owner: BackendID?
        /// Who listens to the slot's group beside the owner; the first takes over first.
        public var backups: [BackendID]
        public var state: SlotState

        public init(slot: SlotID, primary: BackendID, owner: BackendID?, backups: [BackendID], state: SlotState) {
            self.slot = slot
            self.primary = primary
            self.owner = owner
            self.backups = backups
            self.state = state
        }
    }

    public init(epoch: Epoch, members: [Member], slots: [SlotEntry]) {
        self.epoch = epoch
        self.members = members
        self.slots = slots
    }
}

/// What is the matter with a slot; the numbers stand in messages and in the director's slot records.
public enum SlotState: UInt8, Hashable, Sendable, CaseIterable {
    /// Served by the back-end that it was made for.
    case active = 1
    /// A backup was ordered to take it over and has not settled yet.
    case takingOver = 2
    /// Served by a backup.
    case takenOver = 3
    /// Its owner is lost, and nobody may take it over safely: flows are reset.
    case orphaned = 4
    /// Nobody serves it, and nobody will.
    case retired = 5

    public var name: String {
        switch self {
        case .active: "active"
        case .takingOver: "taking-over"
        case .takenOver: "taken-over"
        case .orphaned: "orphaned"
        case .retired: "retired"
        }
    }
}

extension RingTable {
    public func member(_ id: BackendID) -> Member? { members.first { $0.id == id } }

    /// The members whose echoes `id` needs while the director is silent: the present backups of every slot that it
    /// serves or takes over. Rising, without repetition. Director and agents must agree on this, so both ask here.
    public func requiredBackups(of id: BackendID) -> [Member] {
        let ids = Set(slots.lazy.filter { $0.owner == id }.flatMap(\.backups))
        return members.filter { $0.present && $0.id != id && ids.contains($0.id) }.sorted { $0.id < $1.id }
    }
}
