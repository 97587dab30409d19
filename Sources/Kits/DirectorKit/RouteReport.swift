import AdminProtocol
import CContract
import Cluster
import Configuration
import ControlPlane
import LinuxBPF
import LinuxBase
import LinuxNetwork
import Model
import Wire

/// What `batonctl route` asks: the data plane's own code says where a flow would go. On the control thread.
struct RouteReport {
    let runtime: DirectorRuntime
    let client: Endpoint
    let address: Endpoint
    let transport: TransportProtocol

    func make() throws -> RouteAnswer {
        let isDatagram = transport == .udp
        let syn = try ask(isDatagram ? .datagram : .syn)
        let known = isDatagram ? syn : try ask(.acknowledgment)
        let isKnown = known.isExisting
        let flow = isKnown ? try flow(known) : nil
        let chief = isKnown && !isDatagram ? try ask(.acknowledgment, flow) : syn
        let goesOn = chief.verdict == .forwarded || chief.verdict == .copied
        var ways = [way(isDatagram ? .datagram : .syn, syn)]
        if isKnown, !isDatagram { ways += [way(.acknowledgment, chief), way(.data, try ask(.data, flow))] }
        var answer = RouteAnswer(
            client: "\(client)", address: "\(address)", flow: !goesOn ? "none" : isKnown ? "existing" : "new",
            persistent: chief.isPersistent, ways: ways)
        if let service = chief.service.flatMap({ runtime.host.service(ServiceID(rawValue: $0)) }) {
            answer.service = service.name
            answer.policy = service.policyText
            answer.forwarding = service.forwarding
        }
        answer.state = flow.map(state)
        if let slot = chief.slot { try describe(slot, in: &answer) }
        answer.reason = reason(chief, syn, isKnown)
        return answer
    }

    /// - Parameter flow: what is known of it, so that its next acknowledgment is asked about and not a strange one.
    private func ask(_ kind: RouteQuestion.Kind, _ flow: baton_flow? = nil) throws -> RouteFinding {
        var question = RouteQuestion(client: client, service: address, kind: kind)
        if let flow { question.acknowledgment = flow.group_ack }
        return try runtime.host.plane.route(question, interfaceAddress: runtime.host.interface.address)
    }

    private func way(_ kind: RouteQuestion.Kind, _ finding: RouteFinding) -> RouteAnswer.Way {
        let to =
            switch finding.verdict {
            case .forwarded: finding.hasCounted(BATON_COUNT_TO_GROUP) ? "group" : "owner"
            case .copied: "copies"
            case .stack: "stack"
            case .dropped: "dropped"
            }
        return RouteAnswer.Way(
            frame: kind.rawValue, to: to, mac: finding.verdict == .forwarded ? "\(finding.destination)" : nil,
            slot: finding.slot.map(Int.init))
    }

    /// What the program has looked at but does not tell.
    private func flow(_ finding: RouteFinding) throws -> baton_flow? {
        guard let service = finding.service else { return nil }
        let key = baton_flow_key(
            client: client.address, clientPort: client.port, service: service, servicePort: address.port,
            protocol: transport.number)
        let plane = runtime.host.plane
        if transport == .udp { return try plane.datagramFlows.get(key) }
        return try plane.flows.get(key) ?? plane.halfOpen.get(key)
    }

    private func state(_ flow: baton_flow) -> String {
        if transport == .udp { return "udp" }
        if flow.flags & UInt8(BATON_FLOW_CLOSING.rawValue) != 0 { return "closing" }
        return flow.flags & UInt8(BATON_FLOW_ESTABLISHED.rawValue) != 0 ? "established" : "handshake"
    }

    private func describe(_ number: UInt16, in answer: inout RouteAnswer) throws {
        let id = SlotID(rawValue: number)
        answer.slot = Int(number)
        answer.owner = runtime.machine.holder(of: id)
        answer.backend = runtime.machine.slots.first { $0.id == id }.map { runtime.machine.name(of: $0.home) }
        answer.ownerMac = try runtime.host.plane.slots.get(UInt32(number)).map { "\($0.ownerAddress)" }
    }

