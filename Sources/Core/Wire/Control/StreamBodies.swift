import Model

extension ControlReader {
    /// One byte that must name a case.
    mutating func value<Value>(
        _ field: String,
        _ make: (UInt8) -> Value?
    ) throws(ControlDecodingError) -> Value {
        let raw: UInt8 = try integer(field)
        guard let value = make(raw) else { throw failure(field, .unknownValue(UInt64(raw))) }
        return value
    }

    mutating func backend(_ field: String) throws(ControlDecodingError) -> BackendID {
        BackendID(rawValue: try integer(field))
    }

    mutating func slot(_ field: String) throws(ControlDecodingError) -> SlotID {
        SlotID(rawValue: try integer(field))
    }

    /// Bytes, where all ones mean "never".
    mutating func rangeFrom(_ field: String) throws(ControlDecodingError) -> UInt64? {
        let raw: UInt64 = try integer(field)
        return raw == .max ? nil : raw
    }

    /// A number where all ones mean "none".
    mutating func optionalNumber(_ field: String) throws(ControlDecodingError) -> UInt16? {
        let raw: UInt16 = try integer(field)
        return raw == 0xffff ? nil : raw
    }
}

extension Join {
    func write(to writer: inout ControlWriter) {
        writer.integer(version)
        writer.text(name, limit: Limits.nameBytes)
        writer.integer(life.rawValue)
        writer.mac(mac)
        writer.address(address)
        writer.integer(heldSlot?.rawValue ?? 0xffff)
        writer.integer(epoch.rawValue)
        writer.list(profiles, limit: Limits.services) { writer, profile in
            writer.text(profile.service, limit: Limits.nameBytes)
            writer.handshake(profile.handshake)
        }
    }

    init(from reader: inout ControlReader) throws(ControlDecodingError) {
        reader.message = "join"
        version = try reader.integer("version")
        guard version == ControlProtocol.version else {
            throw reader.failure("version", .unsupportedVersion(version))
        }
        name = try reader.text("name", limit: Limits.nameBytes)
        life = Life(rawValue: try reader.integer("life"))
        mac = try reader.mac("mac")
        address = try reader.address("address")
        heldSlot = try reader.optionalNumber("heldSlot").map(SlotID.init)
        epoch = Epoch(rawValue: try reader.integer("epoch"))
        profiles = try reader.list("profiles", limit: Limits.services) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            let service = try reader.text("profiles.service", limit: Limits.nameBytes)
            guard let handshake = try reader.handshake("profiles.handshake") else {
                throw reader.failure("profiles.handshake", .unknownValue(0))
            }
            return ServiceProfile(service: service, handshake: handshake)
        }
    }
}

extension Welcome {
    func write(to writer: inout ControlWriter) {
        writer.integer(version)
        writer.integer(backend.rawValue)
        writer.integer(slot.rawValue)
        writer.integer(directorLife.rawValue)
        writer.interval(heartbeatInterval)
        writer.interval(window)
        writer.interval(lease)
        writer.list(services, limit: Limits.services) { writer, service in
            writer.integer(service.id.rawValue)
            writer.text(service.name, limit: Limits.nameBytes)
            writer.endpoint(service.endpoint)
            writer.integer(service.replay.rawValue)
            writer.integer(service.http.methods.rawValue)
            writer.integer(service.http.rangeFrom ?? .max)
        }
    }

    init(from reader: inout ControlReader) throws(ControlDecodingError) {
        reader.message = "welcome"
        version = try reader.integer("version")
        guard version == ControlProtocol.version else {
            throw reader.failure("version", .unsupportedVersion(version))
        }
        backend = try reader.backend("backend")
        slot = try reader.slot("slot")
        directorLife = Life(rawValue: try reader.integer("directorLife"))
        heartbeatInterval = try reader.interval("heartbeatInterval", limit: ControlProtocol.longestInterval)
        guard heartbeatInterval > .zero else { throw reader.failure("heartbeatInterval", .unknownValue(0)) }
        window = try reader.interval("window", limit: ControlProtocol.longestInterval)
        lease = try reader.interval("lease", limit: ControlProtocol.longestLease)
        services = try reader.list("services", limit: Limits.services) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            ServiceDescription(
                id: ServiceID(rawValue: try reader.integer("services.id")),
                name: try reader.text("services.name", limit: Limits.nameBytes),
                endpoint: try reader.endpoint("services.endpoint"),
                replay: try reader.value("services.replay", ReplayPolicy.init),
                http: HTTPReplay(
                    methods: try reader.value("services.methods", ReplayMethods.init),
                    rangeFrom: try reader.rangeFrom("services.rangeFrom")
                )
            )
        }
    }
}

extension Sign {
    init(from reader: inout ControlReader) throws(ControlDecodingError) {
        reader.message = "sign"
        service = ServiceID(rawValue: try reader.integer("service"))
        kind = try reader.value("kind", Kind.init)
    }
}

