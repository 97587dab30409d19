import HTTP
import Model

@testable import Wire

/// One of each message, with every optional field both ways.
enum Samples {
    static let handshake = HandshakeOptions(mss: 1460, windowScale: 7, sackPermitted: true, timestamps: true)
    static let address = IPAddress(ipv4: 0x0a00_0001)
    static let endpoint = Endpoint(address: IPAddress(high: 0x2001_0db8_0000_0000, low: 1), port: 443)
    static let fence = Fence(slot: SlotID(rawValue: 1023), epoch: Epoch(rawValue: .max))

    static let bodies: [Datagram.Body] = [
        .heartbeat(Heartbeat(lease: .milliseconds(45))),
        .heartbeat(
            Heartbeat(
                lease: ControlProtocol.longestLease,
                load: .max,
                services: [
                    ServiceReport(service: ServiceID(rawValue: 0), healthy: true, handshake: handshake),
                    ServiceReport(service: ServiceID(rawValue: 255), healthy: false),
                    ServiceReport(service: ServiceID(rawValue: 9), healthy: true, handshake: HandshakeOptions()),
                ]
            )
        ),
        .echo(Echo(sequence: 1 << 63, sentAt: Instant(nanoseconds: 123_456_789))),
        .fenceDemand(fence),
        .fenceAcknowledged(fence),
        .replies([notice, bareNotice]),
        .synAcks([]),
        .synAcks(
            (0..<SynAckNotice.limit).map {
                SynAckNotice(
                    client: endpoint, service: ServiceID(rawValue: UInt16($0)), iss: SequenceNumber(.max),
                    acknowledged: SequenceNumber(1))
            }),
    ]

    static let notice = ReplyNotice(
        client: endpoint, service: ServiceID(rawValue: 3), sequence: SequenceNumber(.max),
        facts: ReplyFacts(
            status: 206, headBytes: 333, framing: .length(5), etag: EntityTag(isWeak: true, value: Array("\"a\"".utf8)),
            lastModified: Array("Sat, 21 Nov 2026 04:00:00 GMT".utf8), contentEncoding: Array("gzip".utf8),
            contentRange: ContentRange(first: 5, last: 9, total: 100), closes: true))
    static let bareNotice = ReplyNotice(
        client: Endpoint(address: address, port: 1), service: ServiceID(rawValue: 0), sequence: SequenceNumber(0),
        facts: ReplyFacts(status: 100, headBytes: 25, version: .http10, framing: .untilClose))

    static let datagrams = bodies.map {
        Datagram(
            sender: .director,
            senderLife: Life(rawValue: 0x0123_4567_89ab_cdef),
            receiverLife: Life(rawValue: .max),
            sequence: 42,
            sentAt: Instant(nanoseconds: .max),
            body: $0
        )
    }

    static let table = RingTable(
        epoch: Epoch(rawValue: 7),
        members: [
            RingTable.Member(
                id: BackendID(rawValue: 0), name: "web1", life: Life(rawValue: 1), slot: SlotID(rawValue: 0),
                address: address, mac: MACAddress(rawValue: 0x0200_0000_0001), present: true),
            RingTable.Member(
                id: BackendID(rawValue: 1), name: "web2-größer", life: Life(rawValue: 2), slot: SlotID(rawValue: 1),
                address: address, mac: MACAddress(rawValue: 0x0200_0000_0002), present: false),
        ],
        slots: [
            RingTable.SlotEntry(
                slot: SlotID(rawValue: 0), primary: BackendID(rawValue: 0), owner: BackendID(rawValue: 1),
                backups: [BackendID(rawValue: 2), BackendID(rawValue: 3), BackendID(rawValue: 4)], state: .takenOver),
            RingTable.SlotEntry(
                slot: SlotID(rawValue: 1), primary: BackendID(rawValue: 1), owner: nil, backups: [], state: .orphaned),
        ]
    )

    static let messages: [StreamMessage] = [
        .join(Join(name: "web1", life: Life(rawValue: 5), mac: MACAddress(rawValue: 1), address: address)),
        .join(
            Join(
                name: String(repeating: "n", count: 32), life: Life(rawValue: 5), mac: MACAddress(rawValue: 1),
                address: address, heldSlot: SlotID(rawValue: 3), epoch: Epoch(rawValue: 9),
                profiles: [ServiceProfile(service: "www", handshake: handshake)])),
        .ringAcknowledged(Epoch(rawValue: 3)),
        .takeOverReport(
            TakeOverReport(slot: SlotID(rawValue: 2), epoch: Epoch(rawValue: 4), phase: .fenced)),
        .takeOverReport(
            TakeOverReport(
                slot: SlotID(rawValue: 2), epoch: Epoch(rawValue: 4), phase: .finished, connections: 1100,
                adopted: 1000, resets: (0..<11).map { $0 * 1000 }, caughtUpBytes: 1 << 40,
                moments: TakeOverMoments(ordered: Instant(nanoseconds: 1), finished: Instant(nanoseconds: 9)),
                times: TakeOverTimes(
                    response: .milliseconds(1), reconstruction: .microseconds(80), application: .milliseconds(2),
                    catchUp: .milliseconds(43)))),
        .sign(Sign(service: ServiceID(rawValue: 1), kind: .crashed)),
        .welcome(
            Welcome(
                backend: BackendID(rawValue: 2), slot: SlotID(rawValue: 8), directorLife: Life(rawValue: 77),
                heartbeatInterval: .milliseconds(10), window: .milliseconds(50), lease: .milliseconds(45),
                services: [
                    ServiceDescription(
                        id: ServiceID(rawValue: 0), name: "www", endpoint: endpoint, replay: .stream),
                    ServiceDescription(
                        id: ServiceID(rawValue: 1), name: "web", endpoint: endpoint, replay: .http,
                        http: HTTPReplay(methods: .idempotent, rangeFrom: nil)),
                ])),
        .refused(Refusal(reason: .duplicateName, text: "web1 lives at 10.0.0.1")),
        .refused(Refusal(reason: .noSlotFree, text: "")),
        .ring(table),
        .takeOver(
            TakeOverOrder(
                slot: SlotID(rawValue: 0), epoch: Epoch(rawValue: 7),
                contenders: [
                    TakeOverOrder.Contender(
                        id: BackendID(rawValue: 0), life: Life(rawValue: 1), address: address)
                ],
                holdOff: .milliseconds(3))),
        .fence(fence),
        .yield(fence),
        .resetFlows([]),
        .resetFlows([
            FlowReset(client: endpoint, service: ServiceID(rawValue: 3), port: 443),
            FlowReset(client: Endpoint(address: address, port: 1), service: ServiceID(rawValue: 0xffff), port: 80),
        ]),
        .protection([]),
        .protection([
            SlotProtection(slot: SlotID(rawValue: 1), phase: .copying, connections: 9, protected: 4, missing: 5),
            SlotProtection(
                slot: SlotID(rawValue: 2), phase: .synchronised, connections: .max, protected: 1,
                timeToProtection: .milliseconds(31)),
        ]),
    ]
}

/// SplitMix64: the tests' own random numbers, the same for ever.
struct TestGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }
}
