import FoundationEssentials
import NIOCore

/// One request to a daemon's admin socket: a JSON object in one line, such as `{"command":"status"}`.
public struct AdminRequest: Codable, Equatable, Sendable {
    /// What is asked for: `status`, `flows`, ...
    public var command: String
    /// Further words of the request, by name; absent in the JSON means none.
    public var arguments: [String: String]

    public init(command: String, arguments: [String: String] = [:]) {
        self.command = command
        self.arguments = arguments
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        command = try container.decode(String.self, forKey: .command)
        arguments = try container.decodeIfPresent([String: String].self, forKey: .arguments) ?? [:]
    }
}

/// The answer to a request that could not be served.
public struct AdminFailure: Codable, Equatable, Sendable {
    public var error: String
    public init(error: String) { self.error = error }
}

/// What a daemon answers to a request.
public enum AdminAnswer {
    /// A JSON document.
    case json([UInt8])
    /// A JSON document that is still being made; the client waits for it, and others are served meanwhile.
    case later(EventLoopFuture<[UInt8]>)

    /// A value as JSON, keys in order of the alphabet.
    public static func encoding(_ value: some Encodable) -> AdminAnswer {
        do {
            return .json(try AdminJSON.encode(value))
        } catch {
            return .failure("the answer cannot be encoded: \(error)")
        }
    }

    /// `{"error": text}`.
    public static func failure(_ text: String) -> AdminAnswer {
        .json(AdminJSON.failure(text))
    }
}

/// JSON of requests and answers: keys in snake case, in the order of the alphabet.
public enum AdminJSON {
    public static func encode(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(value))
    }

    public static func decode<Value: Decodable>(_ type: Value.Type, from bytes: [UInt8]) throws -> Value {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: Data(bytes))
    }

    static func failure(_ text: String) -> [UInt8] {
        (try? encode(AdminFailure(error: text))) ?? Array(#"{"error":"the error cannot be encoded"}"#.utf8)
    }
}
