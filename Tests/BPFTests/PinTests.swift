import BPFObjects
import CContract
import Glibc
import LinuxBPF
import Model
import Testing

/// What outlives the daemon: pinned maps and links, and when they are refused.
@Suite struct PinTests {
    private let configuration = DirectorPlane.Configuration(flows: 4096, interfaceAddress: nil)

    @Test func aMountedFolderIsABPFFileSystem() throws {
        let folder = try PinFolder()
        #expect(BPFFileSystem.contains(folder.path))
        #expect(!BPFFileSystem.contains("/tmp"))
        #expect(try BPFFileSystem.prepare(folder: folder.path + "/a/b") == nil)
        #expect(access(folder.path + "/a/b", F_OK) == 0)
        try BPFFileSystem.remove(folder: folder.path + "/a/b")
        #expect(access(folder.path + "/a/b", F_OK) != 0)
        try BPFFileSystem.remove(folder: folder.path + "/a/b")
        // Nothing outside such a file system is ever removed.
        let file = "/tmp/btb-\(getpid())-plain"
        mkdir(file, 0o700)
        defer { rmdir(file) }
        #expect(throws: BPFError.self) { try BPFFileSystem.remove(folder: file) }
    }

    @Test func aSecondStartFindsTheFlowsAndExchangesTheProgram() throws {
        let folder = try PinFolder()
        let namespace = try Namespace()
        try namespace.run("ip link add eth0 type veth peer name peer0")
        let key = baton_flow_key(client: IPAddress(ipv4: 0x0a00_0002), clientPort: 1234, service: 3, servicePort: 80)
        try namespace.enter {
            let interface = try interfaceIndex("eth0")
            let first = try DirectorPlane.start(configuration, interface: interface, pins: folder.path)
            #expect(first.interface == .attached(.native))
            #expect(first.maps.count == 26 && first.maps.allSatisfy { !$0.isReused })
            try first.plane.flows.put(key, baton_flow(slot: 5, flags: 1, group_time: 0, group_ack: 77, last_seen_ns: 1))
        }
        // Nothing of the first start is held any more but its pins.
        try namespace.enter {
            let interface = try interfaceIndex("eth0")
            #expect(try BPFLink.xdpMode(of: interface) == .native)
            var changed = configuration
            changed.flows = 8192
            let second = try DirectorPlane.start(changed, interface: interface, pins: folder.path)
            #expect(second.interface == .updated)
            #expect(second.maps.filter { !$0.isReused }.map(\.name).sorted() == ["flows", "layout"])
            // A table of another size is copied.
            let flows = second.maps.first { $0.name == "flows" }
            #expect(flows?.maxEntries == 8192 && flows?.isMigrated == true)
            #expect(try second.plane.flows.maxEntries == 8192)
            #expect(try second.plane.flows.get(key)?.group_ack == 77)
        }
        try namespace.enter {
            let interface = try interfaceIndex("eth0")
            try DirectorPlane.remove(pins: folder.path)
            // The kernel lets go of the link a moment after its last reference (bpf_link_put defers to a worker).
            for _ in 0..<100 where try BPFLink.xdpMode(of: interface) != nil { usleep(10_000) }
            #expect(try BPFLink.xdpMode(of: interface) == nil)
        }
    }

    @Test func aNewInterfaceGetsANewLink() throws {
        let folder = try PinFolder()
        let namespace = try Namespace()
        for round in 0..<2 {
            try namespace.run("ip link add eth0 type veth peer name peer0")
            try namespace.enter {
                let start = try DirectorPlane.start(
                    configuration, interface: try interfaceIndex("eth0"), pins: folder.path)
                #expect(start.interface == .attached(.native), "round \(round)")
            }
            try namespace.run("ip link del eth0")
        }
    }

