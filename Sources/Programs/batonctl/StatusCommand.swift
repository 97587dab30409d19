import AdminProtocol
import ArgumentParser
import ControlPlane

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Ring, slots, owners, services and the last take-overs; of an agent, with its socket."
    )

    @ParentCommand var parent: Batonctl
    @OptionGroup var connection: Connection

    func run() throws {
        let bytes = try connection.ask(AdminRequest(command: "status"), fallback: parent.socket)
        if connection.json {
            printJSON(bytes)
        } else if let status = try? AdminJSON.decode(AgentStatus.self, from: bytes) {
            show(status)
        } else {
            show(try connection.decode(DirectorStatus.self, bytes))
        }
    }

    private func show(_ status: DirectorStatus) {
        print("director on \(status.interface) (XDP \(status.xdpMode)), epoch \(status.epoch)")
        print("flow table: \(status.flows.capacity) flows of \(status.flows.bytesPerFlow) bytes")
        var backends = TextTable("BACK-END", "ADDRESS", "WEIGHT", "STATE", "SLOT", "BACKUPS", "HEARTBEAT")
        for backend in status.backends {
            backends.add(
                backend.name, backend.address, "\(backend.weight)", backend.state,
                backend.slot.map { "\($0)" } ?? "-",
                backend.backups.isEmpty ? "-" : backend.backups.joined(separator: ","),
                backend.lastHeartbeatMs.map { "\(Decimals.text($0, 0)) ms ago" } ?? "-"
            )
        }
        backends.show()
        var slots = TextTable("SLOT", "MADE FOR", "OWNER", "STATE", "GROUP")
        for slot in status.slots {
            slots.add("\(slot.slot)", slot.backend, slot.owner ?? "-", slot.state, slot.group)
        }
        slots.show()
        showProtection(status.slots)
        var services = TextTable(
            "SERVICE", "ADDRESS", "POLICY", "REPLAY", "FORWARDING", "FLOWS", "TO OWNER", "TO GROUP", "COPIES")
        for service in status.services {
            services.add(
                service.name, service.address, service.policy, service.replay, method(of: service),
                "\(service.newFlows)", "\(service.framesToOwner)", "\(service.framesToGroup)", "\(service.copies)"
            )
        }
        services.show()
        HealthTables.show(status)
        show(status.takeovers)
        show("messages dropped", status.rejected)
    }

    private func showProtection(_ slots: [DirectorStatus.Slot]) {
        guard slots.contains(where: { !$0.protection.isEmpty }) else { return }
        var table = TextTable("BACKED UP", "BY", "STATE", "PROTECTED", "MISSING", "TIME TO PROTECTION")
        for slot in slots {
            for backup in slot.protection {
                table.add(
                    "slot \(slot.slot)", backup.backup, backup.state, "\(backup.protected)/\(backup.connections)",
                    "\(backup.missing)", backup.timeToProtectionMs.map { "\(Decimals.text($0, 1)) ms" } ?? "-"
                )
            }
        }
        table.show()
    }

    /// An asterisk where an operator has chosen another method than the configuration.
    private func method(of service: DirectorStatus.Service) -> String {
        service.forwarding == service.configuredForwarding ? service.forwarding : service.forwarding + "*"
    }

    private func show(_ takeovers: [TakeoverRecord]) {
        guard !takeovers.isEmpty else { return }
        var table = TextTable("TAKE-OVER", "FROM", "TO", "SIGN", "ADOPTED", "RESET", "T_d", "T_r", "T_c", "T_a", "T_f")
        for record in takeovers.prefix(10) {
            let resets = record.reset.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
            let time = { (value: Double?) in value.map { "\(Decimals.text($0, 2)) ms" } ?? "-" }
            table.add(
                "slot \(record.slot)", record.victim, record.backup, record.sign,
                "\(record.adopted)/\(record.connections)", resets.isEmpty ? "-" : resets.joined(separator: ", "),
                time(record.tDMs), time(record.tRMs), time(record.tCMs), time(record.tAMs), time(record.tFMs)
            )
        }
        table.show()
    }

    private func show(_ status: AgentStatus) {
        print("agent \(status.name): \(status.state), lease \(status.lease)\(status.fenced ? ", fenced" : "")")
        print("slots owned: \(status.ownedSlots), backed up: \(status.tappedSlots)")
        print("backup connections: \(status.backupConnections), journals: \(status.journalBytes) bytes")
        show("resets", status.resets.mapValues { UInt64($0) })
        show("counters", status.counters)
        show("tap", status.tap)
        show("messages dropped", status.rejected)
    }

    private func show(_ title: String, _ counts: [String: UInt64]) {
        guard !counts.isEmpty else { return }
        print("\n\(title):")
        for (name, count) in counts.sorted(by: { $0.key < $1.key }) { print("  \(name): \(count)") }
    }
}
