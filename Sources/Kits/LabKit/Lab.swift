import CLab
import Glibc
import Model
import Synchronization

/// A Baton cluster in network namespaces of this machine: a client, a router, a director and web servers.
///
/// Real daemons with real configuration files, real nginx, real kernel TCP. All calls block; they may come from any
/// thread, one at a time for each node. Whoever calls `up` calls `down`, after an error too.
public final class Lab: Sendable {
    public let plan: LabPlan
    public let options: LabOptions
    /// Where the daemons' programs are.
    public let programs: String
    let progress: @Sendable (String) -> Void
    /// Processes that this very process started: they are collected when they end.
    let children = Mutex<[ChildProcess]>([])

    /// A lab that is not up yet.
    ///
    /// - Parameter progress: gets one line for each step.
    /// - Throws: `LabError.invalid` for a name or an option that cannot be.
    public init(
        name: String = "lab",
        options: LabOptions = LabOptions(),
        progress: @escaping @Sendable (String) -> Void = { _ in }
    ) throws {
        try options.validate()
        plan = try LabPlan(name: name, backends: options.backends)
        self.options = options
        programs = options.programs ?? Requirements.programDirectory
        self.progress = progress
    }

    /// A lab that another process brought up.
    public static func existing(
        name: String,
        progress: @escaping @Sendable (String) -> Void = { _ in }
    ) throws -> Lab {
        let probe = try LabPlan(name: name, backends: 0)
        guard let state = LabState.read(probe) else {
            throw LabError.state("no lab named \"\(name)\" is up; run `baton-lab up --lab \(name)` first")
        }
        var options = LabOptions()
        options.backends = state.backends
        options.daemons = state.daemons
        options.programs = state.programs
        options.server = state.server ?? .nginx
        return try Lab(name: name, options: options, progress: progress)
    }

    /// Whether something of a lab of this name is on the machine, complete or not.
    public var isPresent: Bool { fileExists(plan.directory) || !plan.presentNamespaces.isEmpty }

    /// What clients connect to: the virtual address.
    public var target: String { LabPlan.virtualAddress.description }

    // MARK: Up

    /// Builds the cluster and waits until every back-end is live.
    ///
    /// Throws before anything is changed when the machine lacks something or the lab is up already.
    public func up() throws {
        try Requirements.check(options, programs: programs)
        guard !isPresent else {
            throw LabError.state(
                "a lab named \"\(plan.name)\" is there already; run `baton-lab down --lab \(plan.name)`, "
                    + "or use another --lab"
            )
        }
        try makeWorkDirectory()
        progress("namespaces baton-\(plan.name)-*")
        try Topology(plan: plan, options: options).build(progress)
        try DaemonConfiguration(plan: plan, options: options).write()
        progress("file of \(byteText(options.fileSize)), the same on every web server")
        try publish("/large.bin", size: options.fileSize, seed: options.seed)
        for node in plan.webNodes {
            try server(node).prepare()
            try startWebServer(node)
        }
        progress("\(options.server.rawValue) on \(plan.webNodes.joined(separator: ", "))")
        if options.daemons {
            try startDaemon("director")
            progress("baton-director on director")
            for node in plan.webNodes { try startDaemon(node) }
            progress("baton-agent on \(plan.webNodes.joined(separator: ", "))")
            try waitUntilLive()
            progress("all back-ends live")
        }
        try LabState.update(plan) { $0.ready = true }
    }

    private func makeWorkDirectory() throws {
        try makeDirectory(plan.directory)
        for node in plan.nodes { try makeDirectory(plan.directory + "/" + node) }
        let root = try chooseWebRoot()
        let state = LabState(
            name: plan.name, backends: plan.backends, daemons: options.daemons, programs: programs, webRoot: root, server: options.server)
        try state.write(plan)
        try makeDirectory(root)
        try makeDirectory(plan.pins)
        guard clab_mount_bpf(plan.pins) == 0 else { throw LabError.system("bpffs at \(plan.pins)", code: errno) }
    }

    /// /run is often a small memory file system: the web root goes to /var/tmp when it does not fit there.
    private func chooseWebRoot() throws -> String {
        let needed = options.fileSize + 64_000_000
        if freeBytes(plan.directory) > needed { return plan.directory + "/www" }
        guard freeBytes("/var/tmp") > needed else {
            throw LabError.missing(
                "neither /run nor /var/tmp has \(byteText(needed)) free", remedy: "free some, or ask for a smaller file"
            )
        }
        return plan.fallbackWebRoot
    }

