import Glibc
import Synchronization

/// Ctrl-C and SIGTERM, turned into a flag that every waiting call of the lab looks at.
///
/// A verb that built a lab unwinds by `LabError.interrupted` and takes its lab down on the way, as on any other error.
public enum Interrupts {
    private static let raised = Atomic<Bool>(false)
    private static let shielded = Atomic<Int>(0)

    /// Call before the first thread is made: blocks SIGINT, SIGTERM and SIGHUP in all threads, and waits for them in
    /// one.
    public static func install() {
        signal(SIGPIPE, SIG_IGN)
        // A shell starts background jobs with SIGINT ignored, and an ignored signal never reaches sigwait.
        for number in [SIGINT, SIGTERM] { signal(number, SIG_DFL) }
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&set, number) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        startThread {
            while true {
                var set = sigset_t()
                sigemptyset(&set)
                for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&set, number) }
                var number: Int32 = 0
                if sigwait(&set, &number) == 0 { raised.store(true, ordering: .releasing) }
            }
        }
    }

    /// Whether a signal asked for the end, seen from outside a shielded part.
    public static var isRaised: Bool {
        raised.load(ordering: .acquiring) && shielded.load(ordering: .acquiring) == 0
    }

    static func check() throws {
        if isRaised { throw LabError.interrupted }
    }

    /// Runs clean-up that must go to its end although a signal has come.
    static func shield<Result>(_ body: () throws -> Result) rethrows -> Result {
        shielded.add(1, ordering: .acquiringAndReleasing)
        defer { shielded.subtract(1, ordering: .acquiringAndReleasing) }
        return try body()
    }
}
