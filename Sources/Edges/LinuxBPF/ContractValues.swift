public import CContract
public import Model

// Between the model's types and the structures of contract.h. Addresses and ports stand there in network byte order.

extension IPAddress {
    typealias Bytes = (
        UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8
    )

    /// The sixteen bytes of a C array, network byte order.
    public init(
        contract bytes: (
            UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8,
            UInt8
        )
    ) {
        let words = unsafeBitCast(bytes, to: (UInt64, UInt64).self)
        self.init(high: UInt64(bigEndian: words.0), low: UInt64(bigEndian: words.1))
    }

    var contract: Bytes {
        unsafeBitCast((high.bigEndian, low.bigEndian), to: Bytes.self)
    }
}

extension MACAddress {
    public init(contract bytes: (UInt8, UInt8, UInt8, UInt8, UInt8, UInt8)) {
        let parts = [bytes.0, bytes.1, bytes.2, bytes.3, bytes.4, bytes.5]
        self.init(rawValue: parts.reduce(0) { $0 << 8 | UInt64($1) })
    }

    var contract: (UInt8, UInt8, UInt8, UInt8, UInt8, UInt8) {
        let byte = { (shift: UInt64) in UInt8(truncatingIfNeeded: rawValue >> shift) }
        return (byte(40), byte(32), byte(24), byte(16), byte(8), byte(0))
    }
}

extension baton_service_key {
    /// - Parameter port: host byte order.
    public init(address: IPAddress, port: UInt16, protocol number: UInt8 = 6) {
        self.init()
        self.address = address.contract
        self.port = port.bigEndian
        self.protocol = number
    }

    /// The key of a service by its number, for frames that come to it by a range of ports.
    public init(number: UInt16) {
        self.init()
        port = number
    }

    /// Whether it is one of those.
    public var isNumber: Bool { self.protocol == 0 }
    public var serviceAddress: IPAddress { IPAddress(contract: address) }
    /// Host byte order.
    public var servicePort: UInt16 { UInt16(bigEndian: port) }
}

extension baton_port_ranges {
    /// - Parameter ranges: the first one that has a port counts; at most BATON_MAX_PORT_RANGES.
    public init(_ ranges: [(ports: ClosedRange<UInt16>, service: UInt16)]) {
        self.init()
        let kept = ranges.prefix(Int(BATON_MAX_PORT_RANGES))
        count = UInt32(kept.count)
        withUnsafeMutableBytes(of: &list) { bytes in
            for (index, range) in kept.enumerated() {
                let value = baton_port_range(
                    first: range.ports.lowerBound, last: range.ports.upperBound, service: range.service)
                bytes.storeBytes(
                    of: value, toByteOffset: index * MemoryLayout<baton_port_range>.stride, as: baton_port_range.self)
            }
        }
    }

    public var ranges: [(ports: ClosedRange<UInt16>, service: UInt16)] {
        withUnsafeBytes(of: list) { bytes in
            (0..<min(Int(count), Int(BATON_MAX_PORT_RANGES))).compactMap { index in
                let value = bytes.load(
                    fromByteOffset: index * MemoryLayout<baton_port_range>.stride, as: baton_port_range.self)
                return value.first <= value.last ? (value.first...value.last, value.service) : nil
            }
        }
    }
}

extension baton_flow_key {
    /// - Parameter clientPort, servicePort: host byte order.
    public init(
        client: IPAddress, clientPort: UInt16, service: UInt16, servicePort: UInt16, protocol number: UInt8 = 6
    ) {
        self.init()
        self.service_port = servicePort.bigEndian
        self.client_address = client.contract
        self.client_port = clientPort.bigEndian
        self.service = service
        self.protocol = number
    }

    public var clientAddress: IPAddress { IPAddress(contract: client_address) }
    /// Host byte order.
    public var clientPort: UInt16 { UInt16(bigEndian: client_port) }
    /// Host byte order.
    public var servicePort: UInt16 { UInt16(bigEndian: service_port) }
}

extension baton_slot {
    /// - Parameter flags: of `enum baton_slot_flags`.
    public init(owner: MACAddress, group: MACAddress, flags: UInt16) {
        self.init()
        self.owner = owner.contract
        self.group = group.contract
        self.flags = flags
    }

    public var ownerAddress: MACAddress { MACAddress(contract: owner) }
    public var groupAddress: MACAddress { MACAddress(contract: group) }
}

extension baton_copies {
    /// - Parameter members: in the order of the copies, the owner last; of more than BATON_MAX_COPIES, the last ones.
    public init(members: [MACAddress]) {
        self.init()
        let kept = members.suffix(Int(BATON_MAX_COPIES))
        count = UInt32(kept.count)
        withUnsafeMutableBytes(of: &addresses) { room in
            for (place, byte) in kept.flatMap(\.bytes).enumerated() { room[place] = byte }
        }
    }

    public var members: [MACAddress] {
        withUnsafeBytes(of: addresses) { room in
            (0..<min(Int(count), Int(BATON_MAX_COPIES))).compactMap { MACAddress(bytes: room[$0 * 6..<$0 * 6 + 6]) }
        }
    }
}

extension baton_connection_key {
    /// Ports in host byte order.
    public init(client: IPAddress, clientPort: UInt16, service: IPAddress, servicePort: UInt16) {
        self.init()
        self.client_address = client.contract
        self.service_address = service.contract
        self.client_port = clientPort.bigEndian
        self.service_port = servicePort.bigEndian
    }

    public var clientAddress: IPAddress { IPAddress(contract: client_address) }
    public var serviceAddress: IPAddress { IPAddress(contract: service_address) }
    /// Host byte order.
    public var clientPort: UInt16 { UInt16(bigEndian: client_port) }
    /// Host byte order.
    public var servicePort: UInt16 { UInt16(bigEndian: service_port) }
}
