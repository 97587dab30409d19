/// How frames of a flow reach the owner of its slot and the backups ([Z] II-E, III-A, III-B).
///
/// The data plane runs one of three ways by number; a module names the number and says what the cluster has to do for
/// it.
public protocol ForwardingModule: Sendable {
    /// The number of `enum baton_forwarding`: 0 duplicate, 1 multicast, 2 selective, 3 owner.
    var dataPlaneNumber: UInt8 { get }
    /// Whether frames go to the slots' multicast groups. Agents join them in any case: the method may change at any
    /// time.
    var usesGroups: Bool { get }
}
