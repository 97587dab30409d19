import Testing

@testable import ControlPlane

@Suite struct ClusterKeyTests {
    @Test(arguments: [0, 1, 31, 4097, 10_000])
    func lengthsOutOfBoundsAreRefused(count: Int) {
        #expect(throws: ClusterKeyError.self) { try ClusterKey(bytes: [UInt8](repeating: 65, count: count)) }
    }

    @Test(arguments: [32, 4096])
    func lengthsWithinBoundsAreTaken(count: Int) throws {
        _ = try ClusterKey(bytes: [UInt8](repeating: 65, count: count))
    }

    @Test func usesHaveDifferentKeys() throws {
        let key = try testKey()
        #expect(key.derive(.datagrams) != key.derive(.secureStream))
        #expect(key.derive(.datagrams) == key.derive(.datagrams))
    }
}
