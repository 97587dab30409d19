import BPFObjects
import Clibbpf
import Glibc

/// One eBPF object on its way into the kernel: opened from memory, configured, loaded.
///
/// One thread at a time may use it. What it hands out (maps, programs) holds descriptors of its own, may be used from
/// any thread and lives on when the handle is gone.
///
///     var object = try BPFObjectHandle(.director)
///     try object.setConstant("interface_address", address)
///     try object.setMaxEntries(of: "flows", flows)
///     let pins = try object.load(pinningMapsIn: folder, layoutVersion: version)
///     let program = try object.program("baton_director")
public struct BPFObjectHandle: ~Copyable {
    public let name: String
    let object: OpaquePointer
    private let log: UnsafeMutablePointer<CChar>
    private static let logBytes = 4 << 20
    private var isLoaded = false
    /// Maps of a former layout that this one's were filled from.
    var converted: [ConvertedMap] = []

    /// Parses the object; the kernel is not asked yet.
    public init(_ source: BPFObject) throws(BPFError) {
        LibbpfLog.clear()
        name = source.name
        log = UnsafeMutablePointer<CChar>.allocate(capacity: BPFObjectHandle.logBytes)
        log.pointee = 0
        let opened = BPFObjectHandle.open(source, log: log)
        guard let opened else {
            log.deallocate()
            throw BPFError.latest("open", "eBPF object \(source.name)", remedy: "the build is broken: build again")
        }
        object = opened
    }

    private static func open(_ source: BPFObject, log: UnsafeMutablePointer<CChar>) -> OpaquePointer? {
        var options = bpf_object_open_opts()
        options.sz = BATON_OBJECT_OPEN_OPTIONS_BYTES
        // libbpf asks the verifier for a log only when a program was refused.
        options.kernel_log_buf = log
        options.kernel_log_size = logBytes
        return source.name.withCString { name in
            options.object_name = name
            return source.bytes.withUnsafeBytes { bpf_object__open_mem($0.baseAddress, $0.count, &options) }
        }
    }

    deinit {
        bpf_object__close(object)
        log.deallocate()
    }

    // MARK: Before load

    /// Sets a global `const volatile` variable, which the verifier then takes for a constant. Only before `load`.
    ///
    /// - Throws: when the program has no such variable, or one of another size.
    public mutating func setConstant<Value: BitwiseCopyable>(_ variable: String, _ value: Value) throws(BPFError) {
        let bytes = withUnsafeBytes(of: value) { Array($0) }
        try setGlobal(variable, section: ".rodata", bytes)
    }

    /// Sets an initialised or zero-initialised global variable by its section (".data" or ".bss"). Only before `load`.
    public mutating func setGlobal(_ variable: String, section: String, _ bytes: [UInt8]) throws(BPFError) {
        let subject = "variable \(variable) of eBPF object \(name)"
        guard let types = bpf_object__btf(object), let map = bpf_object__find_map_by_name(object, section) else {
            throw BPFError(operation: "set", subject: subject, code: 0, cause: "it has no section \(section)")
        }
        guard let place = baton_btf_section_variable(types, section, variable) else {
            throw BPFError(operation: "set", subject: subject, code: 0, cause: "there is none in \(section)")
        }
        guard Int(place.pointee.size) == bytes.count else {
            throw BPFError(
                operation: "set", subject: subject, code: 0,
                cause: "it has \(place.pointee.size) bytes, the value \(bytes.count)"
            )
        }
        var size = 0
        guard let initial = bpf_map__initial_value(map, &size), Int(place.pointee.offset) + bytes.count <= size else {
            throw BPFError(operation: "set", subject: subject, code: 0, cause: "\(section) has no initial value")
        }
        var contents = Array(UnsafeRawBufferPointer(start: initial, count: size))
        contents.replaceSubrange(Int(place.pointee.offset)..<Int(place.pointee.offset) + bytes.count, with: bytes)
        guard bpf_map__set_initial_value(map, contents, size) == 0 else { throw BPFError.latest("set", subject) }
    }

    /// Sets a map's size. Only before `load`; a pinned map that is used again keeps the size that it has.
    public mutating func setMaxEntries(of map: String, _ count: UInt32) throws(BPFError) {
        guard bpf_map__set_max_entries(try find(map: map), count) == 0 else {
            throw BPFError.latest("set the size of", "map \(map)")
        }
    }

