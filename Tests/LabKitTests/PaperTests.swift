import Glibc
import Testing

@testable import LabKit

/// docs/paper.md says what shows each section; what it names has to be there.
@Suite struct PaperTests {
    private struct Row {
        var number: Int
        var section: String
        var places: [String]
        var shown: [String]
    }

    private let root: String
    private let rows: [Row]
    private let files: [String]

    init() throws {
        let file = #filePath
        let root = file.split(separator: "/").dropLast(3).reduce(into: "") { $0 += "/" + $1 }
        rows = Self.rows(of: try Self.text(root + "/docs/paper.md"))
        files = ["Sources", "Plugins", "Tests"].flatMap { Self.walk(root + "/" + $0) }
        self.root = root
    }

    @Test func everyRowNamesATest() {
        #expect(rows.count > 25, "the table is not read")
        for row in rows { #expect(!row.shown.isEmpty, "\(row.section) (line \(row.number)) names no test") }
    }

    @Test func whatIsNamedIsThere() throws {
        let make = try Self.text(root + "/Makefile")
        let benches = try Self.text(root + "/Sources/Programs/baton-lab/BenchCommand.swift").lowercased()
        for row in rows {
            for name in row.shown {
                #expect(isThere(name, make: make, benches: benches), "line \(row.number), \(row.section): no \(name)")
            }
        }
    }

    @Test func thePlacesAreThere() {
        for row in rows {
            for place in row.places where place.contains("/") || place.hasSuffix(".swift") || place.hasSuffix(".h") {
                let name = place.last == "*" ? String(place.dropLast()) : place
                #expect(files.contains { $0.contains("/" + name) }, "line \(row.number), \(row.section): no \(place)")
            }
        }
    }

    /// The check itself can fail.
    @Test func whatIsNotThereIsFound() {
        #expect(!isThere("takeover-nothing", make: "", benches: ""))
        #expect(!isThere("nothing-*", make: "", benches: ""))
        #expect(!isThere("NothingTests", make: "", benches: ""))
        #expect(isThere("PaperTests", make: "", benches: ""))
        #expect(isThere("takeover-link", make: "", benches: ""))
    }

    /// A scenario, with `*` for several; a folder or a file of tests; a bench; a target of the Makefile.
    private func isThere(_ name: String, make: String, benches: String) -> Bool {
        let scenarios = ScenarioRegistry.all.map(\.name)
        if name.hasSuffix("*") { return scenarios.contains { $0.hasPrefix(name.dropLast()) } }
        let words = name.split(separator: " ").map(String.init)
        switch words.first {
        case "make": return make.contains("\n\(words.last ?? ""):")
        case "baton-lab", "bench": return benches.contains("struct " + (words.last ?? "").replacing("-", with: ""))
        case _: break
        }
        let file = name.hasSuffix(".swift") ? name : name + ".swift"
        return scenarios.contains(name) || files.contains { $0.hasSuffix("/" + file) && $0.contains("/Tests/") }
            || files.contains { $0.contains("/Tests/\(name)/") } || files.contains { $0 == "\(root)/\(name)" }
    }

    // MARK: Reading

    private static func rows(of text: String) -> [Row] {
        var rows: [Row] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            guard line.hasPrefix("|"), !line.hasPrefix("|-"), !line.hasPrefix("| [Z]") else { continue }
            let cells = line.split(separator: "|", omittingEmptySubsequences: false).dropFirst().map(String.init)
            guard cells.count >= 4 else { continue }
            rows.append(
                Row(number: index + 1, section: cells[0], places: quoted(cells[1]), shown: quoted(cells[2])))
        }
        return rows
    }

    private static func quoted(_ cell: String) -> [String] {
        let parts = cell.split(separator: "`", omittingEmptySubsequences: false)
        return parts.indices.filter { $0 % 2 == 1 }.map { String(parts[$0]) }
    }

    private static func text(_ path: String) throws -> String {
        let file = try #require(fopen(path, "r"), "\(path) cannot be read")
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func walk(_ folder: String) -> [String] {
        guard let directory = opendir(folder) else { return [] }
        defer { closedir(directory) }
        var found: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard !name.hasPrefix(".") else { continue }
            let path = folder + "/" + name
            found.append(path)
            if entry.pointee.d_type == UInt8(DT_DIR) { found += walk(path) }
        }
        return found
    }
}
