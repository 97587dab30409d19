import Configuration

/// Where a running director gets another configuration from.
public struct ConfigurationSource: Sendable {
    /// The file that the director was started with.
    public var path: String
    /// Reads and checks a file. On any thread.
    public var load: @Sendable (String) throws(ConfigurationError) -> DirectorConfiguration
    /// Reads and checks a text that is in no file. On any thread.
    public var read: DirectorConfiguration.TextReader

    public init(
        path: String,
        load: @escaping @Sendable (String) throws(ConfigurationError) -> DirectorConfiguration,
        read: @escaping DirectorConfiguration.TextReader
    ) {
        self.path = path
        self.load = load
        self.read = read
    }
}
