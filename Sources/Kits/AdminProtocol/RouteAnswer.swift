/// The answer to `route`: where a flow would go, found out by running the data plane's own code.
public struct RouteAnswer: Codable, Sendable {
    /// Client and service as they were asked for.
    public var client: String
    public var address: String
    /// The service's name; nil when there is none at that address.
    public var service: String?
    public var policy: String?
    public var forwarding: String?
    /// `existing`: the flow is known; `new`: it would be opened now; `none`: it goes nowhere, and `reason` says why.
    public var flow: String
    /// Of an existing flow: `handshake`, `established`, `closing`.
    public var state: String?
    public var slot: Int?
    /// Who the slot was made for, and who owns it now.
    public var backend: String?
    public var owner: String?
    public var ownerMac: String?
    /// The slot is the one that the client's earlier flows had.
    public var persistent: Bool
    /// The way of each kind of frame.
    public var ways: [Way]
    /// Why it goes nowhere, or what else there is to know; a sentence.
    public var reason: String?

    public struct Way: Codable, Sendable, Equatable {
        /// `syn`, `acknowledgment` (without data), `data`.
        public var frame: String
        /// `owner`, `group`, `copies`, `stack` (this machine's own), `dropped`.
        public var to: String
        /// The Ethernet destination; nil where the frame is not sent.
        public var mac: String?
        /// Its slot: of a closing flow a SYN may have another than the rest.
        public var slot: Int?

        public init(frame: String, to: String, mac: String?, slot: Int?) {
            self.frame = frame
            self.to = to
            self.mac = mac
            self.slot = slot
        }
    }

    public init(client: String, address: String, flow: String, persistent: Bool, ways: [Way]) {
        self.client = client
        self.address = address
        self.flow = flow
        self.persistent = persistent
        self.ways = ways
    }
}
