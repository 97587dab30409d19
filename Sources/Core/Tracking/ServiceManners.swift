import Model

/// Whether a service's server or its clients speak first, as its connections show.
struct ServiceManners {
    let service: Endpoint
    /// Connections whose client had acknowledged bytes before it sent its own first ones.
    var spokeFirst: UInt64 = 0
    /// Connections whose client sent the first byte.
    var waited: UInt64 = 0
}

extension Tracker {
    /// Whether the first data of a client may acknowledge something that its server has said before.
    ///
    /// Measured against the other connections, so that a client that lies cannot take much from the others.
    func speaksFirst(_ service: Endpoint) -> Bool {
        guard let known = manners.first(where: { $0.service == service }) else { return false }
        return known.spokeFirst * 16 > known.waited
    }

    /// Called once for each connection, with its first data.
    mutating func noteManners(_ service: Endpoint, spokeFirst: Bool) {
        var place = manners.firstIndex { $0.service == service }
        if place == nil {
            guard manners.count < Limits.services else { return }
            place = manners.count
            manners.append(ServiceManners(service: service))
        }
        guard let place else { return }
        if spokeFirst { manners[place].spokeFirst &+= 1 } else { manners[place].waited &+= 1 }
    }
}
