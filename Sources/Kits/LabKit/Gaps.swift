import Model

/// A time in which nothing arrived.
public struct Gap: Sendable, Codable, Hashable {
    /// CLOCK_MONOTONIC of the last arrival before it.
    public var startNs: UInt64
    public var lengthNs: UInt64

    public var milliseconds: Double { Double(lengthNs) / 1e6 }

    enum CodingKeys: String, CodingKey {
        case startNs = "start_ns"
        case lengthNs = "length_ns"
    }
}

/// Watches arrivals and keeps the times in which there were none.
struct GapMeter: Sendable {
    /// Gaps shorter than this are not kept one by one; only the longest of all always is.
    static let kept: UInt64 = 5_000_000
    static let capacity = 20_000

    private(set) var first: UInt64?
    private(set) var last: UInt64?
    private(set) var longest: Gap?
    private(set) var gaps: [Gap] = []

    mutating func arrival(at now: UInt64) {
        defer { last = now }
        guard let last else {
            first = now
            return
        }
        let gap = Gap(startNs: last, lengthNs: now > last ? now - last : 0)
        if gap.lengthNs > longest?.lengthNs ?? 0 { longest = gap }
        if gap.lengthNs >= GapMeter.kept, gaps.count < GapMeter.capacity { gaps.append(gap) }
    }

    /// Counts the silence up to the end of a transfer that did not end with its last byte.
    mutating func brokenOff(at now: UInt64) {
        if first != nil { arrival(at: now) }
    }
}

/// What one client got.
public struct DownloadResult: Sendable, Codable {
    /// curl's exit status; 0 for the bulk client when the reply came whole.
    public var exitCode: Int32
    public var httpStatus: Int
    public var bytes: Int
    public var sha256: String
    public var localPort: UInt16
    public var startNs: UInt64
    public var firstByteNs: UInt64?
    public var endNs: UInt64
    /// The longest time between two reads of the application that got something.
    public var longestGap: Gap?
    /// Such times of 5 ms and more, in order.
    public var gaps: [Gap]
    /// The same for bytes arriving in order at the client's TCP (`tcpi_bytes_received`, sampled), curl only.
    ///
    /// A full receive buffer makes such gaps too: the client then has told the server to wait.
    public var longestArrivalGap: Gap?
    public var arrivalGaps: [Gap]
    /// What went wrong, in words; empty when nothing did.
    public var error: String

    /// The longest stall of the application that lasted into or began after an instant; in milliseconds.
    public func stall(after instant: Instant) -> Double { DownloadResult.longest(gaps, longestGap, after: instant) }

    /// The same at the client's TCP.
    public func arrivalStall(after instant: Instant) -> Double {
        DownloadResult.longest(arrivalGaps, longestArrivalGap, after: instant)
    }

    /// The longest stall at the client's TCP that the failure can have to do with: it began before the first new byte of
    /// the backup, and ended after the failure. A client that reads slowly makes longer ones of its own.
    public func arrivalStall(across failure: Instant, until newByte: Instant) -> Double {
        let early = (arrivalGaps + (longestArrivalGap.map { [$0] } ?? [])).filter { $0.startNs < newByte.nanoseconds }
        return DownloadResult.longest(early, nil, after: failure)
    }

    private static func longest(_ gaps: [Gap], _ longest: Gap?, after instant: Instant) -> Double {
        (gaps + (longest.map { [$0] } ?? [])).filter { $0.startNs + $0.lengthNs > instant.nanoseconds }
            .map(\.milliseconds).max() ?? 0
    }

    /// Whether the client got the file, whole and right.
    public func matches(_ file: PublishedFile) -> Bool {
        exitCode == 0 && bytes == file.size && sha256 == file.sha256
    }
}
