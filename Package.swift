// swift-tools-version: 6.3
import PackageDescription

// The layers of docs/ARCHITECTURE.md are folders below Sources; arrows point down only.
//
// Tests look at internals (@testable) of release builds too: the one build that is tested is the one that is shipped.
let strict: [SwiftSetting] = [
    .unsafeFlags(["-enable-testing"], .when(configuration: .release)),
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// L0 and L1: pure machines; they import nothing but one another.
func core(_ name: String, _ dependencies: [Target.Dependency] = [], folder: String = "Core") -> Target {
    .target(name: name, dependencies: dependencies, path: "Sources/\(folder)/\(name)", swiftSettings: strict)
}

/// L3: one thin target for each thing of Linux.
func edge(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, path: "Sources/Edges/\(name)", swiftSettings: strict)
}

func systemLibrary(_ name: String, pkgConfig: String, package: String) -> Target {
    .systemLibrary(name: name, path: "Sources/Edges/\(name)", pkgConfig: pkgConfig, providers: [.apt([package])])
}

func kit(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, path: "Sources/Kits/\(name)", swiftSettings: strict)
}

func program(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: name,
        dependencies: dependencies + [
            .product(name: "ArgumentParser", package: "swift-argument-parser")
        ],
        path: "Sources/Programs/\(name)",
        swiftSettings: strict
    )
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, path: "Tests/\(name)", exclude: exclude, swiftSettings: strict)
}

/// What every daemon's `main` needs.
let programKit: [Target.Dependency] = [
    "Configuration", "ControlPlane", "DaemonKit",
    .product(name: "Logging", package: "swift-log"),
    .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
]
let nio: [Target.Dependency] = [
    .product(name: "NIOCore", package: "swift-nio"),
    .product(name: "NIOPosix", package: "swift-nio"),
    .product(name: "Logging", package: "swift-log"),
]

