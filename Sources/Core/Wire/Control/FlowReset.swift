import Model

/// A flow that has timed out: its owner shall end it at both ends.
public struct FlowReset: Hashable, Sendable {
    public var client: Endpoint
    public var service: ServiceID
    /// The service's own, of the several that it may have.
    public var port: UInt16

    /// In one message: the agent works them off between two heartbeats.
    public static let limit = 256

    public init(client: Endpoint, service: ServiceID, port: UInt16) {
        self.client = client
        self.service = service
        self.port = port
    }

    static func write(_ flows: [FlowReset], to writer: inout ControlWriter) {
        writer.list(flows, limit: limit) { writer, flow in
            writer.endpoint(flow.client)
            writer.integer(flow.service.rawValue)
            writer.integer(flow.port)
        }
    }

    static func read(from reader: inout ControlReader) throws(ControlDecodingError) -> [FlowReset] {
        reader.message = "resetFlows"
        return try reader.list("flows", limit: limit) { reader throws(ControlDecodingError) in
            FlowReset(
                client: try reader.endpoint("client"), service: ServiceID(rawValue: try reader.integer("service")),
                port: try reader.integer("port"))
        }
    }
}
