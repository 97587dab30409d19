import Model

/// A request's method, as far as a replay has to tell methods apart (RFC 9110 9.1: the case of its letters counts).
public enum RequestMethod: UInt8, Sendable, CaseIterable {
    /// The request line is not complete yet.
    case unknown = 0
    case get, head, options, trace
    case put, delete
    case post, patch, connect
    /// A token that is none of these; nothing is known of what it does.
    case other

    /// RFC 9110 9.2.1: asks for nothing to be changed.
    public var isSafe: Bool {
        switch self {
        case .get, .head, .options, .trace: true
        case .unknown, .put, .delete, .post, .patch, .connect, .other: false
        }
    }

    /// RFC 9110 9.2.2: asked twice, it does what it does when asked once.
    public var isIdempotent: Bool {
        switch self {
        case .put, .delete: true
        case .get, .head, .options, .trace: true
        case .unknown, .post, .patch, .connect, .other: false
        }
    }

    /// Whether a service's operator lets it be asked again of another server.
    public func isAllowed(_ methods: ReplayMethods) -> Bool {
        switch methods {
        case .safe: isSafe
        case .idempotent: isIdempotent
        case .all: self != .unknown
        }
    }

    init(token: ShortText) {
        self =
            if token.equals("GET") { .get }
            else if token.equals("HEAD") { .head }
            else if token.equals("OPTIONS") { .options }
            else if token.equals("TRACE") { .trace }
            else if token.equals("PUT") { .put }
            else if token.equals("DELETE") { .delete }
            else if token.equals("POST") { .post }
            else if token.equals("PATCH") { .patch }
            else if token.equals("CONNECT") { .connect }
            else { .other }
    }
}