extension RingTable {
    func write(to writer: inout ControlWriter) {
        writer.integer(epoch.rawValue)
        writer.list(members, limit: Limits.backends) { writer, member in
            writer.integer(member.id.rawValue)
            writer.text(member.name, limit: Limits.nameBytes)
            writer.integer(member.life.rawValue)
            writer.integer(member.slot.rawValue)
            writer.address(member.address)
            writer.mac(member.mac)
            writer.flag(member.present)
        }
        writer.list(slots, limit: Limits.slots) { writer, entry in
            writer.integer(entry.slot.rawValue)
            writer.integer(entry.primary.rawValue)
            writer.integer(entry.owner?.rawValue ?? 0xffff)
            writer.list(entry.backups, limit: Limits.backups) { $0.integer($1.rawValue) }
            writer.integer(entry.state.rawValue)
        }
    }

    init(from reader: inout ControlReader) throws(ControlDecodingError) {
        reader.message = "ring"
        epoch = Epoch(rawValue: try reader.integer("epoch"))
        members = try reader.list("members", limit: Limits.backends) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            Member(
                id: try reader.backend("members.id"),
                name: try reader.text("members.name", limit: Limits.nameBytes),
                life: Life(rawValue: try reader.integer("members.life")),
                slot: try reader.slot("members.slot"),
                address: try reader.address("members.address"),
                mac: try reader.mac("members.mac"),
                present: try reader.flag("members.present")
            )
        }
        slots = try reader.list("slots", limit: Limits.slots) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            SlotEntry(
                slot: try reader.slot("slots.slot"),
                primary: try reader.backend("slots.primary"),
                owner: try reader.optionalNumber("slots.owner").map(BackendID.init),
                backups: try reader.list("slots.backups", limit: Limits.backups) {
                    (reader: inout ControlReader) throws(ControlDecodingError) in
                    try reader.backend("slots.backups")
                },
                state: try reader.value("slots.state", SlotState.init)
            )
        }
    }
}

extension TakeOverOrder {
    /// The former owner and each backup that was ordered before.
    static let contenders = Limits.backups + 1

    func write(to writer: inout ControlWriter) {
        writer.integer(slot.rawValue)
        writer.integer(epoch.rawValue)
        writer.interval(holdOff)
        writer.list(contenders, limit: Self.contenders) { writer, contender in
            writer.integer(contender.id.rawValue)
            writer.integer(contender.life.rawValue)
            writer.address(contender.address)
        }
    }

    init(from reader: inout ControlReader) throws(ControlDecodingError) {
        reader.message = "takeOver"
        slot = try reader.slot("slot")
        epoch = Epoch(rawValue: try reader.integer("epoch"))
        holdOff = try reader.interval("holdOff", limit: ControlProtocol.longestInterval)
        contenders = try reader.list("contenders", limit: Self.contenders) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            Contender(
                id: try reader.backend("contenders.id"),
                life: Life(rawValue: try reader.integer("contenders.life")),
                address: try reader.address("contenders.address")
            )
        }
    }
}

extension TakeOverReport {
    func write(to writer: inout ControlWriter) {
        writer.integer(slot.rawValue)
        writer.integer(epoch.rawValue)
        writer.integer(phase.rawValue)
        writer.integer(connections)
        writer.integer(adopted)
        writer.list(resets, limit: 256) { $0.integer($1) }
        writer.integer(caughtUpBytes)
        let reached = [
            moments.ordered, moments.started, moments.firstProbe, moments.firstAnswer, moments.firstAdoption,
            moments.firstReply, moments.firstNewByte, moments.settled, moments.finished,
        ]
        for moment in reached { writer.instant(moment ?? .never) }
        for stage in [times.response, times.reconstruction, times.application, times.catchUp] {
            writer.interval(stage)
        }
    }

    init(from reader: inout ControlReader) throws(ControlDecodingError) {
        reader.message = "takeOverReport"
        let limit = ControlProtocol.longestInterval
        slot = try reader.slot("slot")
        epoch = Epoch(rawValue: try reader.integer("epoch"))
        phase = try reader.value("phase", Phase.init)
        connections = try reader.integer("connections")
        adopted = try reader.integer("adopted")
        // A newer agent may count causes that this director does not know; they are kept by number.
        resets = try reader.list("resets", limit: 256) {
            (reader: inout ControlReader) throws(ControlDecodingError) in
            try reader.integer("resets")
        }
        caughtUpBytes = try reader.integer("caughtUpBytes")
        moments = TakeOverMoments(
            ordered: try reader.optionalInstant("moments.ordered"),
            started: try reader.optionalInstant("moments.started"),
            firstProbe: try reader.optionalInstant("moments.firstProbe"),
            firstAnswer: try reader.optionalInstant("moments.firstAnswer"),
            firstAdoption: try reader.optionalInstant("moments.firstAdoption"),
            firstReply: try reader.optionalInstant("moments.firstReply"),
            firstNewByte: try reader.optionalInstant("moments.firstNewByte"),
            settled: try reader.optionalInstant("moments.settled"),
            finished: try reader.optionalInstant("moments.finished")
        )
        times = TakeOverTimes(
            response: try reader.optionalInterval("times.response", limit: limit),
            reconstruction: try reader.optionalInterval("times.reconstruction", limit: limit),
            application: try reader.optionalInterval("times.application", limit: limit),
            catchUp: try reader.optionalInterval("times.catchUp", limit: limit)
        )
    }
}
