import ModuleInterfaces

/// The modules that every program of Baton carries.
public enum BuiltinModules {
    static let version = "1"

    /// Registers all of them; a new module is a new file and a new line here.
    public static func register(in registry: inout ModuleRegistry) {
        registry.register(dispatch: RoundRobin.descriptor)
        registry.register(dispatch: WeightedRoundRobin.descriptor)
        registry.register(dispatch: LeastConnection.descriptor)
        registry.register(dispatch: WeightedLeastConnection.descriptor)
        registry.register(dispatch: ShortestExpectedDelay.descriptor)
        registry.register(dispatch: NeverQueue.descriptor)
        registry.register(dispatch: SourceHash.descriptor)
        registry.register(dispatch: DestinationHash.descriptor)
        registry.register(dispatch: LocalityLeastConnection.descriptor)
        registry.register(dispatch: LocalityReplication.descriptor)
        registry.register(dispatch: WeightedFailover.descriptor)
        registry.register(dispatch: WeightedOverflow.descriptor)
        registry.register(dispatch: MaglevHash.descriptor)
        registry.register(dispatch: TwoChoices.descriptor)
        registry.register(forwarding: SelectiveForwarding.descriptor)
        registry.register(forwarding: MulticastForwarding.descriptor)
        registry.register(forwarding: DuplicateForwarding.descriptor)
        registry.register(forwarding: OwnerForwarding.descriptor)
        registry.register(detection: WindowDetector.descriptor)
        registry.register(detection: PhiDetector.descriptor)
        registry.register(ring: SuccessorRing.descriptor)
    }

    /// A registry of the built-in modules only.
    public static var registry: ModuleRegistry {
        var registry = ModuleRegistry()
        register(in: &registry)
        return registry
    }
}
