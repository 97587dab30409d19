import Clibbpf
import Glibc

/// What a program did with one made-up frame.
public struct BPFTestRun: Equatable, Sendable {
    /// The verdict: XDP_* or TC_ACT_*.
    public var verdict: UInt32
    /// The frame afterwards.
    public var frame: [UInt8]
    /// The context afterwards, as long as the one given; empty without one.
    public var context: [UInt8]
    /// Mean time of one run, to the nanosecond (the kernel rounds down).
    public var nanoseconds: UInt32
}

extension BPFProgram {
    /// Runs an XDP or tc program on a frame without any network (BPF_PROG_TEST_RUN). Its effects on maps are real.
    ///
    /// - Parameters:
    ///   - frame: at least 14 bytes.
    ///   - repetitions: each gets the frame as the one before left it, its data pointers set anew.
    ///   - context: the first bytes of a `struct xdp_md` or `struct __sk_buff` for the program, where it needs one.
    public func testRun(
        _ frame: [UInt8], repetitions: Int = 1, context: [UInt8] = []
    ) throws(BPFError) -> BPFTestRun {
        // Room for a program that makes the frame longer.
        var output = [UInt8](repeating: 0, count: frame.count + 256)
        var options = bpf_test_run_opts()
        // The kernel gives the whole of it back, however little it was given.
        var contextAfter = context + [UInt8](repeating: 0, count: context.isEmpty ? 0 : 512)
        options.sz = BATON_TEST_RUN_OPTIONS_BYTES
        options.repeat = Int32(clamping: repetitions)
        let contextBytes = UInt32(context.count)
        let code = frame.withUnsafeBytes { input in
            output.withUnsafeMutableBytes { output in
                contextAfter.withUnsafeMutableBytes { context in
                    options.data_in = input.baseAddress
                    options.data_size_in = UInt32(input.count)
                    options.data_out = output.baseAddress
                    options.data_size_out = UInt32(output.count)
                    // The kernel has copied it in before it writes it back.
                    options.ctx_in = context.isEmpty ? nil : UnsafeRawPointer(context.baseAddress)
                    options.ctx_size_in = contextBytes
                    options.ctx_out = context.isEmpty ? nil : context.baseAddress
                    options.ctx_size_out = UInt32(context.count)
                    return bpf_prog_test_run_opts(descriptor.number, &options)
                }
            }
        }
        guard code == 0 else { throw BPFError.latest("run", "eBPF program \(name)", code: -code) }
        return BPFTestRun(
            verdict: options.retval,
            frame: Array(output.prefix(Int(options.data_size_out))),
            context: Array(contextAfter.prefix(context.count)),
            nanoseconds: options.duration
        )
    }
}
