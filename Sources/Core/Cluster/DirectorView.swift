import Model
import ModuleInterfaces
import Wire

// What people are shown of the director's state.

extension DirectorMachine {
    /// The name of the back-end that serves a slot or takes it over; nil when nobody does.
    public func holder(of id: SlotID) -> String? {
        guard let index = slotIndex(id), let holder = holderSlot(slots[index]) else { return nil }
        return ownerName(holder)
    }

    /// The state of a slot, as the ring table has it.
    public func stateName(of id: SlotID) -> String {
        slotIndex(id).map { state(of: slots[$0]).name } ?? "unknown"
    }

    /// The back-ends that listen to a slot's group beside its owner, in the order in which they would take over.
    public func backupNames(of id: SlotID) -> [String] {
        guard let index = slotIndex(id) else { return [] }
        return slots[index].backups.filter { $0.until == nil }.map { ownerName($0.slot) }
    }

    /// The number of a back-end by its name; nil when it was never configured.
    public func backendID(_ name: String) -> BackendID? {
        names.firstIndex(of: name).map { BackendID(rawValue: UInt16($0)) }
    }

    /// The dispatch plan in force; nil where there is none yet.
    public func plan(of service: ServiceID) -> DispatchPlan? { plans.first { $0.service == service }?.plan }
}
