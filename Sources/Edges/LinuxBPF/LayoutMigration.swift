import Clibbpf
import Glibc

/// How the entries of one map became those of the next layout.
public struct MapChange: Sendable {
    /// What the former layout's map must look like; another one is refused, not read.
    public var keyBytes: Int
    public var valueBytes: Int
    /// The programs write to it too: what they add before they are exchanged is copied afterwards.
    public var isWrittenByPrograms: Bool
    /// The maps that `convert` wants to see beside this one, as they are in the oldest layout that it comes from.
    public var reads: Set<String>
    public var convert: @Sendable (RawEntries, _ others: [String: RawEntries]) -> RawEntries

    public init(
        keyBytes: Int, valueBytes: Int, isWrittenByPrograms: Bool = false,
        convert: @escaping @Sendable (RawEntries) -> RawEntries
    ) {
        self.init(keyBytes: keyBytes, valueBytes: valueBytes, isWrittenByPrograms: isWrittenByPrograms, reads: []) {
            entries, _ in convert(entries)
        }
    }

    public init(
        keyBytes: Int, valueBytes: Int, isWrittenByPrograms: Bool = false, reads: Set<String>,
        convert: @escaping @Sendable (RawEntries, _ others: [String: RawEntries]) -> RawEntries
    ) {
        self.keyBytes = keyBytes
        self.valueBytes = valueBytes
        self.isWrittenByPrograms = isWrittenByPrograms
        self.reads = reads
        self.convert = convert
    }

    /// This change and then another, as one.
    func followed(by next: MapChange) -> MapChange {
        var both = self
        let (first, second) = (convert, next.convert)
        both.isWrittenByPrograms = isWrittenByPrograms || next.isWrittenByPrograms
        both.reads.formUnion(next.reads)
        both.convert = { second(first($0, $1), $1) }
        return both
    }
}

/// What changed from one layout version to the next. Maps that are not named are used on as they are, and must have the
/// shape that they have now.
public struct LayoutStep: Sendable {
    public var changes: [String: MapChange]
    /// Begun anew: nothing in them is worth keeping.
    public var dropped: Set<String>

    public init(changes: [String: MapChange] = [:], dropped: Set<String> = []) {
        self.changes = changes
        self.dropped = dropped
    }
}

/// The layouts that this program can read: by version, the step to the next one.
public struct LayoutHistory: Sendable {
    public var steps: [UInt32: LayoutStep]

    public init(steps: [UInt32: LayoutStep] = [:]) { self.steps = steps }

    /// Whether maps of a former version can be migrated.
    public func reaches(_ version: UInt32, from former: UInt32) -> Bool { path(from: former, to: version) != nil }

    /// All steps from a version to another as one; nil when a step between them is missing, or when the maps are newer.
    func path(from former: UInt32, to version: UInt32) -> LayoutStep? {
        guard former < version else { return nil }
        var whole = LayoutStep()
        for number in former..<version {
            guard let step = steps[number] else { return nil }
            for (name, change) in step.changes {
                whole.changes[name] = whole.changes[name].map { $0.followed(by: change) } ?? change
            }
            whole.dropped.formUnion(step.dropped)
        }
        for name in whole.dropped { whole.changes[name] = nil }
        return whole
    }
}

/// A map that was converted, while the programs may still write to the former one.
struct ConvertedMap {
    let former: RawMap
    let present: RawMap
    let change: MapChange
    /// What `change` reads, as it was when the map was converted.
    let others: [String: RawEntries]

    func copy(mode: BPFPutMode) throws(BPFError) {
        let entries = try former.entries()
        try present.put(change.convert(entries, others), mode: mode)
    }
}

/// The exchange of pinned maps, so that a process that dies at any instant leaves either the former maps or the new ones.
///
/// The new maps are pinned in `next`. When all of them are there and filled, `next` is renamed to `ready`: from then on
/// the new ones count, and whoever starts moves them to their places, the layout's version last.
enum LayoutExchange {
    private static func next(_ folder: String) -> String { folder + "/next" }
    private static func ready(_ folder: String) -> String { folder + "/ready" }

    /// Begins anew with `next`, whatever an interrupted run has left there.
    static func begin(in folder: String) throws(BPFError) -> String {
        let next = next(folder)
        try BPFFileSystem.remove(folder: next)
        guard mkdir(next, 0o700) == 0 else { throw BPFError.latest("make the folder", next) }
        return next
    }

    /// From here on the new maps count.
    static func commit(in folder: String) throws(BPFError) {
        guard rename(next(folder), ready(folder)) == 0 else {
            throw BPFError.latest("rename", next(folder))
        }
    }

    /// Moves what is ready to its place; nothing to do where no exchange was under way.
    static func finish(in folder: String) throws(BPFError) {
        let ready = ready(folder)
        guard access(ready, F_OK) == 0 else { return }
        let names = BPFFileSystem.entries(of: ready) ?? []
        for name in names.filter({ $0 != "layout" }).sorted() + names.filter({ $0 == "layout" }) {
            guard rename(ready + "/" + name, folder + "/" + name) == 0 else {
                throw BPFError.latest("move the pin", ready + "/" + name)
            }
        }
        guard rmdir(ready) == 0 else { throw BPFError.latest("remove the folder", ready) }
    }
}
