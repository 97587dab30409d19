import Model
import Testing

@testable import Configuration

/// The modules of the tests' registry.
let modules = ModuleNames(
    policies: ["rr", "wrr", "sh"],
    forwarding: ["multicast", "selective", "owner"],
    detectors: ["window"],
    policyKeys: ["sh": [PolicyKey(name: "port", kind: .flag), PolicyKey(name: "size", kind: .number([251, 509]))]]
)

/// The root of the package, from the place of this file.
let packageRoot = String(
    #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
)

func text(of path: String) throws -> String {
    String(decoding: try FileText.read("\(packageRoot)/\(path)", remedy: ""), as: UTF8.self)
}

/// What the director's reader says of a text: its value, or the messages without the file's name.
func director(_ text: String, interfaces: [String]? = nil) -> Result<DirectorConfiguration, ConfigurationError> {
    Result { () throws(ConfigurationError) in
        try DirectorConfiguration.parse(Array(text.utf8), path: "d", modules: modules, interfaces: interfaces).value
    }
}

func agent(_ text: String, interfaces: [String]? = nil) -> Result<AgentConfiguration, ConfigurationError> {
    Result { () throws(ConfigurationError) in
        try AgentConfiguration.parse(Array(text.utf8), path: "a", interfaces: interfaces).value
    }
}

extension Result where Failure == ConfigurationError {
    /// The messages, one a line; empty when there is a value.
    var messages: String {
        switch self {
        case .success: ""
        case .failure(let error): error.description
        }
    }
}

/// A faulty text and exactly what is said about it.
struct Fault: CustomTestStringConvertible, Sendable {
    var name: String
    var text: String
    var messages: String

    init(_ name: String, _ text: String, _ messages: String) {
        self.name = name
        self.text = text
        self.messages = messages
    }

    var testDescription: String { name }
}

/// A director's file of which one part is exchanged: lines 1 to 7 are those below, then come `more`.
func directorText(
    interface: String = "interface: eth0",
    service: String = "  - {name: web, address: 10.0.0.100:80}",
    backends: String = "  - {name: web1, address: 10.0.0.11}\n  - {name: web2, address: 10.0.0.12}",
    more: String = ""
) -> String {
    "\(interface)\nservices:\n\(service)\nbackends:\n\(backends)\n\(more)"
}

/// An agent's file of three lines, and `more` from line 4 on.
func agentText(
    interface: String = "interface: eth0",
    name: String = "name: web1",
    director: String = "director: 10.0.0.1",
    more: String = ""
) -> String {
    "\(interface)\n\(name)\n\(director)\n\(more)"
}
