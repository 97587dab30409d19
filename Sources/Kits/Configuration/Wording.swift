/// What was found, in quotes: control characters escaped, long texts cut, so that one fault stays one line.
func quoted(_ text: String, limit: Int = 64) -> String {
    var result = "\""
    for (index, scalar) in text.unicodeScalars.enumerated() {
        if index == limit {
            result += "..."
            break
        }
        switch scalar {
        case "\"", "\\": result += "\\\(scalar)"
        case "\n": result += "\\n"
        case "\t": result += "\\t"
        case "\r": result += "\\r"
        case _ where scalar.properties.generalCategory == .control || scalar.properties.generalCategory == .format:
            result += "\\u{\(String(scalar.value, radix: 16))}"
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}

/// The candidate that `text` is most likely a slip of; nil when none is near.
///
/// Near is: at most one edit for every three characters (insert, drop, replace, swap neighbours), two at most, and
/// fewer edits than characters; or else: the first three letters or more of it.
func nearest(to text: String, among candidates: [String]) -> String? {
    let allowed = min(2, max(1, text.count / 3))
    var best: (candidate: String, distance: Int)?
    for candidate in candidates where abs(candidate.count - text.count) <= allowed {
        let distance = editDistance(
            Array(text.lowercased().unicodeScalars),
            Array(candidate.lowercased().unicodeScalars)
        )
        guard distance <= allowed, distance < text.count else { continue }
        if best.map({ distance < $0.distance }) ?? true { best = (candidate, distance) }
    }
    if best == nil, text.count >= 3 { return candidates.first { $0.hasPrefix(text.lowercased()) } }
    return best?.candidate
}

/// The optimal string alignment distance: edits between two texts, a swap of neighbours counted as one.
private func editDistance(_ left: [Unicode.Scalar], _ right: [Unicode.Scalar]) -> Int {
    var beforeLast: [Int] = []
    var last = Array(0...right.count)
    for row in 0..<left.count {
        var current = [row + 1]
        for column in 0..<right.count {
            let replaced = last[column] + (left[row] == right[column] ? 0 : 1)
            var cost = min(replaced, last[column + 1] + 1, current[column] + 1)
            if row > 0, column > 0, left[row] == right[column - 1], left[row - 1] == right[column] {
                cost = min(cost, beforeLast[column - 1] + 1)
            }
            current.append(cost)
        }
        beforeLast = last
        last = current
    }
    return last[right.count]
}

/// `did you mean "x"?` when something near is known.
func suggestion(for text: String, among candidates: [String]) -> String? {
    nearest(to: text, among: candidates).map { "did you mean \(quoted($0))?" }
}

/// `a`, `a or b`, `a, b or c`.
func alternatives(_ names: [String]) -> String {
    guard let last = names.last, names.count > 1 else { return names.first ?? "" }
    return names.dropLast().joined(separator: ", ") + " or " + last
}
