import Clibbpf
import Glibc

/// What became of a map that is to be pinned.
public struct PinnedMap: Equatable, Sendable {
    public var name: String
    /// Found pinned, with what it holds, rather than made new.
    public var isReused: Bool
    /// Found pinned in a former layout, or in another size; what it held was converted.
    public var isMigrated = false
    /// Its size.
    public var maxEntries: UInt32
}

extension BPFObjectHandle {
    /// Loads the object with the maps that are pinned in a folder already, and pins those that are new.
    ///
    /// The one-element array `layout` holds the version of contract.h that the maps were made by. It is pinned before
    /// all others, so that a daemon that dies in the middle leaves a folder that the next one can tell and complete.
    /// Maps of a former version are migrated where `history` knows every step; maps of any other version, or of another
    /// type or size of key or value, are refused, never read.
    /// - Parameters:
    ///   - folder: made if it is missing (`BPFFileSystem.prepare`); pins are named like the maps.
    ///   - maps: the maps to pin; nil for all that the source declares.
    public mutating func load(
        pinningMapsIn folder: String, layoutVersion: UInt32, history: LayoutHistory = LayoutHistory(),
        maps: Set<String>? = nil
    ) throws(BPFError) -> [PinnedMap] {
        try BPFFileSystem.prepare(folder: folder)
        try LayoutExchange.finish(in: folder)
        let migration = try migration(in: folder, layoutVersion: layoutVersion, history: history)
        let reused = try reuseMaps(in: folder, except: migration, only: maps)
        try load()
        if let migration { try migrate(migration, in: folder, layoutVersion: layoutVersion, only: maps) }
        if migration == nil, !reused.contains("layout") {
            let layout: BPFMap<UInt32, UInt32> = try map("layout")
            try layout.put(0, layoutVersion)
            try layout.pin(at: folder + "/layout")
        }
        var pinned: [PinnedMap] = []
        for (name, map) in namedMaps(only: maps) {
            let isExchanged = migration.map { $0.concerns(name) } ?? false
            let isReused = reused.contains(name)
            if !isReused, !isExchanged, name != "layout" { try descriptor(ofMap: name).pin(at: folder + "/" + name) }
            let isMigrated = migration?.changes[name] != nil && converted.contains { $0.present.name == name }
            pinned.append(
                PinnedMap(
                    name: name, isReused: isReused, isMigrated: isMigrated, maxEntries: bpf_map__max_entries(map)))
        }
        return pinned
    }

    /// Copies what the former programs have added to maps of a former layout since `load`; call it once the new programs
    /// are in their places. Nothing to do where nothing was migrated.
    public mutating func copyLatecomers() throws(BPFError) {
        for map in converted where map.change.isWrittenByPrograms { try map.copy(mode: .onlyNew) }
        converted = []
    }

    /// The declared maps that are pinned, by name.
    private func namedMaps(only: Set<String>?) -> [(String, OpaquePointer)] {
        declaredMaps().compactMap { map in
            guard let text = bpf_map__name(map) else { return nil }
            let name = String(cString: text)
            return !isScratch(name) && only?.contains(name) ?? true ? (name, map) : nil
        }
    }

    /// Room to work in while one packet is looked at: there is nothing in it to keep, and it may change in any version.
    private func isScratch(_ name: String) -> Bool { name.hasSuffix("scratch") }

    // MARK: Former layouts

    /// The way from the version that is pinned to this program's; nil when it is the same one, or nothing is pinned.
    private func migration(
        in folder: String, layoutVersion: UInt32, history: LayoutHistory
    ) throws(BPFError) -> LayoutStep? {
        let layout: BPFMap<UInt32, UInt32>? = try BPFMap.pinned(at: folder + "/layout")
        guard let found = try layout?.get(0) else {
            for (name, _) in namedMaps(only: nil) where access(folder + "/" + name, F_OK) == 0 {
                throw refusal(folder, "they do not say which layout they have")
            }
            return nil
        }
        guard found != layoutVersion else { return try resizing(in: folder) }
        guard let step = history.path(from: found, to: layoutVersion) else {
            throw refusal(folder, "they have layout version \(found), this program has \(layoutVersion)")
        }
        return step
    }