let package = Package(
    name: "baton",
    products: [
        .executable(name: "baton-director", targets: ["baton-director"]),
        .executable(name: "baton-agent", targets: ["baton-agent"]),
        .executable(name: "batonctl", targets: ["batonctl"]),
        .executable(name: "baton-lab", targets: ["baton-lab"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto.git", from: "4.5.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
        .package(url: "https://github.com/jpsim/Yams.git", from: "6.2.2"),
    ],
    targets: [
        // L0: pure machines
        core("Model"),
        core("HTTP", ["Model"]),
        core("Wire", ["Model", "HTTP"]),
        core("Tracking", ["Model", "Wire", "HTTP"]),
        core("Takeover", ["Model", "Wire", "HTTP", "Tracking"]),
        core("Cluster", ["Model", "Wire", "HTTP", "ModuleInterfaces"]),
        // L1: module interfaces, and the modules built in
        core("ModuleInterfaces", ["Model"], folder: "Modules"),
        .target(
            name: "BuiltinModules",
            dependencies: ["Model", "ModuleInterfaces"],
            path: "Plugins/Builtin",
            swiftSettings: strict
        ),
        // L2: simulation
        .target(
            name: "SimulationKit",
            dependencies: [
                "Model", "HTTP", "Wire", "Tracking", "Takeover", "Cluster", "ModuleInterfaces", "BuiltinModules",
            ],
            path: "Sources/Simulation/SimulationKit",
            swiftSettings: strict
        ),
        // L3: the Linux edges
        .target(name: "CContract", path: "Sources/Edges/CContract"),
        .target(name: "CLinux", path: "Sources/Edges/CLinux"),
        systemLibrary("Clibbpf", pkgConfig: "libbpf", package: "libbpf-dev"),
        systemLibrary("Clibnftnl", pkgConfig: "libnftnl", package: "libnftnl-dev"),
        systemLibrary("Clibpcap", pkgConfig: "libpcap", package: "libpcap-dev"),
        .executableTarget(name: "bpf-embed", path: "Sources/Programs/bpf-embed", swiftSettings: strict),
        .plugin(name: "BPFCompile", capability: .buildTool(), dependencies: ["bpf-embed"], path: "Plugins/BPFCompile"),
        .target(
            name: "BPFObjects",
            dependencies: ["CContract"],
            path: "Sources/Edges/BPFObjects",
            exclude: ["bpf"],
            swiftSettings: strict,
            plugins: ["BPFCompile"]
        ),
        edge("LinuxBPF", ["Model", "CContract", "Clibbpf", "BPFObjects"]),
        .target(name: "CPolicy", path: "Sources/Modules/CPolicy"),
        edge("LinuxPolicies", ["Model", "ModuleInterfaces", "CPolicy"]),
        edge("LinuxBase", ["Model", "CLinux"]),
        edge("LinuxNetfilter", ["Model", "Clibnftnl", "LinuxBase"]),
        edge("LinuxCapture", ["Model", "Clibpcap", "LinuxBase"]),
        edge("LinuxNetwork", ["Model", "CLinux", "LinuxBase"]),
        // L4: machines wired to edges
        kit("Configuration", ["Model", .product(name: "Yams", package: "Yams")]),
        kit("AdminProtocol", []),
        kit(
            "ControlPlane",
            nio + [
                "Model",
                .product(name: "NIOTLS", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "Crypto", package: "swift-crypto"),
            ]
        ),
        kit(
            "HealthKit",
            nio + [
                "Model", "Cluster", "LinuxBase", "Configuration",
                .product(name: "NIOTLS", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ]
        ),
        kit(
            "DirectorKit",
            nio + [
                "HealthKit", "Model", "Wire", "Cluster", "ModuleInterfaces", "BuiltinModules", "CContract", "LinuxBase", "LinuxBPF",
                "LinuxNetwork", "Configuration", "ControlPlane", "AdminProtocol",
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]
        ),
        kit(
            "AgentKit",
            nio + [
                "HealthKit", "Model", "Wire", "HTTP", "Cluster", "Tracking", "Takeover", "CContract", "BPFObjects", "LinuxBase", "LinuxBPF",
                "LinuxNetfilter", "LinuxCapture", "LinuxNetwork", "Configuration", "ControlPlane", "AdminProtocol",
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]
        ),
        kit(
            "DoctorKit",
            ["Model", "CContract", "CLinux", "Configuration", "LinuxBase", "LinuxBPF", "LinuxNetwork"]
        ),
        .target(name: "CLab", path: "Sources/Kits/LabKit/CLab"),
        .target(
            name: "LabKit",
            dependencies: ["Model", "CLab", "LinuxBPF", "CContract", "BPFObjects", .product(name: "Crypto", package: "swift-crypto")],
            path: "Sources/Kits/LabKit",
            exclude: ["CLab"],
            swiftSettings: strict
        ),
        kit(
            "DaemonKit",
            [
                "Configuration", "ControlPlane", "LinuxBase", "LinuxBPF",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ]
        ),
        // L5: the programs
        program("baton-director", programKit + ["DirectorKit", "BuiltinModules", "ModuleInterfaces", "LinuxPolicies"]),
        program("baton-agent", programKit + ["AgentKit"]),
        program(
            "batonctl",
            [
                "ControlPlane", "AdminProtocol", "Model", "Configuration", "DoctorKit", "BuiltinModules",
                "ModuleInterfaces", "LinuxPolicies",
            ]
        ),
        program("baton-lab", ["LabKit"]),
        // Tests
        tests("ModelTests", ["Model"]),
        tests("WireTests", ["Wire", "HTTP", "Model"]),
        tests("HTTPTests", ["HTTP", "Model"]),
        tests("TrackingTests", ["Tracking", "HTTP", "Wire", "Model"]),
        tests("TakeoverTests", ["Takeover", "Tracking", "HTTP", "Wire", "Model"]),
        tests("ClusterTests", ["SimulationKit", "Cluster", "Wire", "Model", "ModuleInterfaces", "BuiltinModules"]),
        tests("BuiltinModulesTests", ["BuiltinModules", "ModuleInterfaces", "Model"]),
        tests("PolicyLoadingTests", ["LinuxPolicies", "ModuleInterfaces", "Model"]),
        tests("SimulationTests", ["SimulationKit", "Model"]),
        tests("BPFTests", ["LinuxBPF", "LinuxNetwork", "BPFObjects", "CContract", "Model", "CLinux"]),
        tests(
            "LinuxEdgesTests",
            ["Model", "CLinux", "LinuxBase", "LinuxNetfilter", "LinuxCapture", "LinuxNetwork"]
        ),
        tests("ConfigurationTests", ["Configuration", "Model"]),
        tests(
            "ControlPlaneTests",
            nio + [
                "ControlPlane", "Model",
                .product(name: "NIOTLS", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "Crypto", package: "swift-crypto"),
            ]
        ),
        tests("AgentKitTests", nio + ["AgentKit", "HealthKit", "Configuration", "Model"]),
        tests(
            "HealthKitTests",
            nio + [
                "HealthKit", "Cluster", "Model",
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ]
        ),
        tests("DirectorKitTests", ["DirectorKit", "Configuration", "LinuxBPF", "CContract", "Model"]),
        tests("DoctorKitTests", ["DoctorKit", "Configuration", "LinuxBPF", "LinuxNetwork", "Model"]),
        tests("LabKitTests", ["LabKit", "Model"]),
        tests("ScenarioTests", ["LabKit"]),
    ]
)
