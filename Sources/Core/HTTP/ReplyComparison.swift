/// Holds the regenerated head against what the dead server had sent: is the body that follows the one that the client
/// has a part of? What cannot be shown is not taken for granted.
public enum ReplyComparison: Hashable, Sendable {
    /// The same reply, and its body starts at the same place.
    case same
    /// The same body behind a head that is longer by so many bytes (negative: shorter).
    case aligned(by: Int)
    /// Another reply.
    case different(Difference)
    /// Nothing shows that the body is the same.
    case unproven(Doubt)

    public enum Difference: UInt8, Sendable {
        case status, framing, contentEncoding, contentRange, entityTag, lastModified
    }

    public enum Doubt: UInt8, Sendable {
        /// The end of the body is told by chunks, whose borders are the server's own affair, or by closing.
        case framing
        /// Neither has a strong validator.
        case validator
        /// The client has a part of the head only: two heads differ in their dates at least.
        case insideHead
    }

    /// Compares the reply that is regenerated whole.
    ///
    /// - Parameter method: of the request that both answer.
    public static func whole(
        _ original: ReplyFacts,
        _ regenerated: ReplyFacts,
        answering method: RequestMethod
    ) -> ReplyComparison {
        guard original.status == regenerated.status else { return .different(.status) }
        guard original.contentEncoding == regenerated.contentEncoding else { return .different(.contentEncoding) }
        guard original.contentRange == regenerated.contentRange else { return .different(.contentRange) }
        guard original.framing == regenerated.framing else { return .different(.framing) }
        if let difference = difference(original, regenerated) { return .different(difference) }
        let longerBy = Int(regenerated.headBytes) - Int(original.headBytes)
        let equal: ReplyComparison = longerBy == 0 ? .same : .aligned(by: longerBy)
        // Without a body there is nothing else to be wrong.
        if original.bodyBytes(answering: method) == 0 { return equal }
        guard case .length = original.framing else { return .unproven(.framing) }
        // A 206 whose Content-Range we cannot read has several parts, or an unknown total.
        if original.status == 206, original.contentRange == nil { return .unproven(.validator) }
        guard original.status == 200 || original.status == 206 else { return .unproven(.validator) }
        if let etag = original.etag { return etag.isWeak ? .unproven(.validator) : equal }
        return original.lastModified == nil ? .unproven(.validator) : equal
    }

    private static func difference(_ original: ReplyFacts, _ regenerated: ReplyFacts) -> Difference? {
        if original.etag != regenerated.etag { return .entityTag }
        // A strong tag says more than a date, and the dates of two copies may well differ.
        if let etag = original.etag, !etag.isWeak { return nil }
        return original.lastModified == regenerated.lastModified ? nil : .lastModified
    }

    /// Compares the rest of a reply that a Range asked for (RFC 9110 15.3.7.3): with the same strong validator, and only
    /// then, its bytes and those that the client has are of one body.
    ///
    /// - Parameter asked: the range in the replayed request.
    /// - Returns: `.same`, for where the body starts is the asker's affair; or why not.
    public static func rest(
        _ original: ReplyFacts,
        _ regenerated: ReplyFacts,
        asked: ContentRange
    ) -> ReplyComparison {
        guard regenerated.status == 206 else { return .different(.status) }
        guard original.contentEncoding == nil, regenerated.contentEncoding == nil else {
            return .different(.contentEncoding)
        }
        guard regenerated.contentRange == asked else { return .different(.contentRange) }
        guard regenerated.framing == .length(asked.last - asked.first + 1) else { return .different(.framing) }
        guard let etag = original.etag, !etag.isWeak else { return .unproven(.validator) }
        return regenerated.etag == etag ? .same : .different(.entityTag)
    }
}
