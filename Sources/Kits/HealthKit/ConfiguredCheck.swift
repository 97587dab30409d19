import Cluster
import Configuration
import Model

/// Why a check cannot be made of what the configuration says.
public struct CheckRefusal: Error, CustomStringConvertible {
    public let description: String
}

extension ServiceCheck {
    public var rules: HealthRules {
        let dampening = dampening.map {
            HealthRules.Dampening(changes: $0.changes, within: $0.within, hold: $0.hold)
        }
        return HealthRules(rise: rise, fall: fall, dampening: dampening)
    }

    /// - Parameter rules: nil: whoever runs it counts.
    public func schedule(counting rules: HealthRules?) -> HealthSchedule {
        HealthSchedule(rules: rules, interval: interval, jitter: jitter, timeout: timeout)
    }

    /// The check itself; nil for a kind that sends nothing.
    ///
    /// - Parameters:
    ///   - service: its name, for messages.
    ///   - program: what requests call their sender.
    /// - Throws: `CheckRefusal` for certificates that cannot be read.
    public func check(of service: String, by program: String) throws -> (any HealthCheck)? {
        switch kind.probe {
        case .ping: return PingCheck()
        case .tcp: return TCPCheck()
        case .tls: return TLSCheck(try tls(service, protocols: []))
        case .http: return HTTPCheck(expectation, agent: program)
        case .https: return HTTPCheck(expectation, tls: try tls(service, protocols: ["http/1.1"]), agent: program)
        case .dns:
            let type = DNSQuestion.RecordType.allCases.first { $0.name == recordType } ?? .a
            return DNSCheck(DNSQuestion(name: query, type: type), expected: answer)
        case .command: return CommandCheck(command)
        case nil: return nil
        }
    }

    private func tls(_ service: String, protocols: [String]) throws -> CheckTLS {
        do {
            // Without a port: it is no part of a server's name.
            let name = host.map { String($0.prefix { $0 != ":" }) }
            return try CheckTLS(serverName: name, verifies: verify, authorities: authorities, protocols: protocols)
        } catch {
            throw CheckRefusal(
                description:
                    "service \(service): the certificates of \(authorities ?? "the system") cannot be used: \(error)")
        }
    }

    private var expectation: HTTPCheck.Expectation {
        HTTPCheck.Expectation(
            path: path, host: host, statuses: statuses, text: body.map { Array($0.utf8) },
            pattern: regex.flatMap(TextPattern.init))
    }
}
