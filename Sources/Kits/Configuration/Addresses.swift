import Model

/// Where an address is to be used, which tells the ones that cannot be meant.
enum AddressUse {
    /// A machine of the LAN or a VIP: no loopback, no group, not "any".
    case lan
    /// The other end of a connection: loopback is allowed.
    case peer
    /// A local address to listen at: loopback and "any" are allowed.
    case local
}

extension ValueKind where Value == IPAddress {
    /// An IPv4 or IPv6 address without mask or zone.
    static func address(_ use: AddressUse, example: String) -> ValueKind<IPAddress> {
        ValueKind(expected: "an IPv4 or IPv6 address, e.g. \(example)") { scalar in
            guard let address = IPAddress(scalar.text) else {
                return .fault("\(quoted(scalar.text)) is not an IP address", remedy: addressRemedy(scalar.text))
            }
            return refusal(of: address, use).map { .fault("\(address) is \($0)") } ?? .value(address)
        }
    }
}

extension ValueKind where Value == Endpoint {
    /// An address and a port; the port may be left out when there is a default.
    static func endpoint(_ use: AddressUse, defaultPort: UInt16? = nil, example: String) -> ValueKind<Endpoint> {
        let what = defaultPort == nil ? "an address and a port" : "an address, with or without a port"
        return ValueKind(expected: "\(what), e.g. \(example)") { scalar in
            if let endpoint = Endpoint(scalar.text) {
                return refusal(of: endpoint.address, use).map { .fault("\(endpoint.address) is \($0)") }
                    ?? .value(endpoint)
            }
            if let address = IPAddress(scalar.text) {
                if let refused = refusal(of: address, use) { return .fault("\(address) is \(refused)") }
                if let defaultPort { return .value(Endpoint(address: address, port: defaultPort)) }
                return .fault("\(quoted(scalar.text)) has no port", remedy: address.isIPv4 ? nil : bracketRemedy)
            }
            return endpointFault(scalar.text)
        }
    }
}

/// Says which half of `address:port` is wrong.
private func endpointFault(_ text: String) -> Reading<Endpoint> {
    guard let colon = text.lastIndex(of: ":") else {
        return .fault("\(quoted(text)) is not an IP address", remedy: addressRemedy(text))
    }
    let host = text[..<colon]
    let bare = host.hasPrefix("[") && host.hasSuffix("]") ? host.dropFirst().dropLast() : host
    guard IPAddress(String(bare)) != nil else {
        return .fault("\(quoted(String(bare))) is not an IP address", remedy: addressRemedy(String(bare)))
    }
    if bare.contains(":"), bare.count == host.count {
        return .fault("\(quoted(text)) is ambiguous", remedy: bracketRemedy)
    }
    return .fault("\(quoted(String(text[text.index(after: colon)...]))) is not a port from 1 to 65535")
}

private let bracketRemedy = "put an IPv6 address in brackets and the whole in quotes: \"[2001:db8::1]:80\""

private func addressRemedy(_ text: String) -> String? {
    if text.contains("/") { return "leave out the mask" }
    if text.contains("%") { return "leave out the zone" }
    if text.contains(where: \.isLetter), !text.contains(":") { return "names are not looked up here" }
    return nil
}

/// Why an address cannot be used so; nil when it can.
private func refusal(of address: IPAddress, _ use: AddressUse) -> String? {
    let firstOctet = address.ipv4.map { $0 >> 24 }
    let isUnspecified = address.ipv4.map { $0 >> 24 == 0 } ?? (address == IPAddress(high: 0, low: 0))
    let isLoopback = firstOctet == 127 || address == IPAddress(high: 0, low: 1)
    let isGroup = firstOctet.map { $0 >= 224 } ?? (address.high >> 56 == 0xff)
    // 240.0.0.0/4 is reserved (RFC 1112 4), the broadcast address at its end.
    if isGroup { return firstOctet ?? 224 < 240 ? "a multicast address" : "no host's address" }
    switch use {
    case .local: return nil
    case .peer: return isUnspecified ? "no host's address" : nil
    case .lan: return isUnspecified ? "no host's address" : isLoopback ? "a loopback address" : nil
    }
}
