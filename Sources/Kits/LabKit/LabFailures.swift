import Glibc
import Model

extension Lab {
    /// Makes a node fail. Returns the instant just before the first blow.
    @discardableResult
    public func kill(_ node: String, how: KillMode) throws -> Instant {
        try checkNode(node)
        guard node != "router" else { throw LabError.invalid("the router has no cable of its own to cut") }
        let topology = Topology(plan: plan, options: options)
        let path = plan.namespacePath(node)
        var instant = Instant.now()
        switch how {
        case .link:
            instant = try topology.setCable(node, up: false)
        case .power:
            // The cable first: a machine without power sends no FIN.
            instant = try topology.setCable(node, up: false)
            try ProcessTable.killAll(inNamespace: path)
        case .app:
            try killWebServer(node)
        case .freeze:
            ProcessTable.signalAll(inNamespace: path, SIGSTOP)
        }
        collectChildren()
        try LabState.update(plan) { state in
            if how == .link || how == .power, !state.cut.contains(node) { state.cut.append(node) }
            if how == .freeze, !state.frozen.contains(node) { state.frozen.append(node) }
        }
        return instant
    }

    private func killWebServer(_ node: String) throws {
        let processes = LabState.read(plan)?.processes ?? []
        guard let master = processes.first(where: { $0.node == node && $0.role == options.server.rawValue })?.identity, master.isAlive
        else { throw LabError.state("no web server is running on \(node)") }
        // The master first: it would start new workers.
        let workers = ProcessTable.members(ofNamespace: plan.namespacePath(node)).filter {
            ProcessEntry($0.process)?.parent == master.process
        }
        master.signal(SIGKILL)
        for worker in workers { worker.signal(SIGKILL) }
        try waitUntil("nginx on \(node) dying", timeout: 5, every: 1) {
            collectChildren()
            return !master.isAlive && workers.allSatisfy { !$0.isAlive }
        }
    }

    /// Lets a frozen node go on, without plugging a cable or starting anything. Returns the instant before.
    @discardableResult
    public func thaw(_ node: String) throws -> Instant {
        try checkNode(node)
        let instant = Instant.now()
        ProcessTable.signalAll(inNamespace: plan.namespacePath(node), SIGCONT)
        try LabState.update(plan) { $0.frozen.removeAll { $0 == node } }
        return instant
    }

    /// Brings a node back: cable in, processes thawed, and started again what is not running.
    public func revive(_ node: String) throws {
        try checkNode(node)
        if node != "router" {
            try Topology(plan: plan, options: options).setCable(node, up: true)
            try LabState.update(plan) { $0.cut.removeAll { $0 == node } }
        }
        try thaw(node)
        collectChildren()
        let known = (LabState.read(plan)?.processes ?? []).filter { $0.node == node && !$0.identity.isAlive }
        for process in known {
            switch process.role {
            case options.server.rawValue: try startWebServer(node)
            case "director", "agent": try startDaemon(node)
            default: try start(node, role: process.role, process.command)
            }
        }
    }

    // MARK: Status

    public struct Status: Sendable, Codable {
        public var lab: String
        public var ready: Bool
        public var directory: String
        public var virtualAddress: String
        public var nodes: [Node]
        public var files: [PublishedFile]
        /// What `batonctl status --json` of the director says; nil when it does not answer.
        public var director: JSONValue?
    }

    public func status() throws -> Status {
        guard let state = LabState.read(plan) else { throw LabError.state("no lab named \"\(plan.name)\" is up") }
        return Status(
            lab: plan.name,
            ready: state.ready,
            directory: plan.directory,
            virtualAddress: LabPlan.virtualAddress.description,
            nodes: try plan.nodes.map(node),
            files: state.files,
            director: options.daemons ? try? directorStatus() : nil
        )
    }
}
