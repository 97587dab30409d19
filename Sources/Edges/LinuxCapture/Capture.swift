import Clibpcap
import Glibc
import LinuxBase
import Model

/// What a tap has seen and lost since it was opened.
public struct CaptureStatistics: Hashable, Sendable {
    /// Frames that passed the filter.
    public var received: UInt32
    /// Frames that passed the filter and found the ring full: each may be a hole in a journal.
    public var droppedByKernel: UInt32
}

/// One libpcap handle: nonblocking, with a kernel filter. One thread at a time.
final class Capture {
    enum Direction {
        case incoming, outgoing
    }

    private let handle: OpaquePointer
    private let interface: String
    let descriptor: Int32

    init(
        interface: String,
        filter: String,
        direction: Direction,
        ringBytes: Int,
        snapLength: Int,
        delivery: GroupTap.Delivery
    ) throws(LinuxError) {
        var problem = [CChar](repeating: 0, count: Int(PCAP_ERRBUF_SIZE))
        guard let handle = pcap_create(interface, &problem) else {
            throw LinuxError("open tap on", interface, errno: ENODEV, detail: Capture.text(problem))
        }
        do throws(LinuxError) {
            try Capture.configure(handle, interface, ringBytes, snapLength, delivery)
            try Capture.check(handle, interface, pcap_activate(handle))
            guard pcap_datalink(handle) == DLT_EN10MB else {
                throw LinuxError(
                    "open tap on",
                    interface,
                    errno: EPROTOTYPE,
                    detail: "not an Ethernet interface",
                    remedy: "name the Ethernet interface that faces the director"
                )
            }
            try Capture.install(handle, interface, filter)
            let way = direction == .incoming ? PCAP_D_IN : PCAP_D_OUT
            try Capture.check(handle, interface, pcap_setdirection(handle, way))
            guard pcap_setnonblock(handle, 1, &problem) == 0 else {
                throw LinuxError("open tap on", interface, errno: EINVAL, detail: Capture.text(problem))
            }
        } catch {
            pcap_close(handle)
            throw error
        }
        self.handle = handle
        self.interface = interface
        descriptor = pcap_get_selectable_fd(handle)
    }

    deinit {
        pcap_close(handle)
    }

    func dispatch(
        max: Int,
        body: (UnsafeRawBufferPointer, Int, Instant) -> Void
    ) throws(LinuxError) -> Int {
        let count = withoutActuallyEscaping(body) { body in
            var sink = Sink(wallToMonotonic: Capture.wallToMonotonic(), body: body)
            return withUnsafeMutablePointer(to: &sink) { sink in
                sink.withMemoryRebound(to: UInt8.self, capacity: MemoryLayout<Sink>.size) {
                    pcap_dispatch(handle, Int32(clamping: max), takeFrame, $0)
                }
            }
        }
        if count < 0 {
            throw LinuxError("read tap on", interface, errno: EIO, detail: String(cString: pcap_geterr(handle)))
        }
        return Int(count)
    }

    func statistics() throws(LinuxError) -> CaptureStatistics {
        var counts = pcap_stat()
        try Capture.check(handle, interface, pcap_stats(handle, &counts))
        return CaptureStatistics(received: counts.ps_recv, droppedByKernel: counts.ps_drop)
    }
}

// MARK: Opening

extension Capture {
    private static func configure(
        _ handle: OpaquePointer,
        _ interface: String,
        _ ringBytes: Int,
        _ snapLength: Int,
        _ delivery: GroupTap.Delivery
    ) throws(LinuxError) {
        try check(handle, interface, pcap_set_snaplen(handle, Int32(clamping: snapLength)))
        try check(handle, interface, pcap_set_buffer_size(handle, Int32(clamping: ringBytes)))
        // Promiscuous mode is not asked for: GroupMembership opens the NIC's filter for just the groups.
        try check(handle, interface, pcap_set_promisc(handle, 0))
        try check(handle, interface, pcap_set_tstamp_precision(handle, PCAP_TSTAMP_PRECISION_NANO))
        switch delivery {
        case .immediate:
            try check(handle, interface, pcap_set_immediate_mode(handle, 1))
        case .blocks(let milliseconds):
            try check(handle, interface, pcap_set_immediate_mode(handle, 0))
            try check(handle, interface, pcap_set_timeout(handle, milliseconds))
        }
    }

    private static func install(_ handle: OpaquePointer, _ interface: String, _ filter: String) throws(LinuxError) {
        var program = pcap_bpf_program()
        guard pcap_compile(handle, &program, filter, 1, PCAP_NETMASK_UNKNOWN) == 0 else {
            let detail = "\(String(cString: pcap_geterr(handle))) in \"\(filter)\""
            throw LinuxError("compile filter for tap on", interface, errno: EINVAL, detail: detail)
        }
        defer { pcap_freecode(&program) }
        try check(handle, interface, pcap_setfilter(handle, &program))
    }

    /// libpcap's result codes: negative is an error, positive a warning.
    private static func check(_ handle: OpaquePointer, _ interface: String, _ result: Int32) throws(LinuxError) {
        guard result < 0 else { return }
        let number: Int32
        switch result {
        case PCAP_ERROR_NO_SUCH_DEVICE: number = ENODEV
        case PCAP_ERROR_PERM_DENIED: number = EPERM
        case PCAP_ERROR_IFACE_NOT_UP: number = ENETDOWN
        default: number = EIO
        }
        let said = String(cString: pcap_geterr(handle))
        let detail = said.isEmpty ? String(cString: pcap_statustostr(result)) : said
        throw LinuxError("open tap on", interface, errno: number, detail: detail)
    }

    private static func text(_ buffer: [CChar]) -> String {
        String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

// MARK: Frames

/// What the C callback finds behind its context pointer; lives on the stack of `dispatch`.
private struct Sink {
    var wallToMonotonic: Int64
    var body: (UnsafeRawBufferPointer, Int, Instant) -> Void
}

extension Capture {
    /// libpcap gives CLOCK_REALTIME. The difference is read anew for each batch, since that clock may be stepped.
    fileprivate static func wallToMonotonic() -> Int64 {
        var wall = timespec()
        clock_gettime(CLOCK_REALTIME, &wall)
        let monotonic = Int64(bitPattern: MonotonicClock.now().nanoseconds)
        return monotonic &- (Int64(wall.tv_sec) &* 1_000_000_000 &+ Int64(wall.tv_nsec))
    }
}

/// A free function, so that no isolation is inherited by what libpcap calls.
private func takeFrame(
    context: UnsafeMutablePointer<UInt8>?,
    header: UnsafePointer<pcap_pkthdr>?,
    bytes: UnsafePointer<UInt8>?
) {
    guard let context, let header, let bytes else { return }
    let sink = UnsafeMutableRawPointer(context).assumingMemoryBound(to: Sink.self)
    // In nanosecond precision tv_usec holds nanoseconds.
    let wall = Int64(header.pointee.ts.tv_sec) &* 1_000_000_000 &+ Int64(header.pointee.ts.tv_usec)
    let instant = Instant(nanoseconds: UInt64(max(wall &+ sink.pointee.wallToMonotonic, 0)))
    let captured = UnsafeRawBufferPointer(start: bytes, count: Int(header.pointee.caplen))
    sink.pointee.body(captured, Int(header.pointee.len), instant)
}
