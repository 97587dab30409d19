import Model

/// A key of a module's configuration, with its documentation.
public struct ModuleKey: Hashable, Sendable {
    /// What may stand there.
    public enum Kind: Hashable, Sendable {
        /// true or false; 1 and 0 in `ModuleOptions`.
        case flag
        /// One of these numbers, rising.
        case number([Int])
    }

    public var name: String
    /// What it means, its unit and its default; shown by `--help` and in the manual.
    public var documentation: String
    public var kind: Kind

    public init(name: String, documentation: String, kind: Kind = .flag) {
        self.name = name
        self.documentation = documentation
        self.kind = kind
    }
}

/// What a configuration says to a module, by the names of its keys; what is not said has the module's default.
public struct ModuleOptions: Hashable, Sendable {
    public var values: [String: Int]

    public init(_ values: [String: Int] = [:]) {
        self.values = values
    }

    public func flag(_ name: String) -> Bool { values[name] == 1 }
    public func number(_ name: String, default: Int) -> Int { values[name] ?? `default` }
}

/// What a module says of itself, and how to make one.
public struct ModuleDescriptor<Module: Sendable>: Sendable {
    /// The name in configuration files.
    public var name: String
    public var version: String
    /// One line for `--help`.
    public var summary: String
    public var keys: [ModuleKey]
    public var make: Module

    public init(name: String, version: String, summary: String, keys: [ModuleKey] = [], make: Module) {
        self.name = name
        self.version = version
        self.summary = summary
        self.keys = keys
        self.make = make
    }
}

public typealias DispatchFactory = @Sendable (ModuleOptions) -> any DispatchPolicy
public typealias ForwardingFactory = @Sendable () -> any ForwardingModule
public typealias DetectorFactory = @Sendable (DetectorParameters) -> any FailureDetector
public typealias RingFactory = @Sendable () -> any RingModule

/// All modules of the program, registered one by one at its start; there is no search and no hidden list.
public struct ModuleRegistry: Sendable {
    /// Each list in the order of registration.
    public private(set) var dispatch: [ModuleDescriptor<DispatchFactory>] = []
    public private(set) var forwarding: [ModuleDescriptor<ForwardingFactory>] = []
    public private(set) var detection: [ModuleDescriptor<DetectorFactory>] = []
    public private(set) var ring: [ModuleDescriptor<RingFactory>] = []

    public init() {}

    /// - Returns: false, and nothing is changed, when the name is taken.
    @discardableResult
    public mutating func register(dispatch descriptor: ModuleDescriptor<DispatchFactory>) -> Bool {
        Self.add(descriptor, to: &dispatch)
    }

    @discardableResult
    public mutating func register(forwarding descriptor: ModuleDescriptor<ForwardingFactory>) -> Bool {
        Self.add(descriptor, to: &forwarding)
    }

    @discardableResult
    public mutating func register(detection descriptor: ModuleDescriptor<DetectorFactory>) -> Bool {
        Self.add(descriptor, to: &detection)
    }

    @discardableResult
    public mutating func register(ring descriptor: ModuleDescriptor<RingFactory>) -> Bool {
        Self.add(descriptor, to: &ring)
    }

    public func dispatch(named name: String) -> DispatchFactory? { dispatch.first { $0.name == name }?.make }
    public func forwarding(named name: String) -> ForwardingFactory? { forwarding.first { $0.name == name }?.make }
    public func detection(named name: String) -> DetectorFactory? { detection.first { $0.name == name }?.make }
    public func ring(named name: String) -> RingFactory? { ring.first { $0.name == name }?.make }

    private static func add<Factory>(
        _ descriptor: ModuleDescriptor<Factory>,
        to list: inout [ModuleDescriptor<Factory>]
    ) -> Bool {
        guard !list.contains(where: { $0.name == descriptor.name }) else { return false }
        list.append(descriptor)
        return true
    }
}
