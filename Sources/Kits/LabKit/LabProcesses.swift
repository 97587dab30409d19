import Glibc
import Model
import Synchronization

extension Lab {
    /// The namespace, address and processes of one node.
    public struct Node: Sendable, Codable {
        public var name: String
        public var address: String
        public var namespace: String
        public var cable: String
        public var frozen: Bool
        public var processes: [Process]

        public struct Process: Sendable, Codable {
            public var role: String
            public var process: Int32
            public var running: Bool
        }
    }

    /// A node as it is now. Throws `.invalid` for a name that is not a node of the lab.
    public func node(_ name: String) throws -> Node {
        try checkNode(name)
        guard let state = LabState.read(plan) else { throw LabError.state("no lab named \"\(plan.name)\" is up") }
        return Node(
            name: name,
            address: plan.address(of: name)?.description ?? "",
            namespace: plan.namespace(name),
            cable: state.cut.contains(name) ? "cut" : "connected",
            frozen: state.frozen.contains(name),
            processes: state.processes.filter { $0.node == name }.map {
                Node.Process(role: $0.role, process: $0.identity.process, running: $0.identity.isAlive)
            }
        )
    }

    func checkNode(_ name: String) throws {
        guard plan.nodes.contains(name) else {
            throw LabError.invalid("no node named \"\(name)\"; the nodes are \(plan.nodes.joined(separator: ", "))")
        }
    }

    // MARK: Commands in nodes

    /// Runs a command in a node to its end. For programs that print text; downloads have `Download`.
    @discardableResult
    public func run(in node: String, command: [String], timeout seconds: Double = 60) throws -> CommandResult {
        try checkNode(node)
        return try runCommand(Topology.enter(plan, node, command), timeout: seconds)
    }

    /// Starts a command in a node. The caller waits for it; `down` kills it with all else in the node.
    public func spawn(
        in node: String,
        command: [String],
        input: StandardStream = .null,
        output: StandardStream = .null,
        error: StandardStream = .null
    ) throws -> ChildProcess {
        try checkNode(node)
        return try ChildProcess(Topology.enter(plan, node, command), input: input, output: output, error: error)
    }

    /// Becomes a command in a node: same terminal, same process, its exit status. Returns only by throwing.
    public func replaceProcess(in node: String, command: [String]) throws -> Never {
        try checkNode(node)
        guard !command.isEmpty else { throw LabError.invalid("no command given") }
        guard fileExists(plan.namespacePath(node)) else { throw LabError.state("lab \"\(plan.name)\" is not up") }
        var none = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, nil)
        Glibc.signal(SIGPIPE, SIG_DFL)
        let arguments = Topology.enter(plan, node, command)
        let code = withCStrings(arguments) { pointers in
            execvp(arguments[0], pointers)
            return errno
        }
        throw LabError.system(arguments[0], code: code)
    }

    /// Sets kernel parameters of a node's network, as `name=value` (sysctl.d(5) without spaces around the sign).
    public func setKernel(_ node: String, _ settings: [String]) throws {
        try checkNode(node)
        try require(Topology.enter(plan, node, ["sysctl", "-q", "-w"] + settings))
    }

    // MARK: Daemons and web servers

    /// Starts (or starts again) the Baton daemon of a node: `baton-director` on the director, else `baton-agent`.
    public func startDaemon(_ node: String) throws {
        let director = node == "director"
        let program = programs + (director ? "/baton-director" : "/baton-agent")
        let configuration = director ? plan.directorConfiguration : plan.agentConfiguration(node)
        try start(node, role: director ? "director" : "agent", [program, "--configuration", configuration])
    }

    public func startWebServer(_ node: String) throws {
        let web = try server(node)
        let child = try start(node, role: options.server.rawValue, web.command)
        let path = plan.namespacePath(node)
        try waitUntil("\(options.server.rawValue) on \(node) listening", timeout: 10) {
            if let status = child.poll() {
                throw LabError.failed("\(options.server.rawValue) on \(node) ended with \(status): \(tail(web.prefix + "/error.log"))")
            }
            return try KernelSockets.listening(inNamespace: path).contains(LabPlan.port)
        }
    }

    /// Starts a process of a node, with its output in `plan.log(node, role)`, and records it.
    @discardableResult
    public func start(_ node: String, role: String, _ command: [String]) throws -> ChildProcess {
        try checkNode(node)
        let log = StandardStream.file(plan.log(node, role))
        let child = try ChildProcess(Topology.enter(plan, node, command), output: log, error: log)
        children.withLock { $0.append(child) }
        try LabState.update(plan) { state in
            state.processes.removeAll { $0.node == node && $0.role == role }
            state.processes.append(
                LabState.Process(node: node, role: role, identity: child.identity, command: command))
        }
        return child
    }

    /// Sends a signal to one recorded process of a node; false when it is not running.
    @discardableResult
    public func signal(_ node: String, role: String, _ number: Int32) throws -> Bool {
        try checkNode(node)
        let found = LabState.read(plan)?.processes.first { $0.node == node && $0.role == role }
        defer { collectChildren() }
        return found?.identity.signal(number) ?? false
    }

    func collectChildren() {
        children.withLock { list in list.removeAll { $0.poll() != nil } }
    }

    /// Waits until the director says that every back-end is live.
    public func waitUntilLive() throws {
        do {
            try waitUntil("all back-ends live", timeout: options.readyTimeout, every: 20) {
                try checkDaemonsRun()
                guard let status = try? directorStatus() else { return false }
                let live = (status["backends"]?.array ?? []).filter { $0["state"]?.string == "live" }
                return live.count == plan.backends
            }
        } catch let error as LabError {
            guard case .timeout = error else { throw error }
            let state = (try? directorStatus()).flatMap { try? JSONValue.text($0["backends"] ?? .null, pretty: false) }
            throw LabError.failed(
                "\(error); the director says: \(state ?? "nothing"); its log: \(tail(plan.log("director", "director")))"
            )
        }
    }

    private func checkDaemonsRun() throws {
        for process in LabState.read(plan)?.processes ?? [] where !process.identity.isAlive {
            throw LabError.failed(
                "\(process.role) on \(process.node) has ended: \(tail(plan.log(process.node, process.role)))")
        }
    }

    /// The last lines of a log, for error messages.
    func tail(_ path: String, lines: Int = 5) -> String {
        let all = (readFile(path) ?? "").split(whereSeparator: \.isNewline)
        return all.isEmpty ? "(\(path) is empty)" : all.suffix(lines).joined(separator: "; ")
    }

    // MARK: batonctl

    /// `batonctl status --json` of the director. Throws when the daemon does not answer.
    public func directorStatus() throws -> JSONValue { try control("status", socket: plan.socket) }

    public func agentStatus(_ node: String) throws -> JSONValue {
        try control("status", socket: plan.agentSocket(node))
    }

    public func directorFlows() throws -> JSONValue { try control("flows", socket: plan.socket) }

    /// `batonctl service forwarding`; throws with the daemon's words when it refuses.
    public func setForwarding(of service: String, _ method: String) throws {
        let command = [programs + "/batonctl", "--socket", plan.socket, "service", "forwarding", service, method]
        _ = try require(command, timeout: 10)
    }

    private func control(_ verb: String, socket: String) throws -> JSONValue {
        let command = [programs + "/batonctl", "--socket", socket, verb, "--json"]
        return try JSONValue(text: require(command, timeout: 10))
    }
}
