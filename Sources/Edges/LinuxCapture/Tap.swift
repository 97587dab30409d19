import LinuxBase
import Model

/// A view of the frames of an interface; what it sees, its subclasses say.
///
/// One thread at a time; not Sendable.
public class Tap {
    private let capture: Capture

    init(_ capture: Capture) {
        self.capture = capture
    }

    /// Becomes readable when frames are there; for `Poller`.
    public final var descriptor: Int32 { capture.descriptor }

    /// Calls the body for each frame that is there, at most `max` of them; returns how many. Never blocks.
    ///
    /// The bytes are valid during the call only. `originalLength` is the frame's length on the wire: more than the bytes
    /// where the snap length cut it. The instant is the kernel's receive time, moved to CLOCK_MONOTONIC.
    @discardableResult
    public final func dispatch(
        max: Int,
        body: (_ captured: UnsafeRawBufferPointer, _ originalLength: Int, _ timestamp: Instant) -> Void
    ) throws(LinuxError) -> Int {
        try capture.dispatch(max: max, body: body)
    }

    /// Counts since the tap was opened.
    public final func statistics() throws(LinuxError) -> CaptureStatistics { try capture.statistics() }
}
