import Clibbpf
import Glibc

/// What became of a map that is to be pinned.
public struct PinnedMap: Equatable, Sendable {
    public var name: String
    /// Found pinned, with what it holds, rather than made new.
    public var isReused: Bool
    /// Its size; a reused map keeps its old one whatever the configuration says now.
    public var maxEntries: UInt32
}

extension BPFObjectHandle {
    /// Loads the object with the maps that are pinned in a folder already, and pins those that are new.
    ///
    /// The one-element array `layout` holds the version of contract.h that the maps were made by. It is pinned before
    /// all others, so that a daemon that dies in the middle leaves a folder that the next one can tell and complete.
    /// Maps of another version, or of another type or size of key or value, are refused, never read.
    /// - Parameters:
    ///   - folder: made if it is missing (`BPFFileSystem.prepare`); pins are named like the maps.
    ///   - maps: the maps to pin; nil for all that the source declares.
    public mutating func load(
        pinningMapsIn folder: String, layoutVersion: UInt32, maps: Set<String>? = nil
    ) throws(BPFError) -> [PinnedMap] {
        try BPFFileSystem.prepare(folder: folder)
        let reused = try reuseMaps(in: folder, layoutVersion: layoutVersion, only: maps)
        try load()
        if !reused.contains("layout") {
            let layout: BPFMap<UInt32, UInt32> = try map("layout")
            try layout.put(0, layoutVersion)
            try layout.pin(at: folder + "/layout")
        }
        var pinned: [PinnedMap] = []
        for map in declaredMaps() {
            guard let text = bpf_map__name(map) else { continue }
            let name = String(cString: text)
            guard maps?.contains(name) ?? true else { continue }
            let isReused = reused.contains(name)
            if !isReused, name != "layout" { try descriptor(ofMap: name).pin(at: folder + "/" + name) }
            pinned.append(PinnedMap(name: name, isReused: isReused, maxEntries: bpf_map__max_entries(map)))
        }
        return pinned
    }

    private mutating func reuseMaps(
        in folder: String, layoutVersion: UInt32, only: Set<String>?
    ) throws(BPFError) -> Set<String> {
        let layout: BPFMap<UInt32, UInt32>? = try BPFMap.pinned(at: folder + "/layout")
        let found = try layout?.get(0)
        if let found, found != layoutVersion {
            throw refusal(folder, "they have layout version \(found), this program has \(layoutVersion)")
        }
        var reused: Set<String> = []
        for map in declaredMaps() {
            guard let text = bpf_map__name(map) else { continue }
            let name = String(cString: text)
            guard only?.contains(name) ?? true || name == "layout" else { continue }
            let path = folder + "/" + name
            guard let pinned = try Descriptor.pinned(at: path) else { continue }
            guard found != nil else { throw refusal(folder, "they do not say which layout they have") }
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