    // MARK: Down

    public func down() throws {
        try Lab.down(name: plan.name)
        Interrupts.shield {
            let own = children.withLock { list in
                defer { list = [] }
                return list
            }
            for child in own { child.end() }
        }
    }

    /// Takes a lab away: processes, namespaces, mounts, files. Works after a half-failed `up`, and when nothing is
    /// there.
    ///
    /// Kills only processes within the lab's own namespaces and those that the lab recorded, by number and start time.
    /// A signal does not stop it. Throws what could not be removed, after all the rest was.
    public static func down(name: String) throws {
        let plan = try LabPlan(name: name, backends: 0)
        try Interrupts.shield {
            var first: (any Error)?
            func attempt(_ step: () throws -> Void) {
                do { try step() } catch { first = first ?? error }
            }
            let state = LabState.read(plan)
            for process in state?.processes ?? [] { process.identity.signal(SIGKILL) }
            for namespace in plan.presentNamespaces {
                let path = LabPlan.namespaceDirectory + "/" + namespace
                attempt { try ProcessTable.killAll(inNamespace: path) }
                attempt { try removeNamespace(namespace, path) }
            }
            for point in mountPoints(below: plan.directory) { attempt { try unmount(point) } }
            attempt { try removeTree(plan.directory) }
            attempt { try removeTree(plan.fallbackWebRoot) }
            rmdir(LabPlan.root)
            if let first { throw first }
        }
    }

    private static func removeNamespace(_ namespace: String, _ path: String) throws {
        let result = try runCommand(["ip", "netns", "delete", namespace])
        // Left by an interrupted `ip netns add`: a plain file that nothing is mounted on.
        if !result.status.isSuccess, mountPoints(below: path).isEmpty { unlink(path) }
        guard !fileExists(path) else {
            throw LabError.command(
                ["ip", "netns", "delete", namespace], status: result.status.description,
                output: result.errors.trimmedLines)
        }
    }

    private static func unmount(_ point: String) throws {
        // Busy for a moment after the last process that used it has died.
        try waitUntil("unmounting \(point)", timeout: 20) {
            if clab_unmount(point) == 0 || errno == EINVAL || errno == ENOENT { return true }
            guard errno == EBUSY else { throw LabError.system("umount \(point)", code: errno) }
            return false
        }
    }

    // MARK: Files

    /// Makes a file of pseudo-random bytes and puts it on every web server, by hard links.
    @discardableResult
    public func publish(_ path: String, size: Int, seed: UInt64) throws -> PublishedFile {
        guard path.hasPrefix("/"), !path.dropFirst().contains("/"), path.count > 1, path != "/.." else {
            throw LabError.invalid("\(path): the path of a published file is / and a name")
        }
        let root = try webRoot()
        try makeDirectory(root + "/store")
        let stored = root + "/store" + path
        let file = try PublishedFile.create(at: stored, path: path, size: size, seed: seed)
        for node in plan.webNodes {
            try makeDirectory(root + "/" + node)
            let copy = root + "/" + node + path
            unlink(copy)
            guard link(stored, copy) == 0 else { throw LabError.system(copy, code: errno) }
        }
        try LabState.update(plan) { state in
            state.files.removeAll { $0.path == path }
            state.files.append(file)
        }
        return file
    }

    /// A file that was published; nil when there is none of that path.
    public func file(_ path: String = "/large.bin") -> PublishedFile? {
        LabState.read(plan)?.files.first { $0.path == path }
    }

    /// The directory of files that one web server serves: a test may put files of its own there.
    public func webDirectory(_ node: String) throws -> String { try webRoot() + "/" + node }

    func webRoot() throws -> String {
        guard let root = LabState.read(plan)?.webRoot else {
            throw LabError.state("no lab named \"\(plan.name)\" is up")
        }
        return root
    }

    func server(_ node: String) throws -> WebServer {
        WebServer(plan: plan, node: node, webRoot: try webRoot(), kind: options.server, ipv6: options.ipv6,
            ports: options.webPorts)
    }
}

extension LabPlan {
    var fallbackWebRoot: String { "/var/tmp/baton-lab-\(name)" }
}
