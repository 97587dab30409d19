import Model
import Testing

@testable import Configuration

@Suite("Edits at run time")
struct EditTests {
    typealias Edit = ConfigurationEdit

    struct Case: CustomTestStringConvertible, Sendable {
        var edit: ConfigurationEdit
        /// What it changes, as a reload would say it; or the fault.
        var said: [String]
        var testDescription: String { said.joined(separator: "; ") }

        init(_ edit: ConfigurationEdit, _ said: String...) {
            self.edit = edit
            self.said = said
        }
    }

    static let cases: [Case] = [
        Case(
            Edit(.add, .service, "mail", [.init("address", "\"10.0.0.100:25\""), .init("policy", "sh"), .init("policy.port", "true")]),
            "+ service mail: address 10.0.0.100:25, policy {name: sh, port: true}"),
        Case(Edit(.add, .service, "web", [.init("address", "10.0.0.9:1")]), "there is a service web already"),
        Case(Edit(.add, .service, "mail"), "services[1].address: the key is missing; expected an address and a port, e.g. 10.0.0.100:80"),
        Case(Edit(.edit, .service, "web", [.init("policy", "wrr")]), "~ service web: policy rr -> wrr"),
        Case(Edit(.edit, .service, "10.0.0.100:80", [.init("policy", "wrr")]), "~ service web: policy rr -> wrr"),
        Case(
            Edit(.edit, .service, "web", [.init("policy", "wr")]),
            "services[0].policy: \"wr\" is not a dispatch policy; expected rr, wrr or sh; did you mean \"rr\"?"),
        Case(
            Edit(.edit, .service, "web", [.init("persistence.timeout", "300s"), .init("persistence.netmask", "24")]),
            "~ service web: persistence {timeout: 5m, netmask: 24, netmask_ipv6: 128} (new)"),
        Case(
            Edit(.add, .service, "calls", [.init("address", "10.0.0.100"), .init("protocol", "udp"), .init("ports", "[5060, 80-90]")]),
            "+ service calls: address 10.0.0.100, protocol udp, ports [5060, 80-90], forwarding owner"),
        Case(Edit(.edit, .service, "10.0.0.100:0", []), "no service \"10.0.0.100:0\"; there are: web"),
        Case(Edit(.edit, .service, "10.0.0.100:80/udp", []), "no service \"10.0.0.100:80/udp\"; there are: web"),
        Case(
            Edit(.edit, .service, "web", [.init("protocol", "udp"), .init("forwarding", nil)]),
            "~ service web: protocol tcp -> udp, forwarding selective -> owner"),
        Case(
            Edit(.edit, .service, "web", [.init("protocol", "udp")]),
            "services[0].forwarding: a service of UDP is forwarded only; expected owner"),
        Case(Edit(.edit, .service, "mail", []), "no service \"mail\"; there are: web"),
        Case(
            Edit(.delete, .service, "web"),
            "services: the list is empty; expected a list of 1 to 256 entries with the keys name, address, protocol, "
                + "ports, policy, persistence, replay, forwarding, checks, sorry, rate and burst"),
        Case(Edit(.add, .server, "web3", [.init("address", "10.0.0.13"), .init("weight", "5")]), "+ server web3: address 10.0.0.13, weight 5"),
        Case(
            Edit(.add, .server, "web3", [.init("address", "10.0.0.12")]),
            "backends[2].address: \"10.0.0.12\" is already backends[1].address; expected an address that no other back-end has"),
        Case(Edit(.edit, .server, "10.0.0.12", [.init("weight", "0")]), "~ server web2: weight 1 -> 0"),
        Case(Edit(.edit, .server, "web2", [.init("weight", nil)])),
        Case(
            Edit(.edit, .server, "*", [.init("weight", "2")]), "~ server web1: weight 1 -> 2", "~ server web2: weight 1 -> 2"),
        Case(Edit(.delete, .server, "web2"), "- server web2: 10.0.0.12"),
        Case(
            Edit(.edit, .server, "web2", [.init("colour", "red")]),
            "backends[1].colour: unknown key; expected one of name, address, weight, upper_threshold, lower_threshold"),
        Case(Edit(.edit, .server, "web2", [.init("weight", "{")]), "weight: \"{\" is no value of YAML"),
    ]

    @Test("an edit is checked like a file, and says what it changes", arguments: cases)
    func edit(_ item: Case) throws {
        let old = try director(directorText()).get()
        let said: [String]
        do {
            let tree = try item.edit.applied(to: old.tree)
            let new = try director(tree.yaml).get()
            said = ConfigurationDifference(from: old, to: new).lines
        } catch let error as ConfigurationError {
            said = error.withoutPlaces.split(separator: "\n").map(String.init)
        } catch {
            said = ["\(error)"]
        }
        #expect(said == item.said)
    }
}
