import Glibc
import Model
import Testing

@testable import ControlPlane

@Suite struct ClusterKeyTests {
    private func withFile(_ bytes: [UInt8], mode: mode_t, _ body: (String) throws -> Void) throws {
        var template = Array("/tmp/baton-key-XXXXXX".utf8CString)
        let descriptor = mkstemp(&template)
        try #require(descriptor >= 0)
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { unlink(path) }
        _ = write(descriptor, bytes, bytes.count)
        fchmod(descriptor, mode)
        close(descriptor)
        try body(path)
    }

    @Test func fileOfTheOwnerAloneIsRead() throws {
        let text = Array("0123456789abcdef0123456789abcdef".utf8)
        for mode in [0o600, 0o400] as [mode_t] {
            try withFile(text + Array(" \r\n\n".utf8), mode: mode) { path in
                let key = try ClusterKey(path: path)
                #expect(key.derive(.secureStream) == (try ClusterKey(bytes: text)).derive(.secureStream))
            }
        }
    }

    @Test(arguments: [0o640, 0o604, 0o620, 0o644, 0o660, 0o666, 0o610] as [mode_t])
    func fileOpenToOthersIsRefused(mode: mode_t) throws {
        try withFile([UInt8](repeating: 65, count: 40), mode: mode) { path in
            let error = #expect(throws: ClusterKeyError.self) { try ClusterKey(path: path) }
            #expect(error?.description.contains("chmod 600 \(path)") == true)
        }
    }

    @Test func lengthsOutOfBoundsAreRefused() throws {
        for count in [0, 1, 31, 4097, 10_000] {
            try withFile([UInt8](repeating: 65, count: count), mode: 0o600) { path in
                #expect(throws: ClusterKeyError.self) { try ClusterKey(path: path) }
            }
        }
        for count in [32, 4096] {
            try withFile([UInt8](repeating: 65, count: count), mode: 0o600) { path in _ = try ClusterKey(path: path) }
        }
    }

    @Test func whatIsNoFileIsRefused() {
        for path in ["/tmp", "/dev/zero", "/nonexistent/cluster.key"] {
            #expect(throws: ClusterKeyError.self) { try ClusterKey(path: path) }
        }
    }

    @Test func usesHaveDifferentKeys() throws {
        let key = try testKey()
        #expect(key.derive(.datagrams) != key.derive(.secureStream))
        #expect(key.derive(.datagrams) == key.derive(.datagrams))
    }
}
