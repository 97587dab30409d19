import AdminProtocol
import Configuration
import ControlPlane
import Model
import ModuleInterfaces

// What `batonctl service forwarding` asks of the director. On the control thread.

extension DirectorRuntime {
    /// The data plane's number of a service's method; nil for a method that there is not.
    func forwardingNumber(of service: Configuration.DirectorConfiguration.Service) -> UInt8? {
        registry.forwarding(named: service.forwarding)?().dataPlaneNumber
    }

    /// The method that the file has for a service, whatever is in force.
    func savedForwarding(of service: Configuration.DirectorConfiguration.Service) -> String {
        saved.services.first { $0.name == service.name }?.forwarding ?? service.forwarding
    }

    /// An edit of the configuration, as any other.
    func changeForwarding(_ arguments: [String: String]) -> AdminAnswer {
        guard let name = arguments["name"], let method = arguments["method"] else {
            return .failure("service-forwarding takes the arguments name and method")
        }
        guard let index = configuration.services.firstIndex(where: { $0.name == name }) else {
            let names = configuration.services.map(\.name).joined(separator: ", ")
            return .failure("no service \"\(name)\"; there are: \(names)")
        }
        guard registry.forwarding(named: method) != nil else {
            let names = registry.forwarding.map(\.name).sorted().joined(separator: ", ")
            return .failure("no forwarding module \"\(method)\"; there are: \(names)")
        }
        let service = configuration.services[index]
        guard !service.isForwardedOnly || method == "owner" else {
            return .failure("service \(name) (\(service.addressText)) is forwarded only: its method is owner")
        }
        var new = configuration
        let former = new.services[index].forwarding
        new.services[index].forwarding = method
        let configured = savedForwarding(of: new.services[index])
        guard method != former else {
            return .encoding(
                ServiceForwarding(service: name, forwarding: method, former: former, configured: configured))
        }
        do {
            try apply(new)
        } catch {
            return .failure("\(error)")
        }
        return .encoding(ServiceForwarding(service: name, forwarding: method, former: former, configured: configured))
    }
}
