import Model

/// Decides who backs up whom ([Z] II-B, II-D).
public protocol RingModule: Sendable {
    /// For each member, in the order given, its backups: at most `count`, the first takes over first, never itself,
    /// none twice, members only.
    ///
    /// Same members, same answer. With fewer than `count` others, all others.
    func backups(of members: [BackendID], count: Int) -> [[BackendID]]
}