    /// Leaves a program out of the load, for instance one that this kernel cannot run. Only before `load`.
    public mutating func leaveOut(program: String) throws(BPFError) {
        guard bpf_program__set_autoload(try find(program: program), false) == 0 else {
            throw BPFError.latest("leave out", "eBPF program \(program)")
        }
    }

    // MARK: Load

    /// Loads maps and programs, nothing pinned. The verifier's last lines are in the error when it refuses one.
    public mutating func load() throws(BPFError) {
        guard !isLoaded else { return }
        LibbpfLog.clear()
        log.pointee = 0
        guard bpf_object__load(object) == 0 else {
            throw BPFError.latest("load", "eBPF object \(name)", verifierLog: verifierExcerpt())
        }
        isLoaded = true
    }

    private func verifierExcerpt() -> String {
        let bytes = UnsafeRawBufferPointer(start: log, count: strnlen(log, BPFObjectHandle.logBytes))
        let lines = bytes.suffix(16_384).split(separator: UInt8(ascii: "\n"))
        return lines.suffix(12).map { String(decoding: $0, as: UTF8.self) }.joined(separator: "\n")
    }

    // MARK: After load

    /// A program of the loaded object, by the name of its C function.
    public func program(_ name: String) throws(BPFError) -> BPFProgram {
        let number = bpf_program__fd(try find(program: name))
        guard number >= 0 else {
            throw BPFError(
                operation: "use", subject: "eBPF program \(name)", code: 0, cause: "it has not been loaded")
        }
        return BPFProgram(name: name, descriptor: try Descriptor(copying: number, subject: "eBPF program \(name)"))
    }

    /// A map of the loaded object.
    public func map<Key: BitwiseCopyable, Value: BitwiseCopyable>(
        _ name: String, key: Key.Type = Key.self, value: Value.Type = Value.self
    ) throws(BPFError) -> BPFMap<Key, Value> {
        try BPFMap(descriptor: try descriptor(ofMap: name), name: name)
    }

    /// A per-CPU map of 64-bit counters of the loaded object.
    public func counters(_ name: String) throws(BPFError) -> BPFCounters {
        try BPFCounters(descriptor: try descriptor(ofMap: name), name: name)
    }

    /// The ring buffer of the loaded object.
    public func ringBuffer(
        _ name: String, handler: @escaping (UnsafeRawBufferPointer) -> Void
    ) throws(BPFError) -> BPFRingBuffer {
        try BPFRingBuffer(descriptor: try descriptor(ofMap: name), name: name, handler: handler)
    }

    // MARK: Inside

    func descriptor(ofMap name: String) throws(BPFError) -> Descriptor {
        let number = bpf_map__fd(try find(map: name))
        guard number >= 0 else {
            throw BPFError(operation: "use", subject: "map \(name)", code: 0, cause: "it has not been loaded")
        }
        return try Descriptor(copying: number, subject: "map \(name)")
    }

    func find(map name: String) throws(BPFError) -> OpaquePointer {
        guard let map = bpf_object__find_map_by_name(object, name) else {
            throw BPFError(
                operation: "find", subject: "map \(name)", code: 0, cause: "eBPF object \(self.name) has none such")
        }
        return map
    }

    private func find(program name: String) throws(BPFError) -> OpaquePointer {
        guard let program = bpf_object__find_program_by_name(object, name) else {
            throw BPFError(
                operation: "find", subject: "eBPF program \(name)", code: 0,
                cause: "eBPF object \(self.name) has none such"
            )
        }
        return program
    }

    /// The maps that the source declares; libbpf's own, as `.rodata`, left out.
    func declaredMaps() -> [OpaquePointer] {
        var maps: [OpaquePointer] = []
        var map = bpf_object__next_map(object, nil)
        while let found = map {
            if !bpf_map__is_internal(found) { maps.append(found) }
            map = bpf_object__next_map(object, found)
        }
        return maps
    }
}

/// A program in the kernel; any thread may use it.
public struct BPFProgram: Sendable {
    public let name: String
    let descriptor: Descriptor
}