    @Test func anInterfaceInUseIsNotTaken() throws {
        let namespace = try Namespace()
        try namespace.run("ip link add eth0 type veth peer name peer0")
        try namespace.enter {
            let interface = try interfaceIndex("eth0")
            let plane = try DirectorPlane.load(configuration)
            let (link, _) = try BPFLink.attachXDP(plane.program, interface: interface)
            let error = #expect(throws: BPFError.self) { try BPFLink.attachXDP(plane.program, interface: interface) }
            #expect(error?.code == EBUSY)
            #expect(error?.description.contains("another XDP program is there") == true)
            try link.detach()
            #expect(try BPFLink.xdpMode(of: interface) == nil)
        }
    }

    @Test func anotherLayoutIsRefused() throws {
        let folder = try PinFolder()
        var object = try BPFObjectHandle(.director)
        _ = try object.load(pinningMapsIn: folder.path, layoutVersion: 1)
        var newer = try BPFObjectHandle(.director)
        let error = refusal { _ = try newer.load(pinningMapsIn: folder.path, layoutVersion: 2) }
        #expect(error?.description.contains("layout version 1, this program has 2") == true)
        unlink(folder.path + "/layout")
        var lost = try BPFObjectHandle(.director)
        let unknown = refusal { _ = try lost.load(pinningMapsIn: folder.path, layoutVersion: 1) }
        #expect(unknown?.description.contains("do not say which layout") == true)
    }

    @Test func aMapOfAnotherShapeIsRefused() throws {
        let folder = try PinFolder()
        var object = try BPFObjectHandle(.director)
        _ = try object.load(pinningMapsIn: folder.path, layoutVersion: 1)
        // The plan in the place of the flows.
        unlink(folder.path + "/flows")
        unlink(folder.path + "/plan")
        try pinPlan(at: folder.path + "/flows")
        var next = try BPFObjectHandle(.director)
        let error = refusal { _ = try next.load(pinningMapsIn: folder.path, layoutVersion: 1) }
        #expect(error?.subject == folder.path + "/flows")
    }

    @Test func roomToWorkInIsNotKept() throws {
        let folder = try PinFolder()
        var object = try BPFObjectHandle(.director)
        _ = try object.load(pinningMapsIn: folder.path, layoutVersion: 1)
        // As a former version pinned it, in a shape that this one does not have.
        try pinPlan(at: folder.path + "/opening_scratch")
        var next = try BPFObjectHandle(.director)
        let maps = try next.load(pinningMapsIn: folder.path, layoutVersion: 1)
        #expect(!maps.contains { $0.name.hasSuffix("scratch") })
        #expect(access(folder.path + "/opening_scratch", F_OK) != 0)
    }

    @Test func aHalfPinnedFolderIsCompleted() throws {
        let folder = try PinFolder()
        var object = try BPFObjectHandle(.director)
        _ = try object.load(pinningMapsIn: folder.path, layoutVersion: 1)
        unlink(folder.path + "/slots")
        var next = try BPFObjectHandle(.director)
        let maps = try next.load(pinningMapsIn: folder.path, layoutVersion: 1)
        #expect(maps.filter { !$0.isReused }.map { $0.name } == ["slots"])
        #expect(try BPFMap<UInt32, baton_slot>.pinned(at: folder.path + "/slots") != nil)
        #expect(try BPFMap<UInt32, baton_slot>.pinned(at: folder.path + "/nothing") == nil)
        #expect(throws: BPFError.self) { try BPFMap<UInt32, UInt64>.pinned(at: folder.path + "/slots") }
    }

    /// A second object whose map `plan` alone gets pinned, under another name.
    private func pinPlan(at path: String) throws {
        let aside = try PinFolder()
        var object = try BPFObjectHandle(.director)
        _ = try object.load(pinningMapsIn: aside.path, layoutVersion: 1, maps: ["plan"])
        let plan = try #require(try BPFMap<UInt32, baton_plan_row>.pinned(at: aside.path + "/plan"))
        try plan.pin(at: path)
    }

    private func refusal(_ body: () throws -> Void) -> BPFError? {
        do {
            try body()
            return nil
        } catch {
            return error as? BPFError
        }
    }
}
