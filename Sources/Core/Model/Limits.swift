/// The bounds of every queue and table, in one place.
public enum Limits {
    /// Back-ends of one director.
    public static let backends = 256
    /// Slots: lives of back-ends that flows may still point to.
    public static let slots = 1024
    /// Services of one director.
    public static let services = 256
    /// Backups of one back-end ([Z] VI-A).
    public static let backups = 3
    /// Bytes of a node's name, UTF-8.
    public static let nameBytes = 32
    /// Bytes of one control message over TLS.
    public static let controlMessageBytes = 1 << 20
    /// Bytes of one heartbeat datagram: fits an Ethernet frame of 1,500 with room for IPv6.
    public static let datagramBytes = 1400
    /// Journal bytes of one backup connection before it becomes unprotected.
    public static let journalBytesPerConnection = 16 << 20
    /// Journal bytes of all backup connections of one agent.
    public static let journalBytes = 256 << 20
    /// Backup connections of one agent.
    public static let backupConnections = 65_536
}