    // MARK: Sentences

    private func reason(_ chief: RouteFinding, _ syn: RouteFinding, _ isKnown: Bool) -> String? {
        guard let number = chief.service, let service = runtime.host.service(ServiceID(rawValue: number)) else {
            return noService()
        }
        if chief.hasCounted(BATON_COUNT_SLOT_DOWN) {
            return "the flow's slot \(chief.slot.map { "\($0)" } ?? "?") has no owner any more: its next frame is answered "
                + "with RST"
        }
        if !isKnown, chief.hasCounted(BATON_COUNT_NO_BACKEND) { return noBackend(service, chief.slot) }
        if let slot = chief.slot, isTakenOver(slot) {
            return "slot \(slot) is being taken over: every frame of it goes to the group"
        }
        guard isKnown, !syn.isExisting else { return nil }
        let next = syn.slot.map { "slot \($0)" } ?? "no slot"
        return "the client has closed its half: a new SYN from this port is a new flow, and gets \(next)"
    }

    private func noService() -> String {
        let all = runtime.configuration.services.map { "\($0.name) (\($0.addressText))" }.joined(separator: ", ")
        return "no service is at \(address): such frames are left to this machine's own stack; there are: \(all)"
    }

    private func noBackend(_ service: Configuration.DirectorConfiguration.Service, _ slot: UInt16?) -> String {
        if let slot, isTakenOver(slot) {
            return "policy \(service.policy) names slot \(slot), which is being taken over: the SYN is dropped, and the "
                + "client sends it again"
        }
        let why = runtime.configuration.backends.map { "\($0.name) \(obstacle($0, service))" }.joined(separator: ", ")
        let which = slot.map { "policy \(service.policy) names slot \($0), which is down" } ?? "no back-end may have it"
        return "\(which): the SYN is dropped; \(why)"
    }

    /// Why a back-end gets no new flow of a service; for one that could, that it is not the policy's choice.
    private func obstacle(
        _ backend: Configuration.DirectorConfiguration.Backend, _ service: Configuration.DirectorConfiguration.Service
    ) -> String {
        let machine = runtime.machine
        let drain = machine.drainStatus(backend.name).state
        if drain != "none" { return "is \(drain)" }
        guard let id = machine.backendID(backend.name), let member = machine.members.first(where: { $0.id == id }) else {
            return "is absent"
        }
        if backend.weight == 0 { return "has weight 0" }
        if case .silent = member.condition { return "is silent" }
        let number = runtime.host.serviceIDs.first { runtime.host.service($0) == service }
        if let number, !member.healthy.contains(number) { return "says that its application is down" }
        return member.settledIn ? "was not chosen by the policy" : "has just come"
    }

    private func isTakenOver(_ slot: UInt16) -> Bool {
        let flags = (try? runtime.host.plane.slots.get(UInt32(slot)))??.flags ?? 0
        return flags & UInt16(BATON_SLOT_TAKEOVER.rawValue) != 0
    }
}

extension DirectorRuntime {
    /// Carries out `route` with the arguments `client` and `service`.
    func answerRoute(_ arguments: [String: String]) -> AdminAnswer {
        let transport = arguments["protocol"].flatMap(TransportProtocol.init) ?? .tcp
        guard let client = arguments["client"].flatMap(Endpoint.init), let service = arguments["service"].flatMap(Endpoint.init)
        else { return .failure("route takes a client and a service, each as ADDRESS:PORT or [ADDRESS]:PORT") }
        do {
            let report = RouteReport(runtime: self, client: client, address: service, transport: transport)
            return .encoding(try report.make())
        } catch {
            return .failure("\(error)")
        }
    }
}