    /// The tables whose size is another one than that of the pinned maps: they are copied, as by a step that changes
    /// nothing else. Nil where there is none.
    private func resizing(in folder: String) throws(BPFError) -> LayoutStep? {
        var step = LayoutStep()
        for map in declaredMaps() {
            guard let text = bpf_map__name(map), [BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH].contains(bpf_map__type(map))
            else { continue }
            let name = String(cString: text)
            guard let pinned = try RawMap.pinned(at: folder + "/" + name)?.shape,
                pinned.maxEntries != bpf_map__max_entries(map), pinned.type == bpf_map__type(map).rawValue,
                pinned.keyBytes == bpf_map__key_size(map), pinned.valueBytes == bpf_map__value_size(map)
            else { continue }
            step.changes[name] = MapChange(
                keyBytes: Int(pinned.keyBytes), valueBytes: Int(pinned.valueBytes), isWrittenByPrograms: true) { $0 }
        }
        return step.changes.isEmpty ? nil : step
    }

    /// Converts and pins, in an order in which it may be interrupted anywhere.
    private mutating func migrate(
        _ step: LayoutStep, in folder: String, layoutVersion: UInt32, only: Set<String>?
    ) throws(BPFError) {
        let next = try LayoutExchange.begin(in: folder)
        for (name, _) in namedMaps(only: only) where step.concerns(name) && name != "layout" {
            let present = try RawMap(descriptor: try descriptor(ofMap: name), name: name)
            let former = try RawMap.pinned(at: folder + "/" + name)
            if let change = step.changes[name], let former {
                guard Int(former.shape.keyBytes) == change.keyBytes, Int(former.shape.valueBytes) == change.valueBytes
                else { throw refusal(former.name, "it has \(former.shape), as no layout that is known") }
                var others: [String: RawEntries] = [:]
                for other in change.reads.sorted() {
                    others[other] = try RawMap.pinned(at: folder + "/" + other)?.entries()
                }
                let map = ConvertedMap(former: former, present: present, change: change, others: others)
                try map.copy(mode: .any)
                converted.append(map)
            }
            try present.pin(at: next + "/" + name)
        }
        let layout: BPFMap<UInt32, UInt32> = try map("layout")
        try layout.put(0, layoutVersion)
        try layout.pin(at: next + "/layout")
        try LayoutExchange.commit(in: folder)
        try LayoutExchange.finish(in: folder)
    }

    private mutating func reuseMaps(
        in folder: String, except migration: LayoutStep?, only: Set<String>?
    ) throws(BPFError) -> Set<String> {
        var reused: Set<String> = []
        for map in declaredMaps() {
            guard let text = bpf_map__name(map) else { continue }
            let name = String(cString: text)
            guard only?.contains(name) ?? true || name == "layout" else { continue }
            guard !isScratch(name) else {
                unlink(folder + "/" + name)
                continue
            }
            if let migration, migration.concerns(name) || name == "layout" { continue }
            let path = folder + "/" + name
            guard let pinned = try Descriptor.pinned(at: path) else { continue }
            try checkShape(of: pinned, at: path, against: map)
            guard bpf_map__reuse_fd(map, pinned.number) == 0 else { throw BPFError.latest("use again", "map \(path)") }
            reused.insert(name)
        }
        return reused
    }

    private func checkShape(of pinned: Descriptor, at path: String, against map: OpaquePointer) throws(BPFError) {
        let shape = try BPFMapShape(of: pinned, subject: "map \(path)")
        var expected = shape
        expected.type = bpf_map__type(map).rawValue
        expected.keyBytes = bpf_map__key_size(map)
        expected.valueBytes = bpf_map__value_size(map)
        guard shape == expected else {
            throw refusal(path, "it has \(shape); expected \(expected)")
        }
    }

    private func refusal(_ subject: String, _ cause: String) -> BPFError {
        BPFError(
            operation: "use the pinned maps of", subject: subject, code: 0, cause: cause,
            remedy: "go back to the version that made them, or stop the service and remove them: connections are lost"
        )
    }
}

extension LayoutStep {
    /// Whether a map of this name is made anew.
    fileprivate func concerns(_ name: String) -> Bool { changes[name] != nil || dropped.contains(name) }
}
