import CLinux
import Glibc
import Model

/// The one clock of Baton: CLOCK_MONOTONIC, which is also that of `bpf_ktime_get_ns`.
public enum MonotonicClock {
    /// The present instant. A few tens of nanoseconds; any thread.
    public static func now() -> Instant {
        var time = timespec()
        // Fails for no clock that exists; a vDSO call.
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Instant(nanoseconds: UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec))
    }
}

/// Random numbers of the kernel (getrandom(2)), fit for keys and lives.
public enum Randomness {
    public static func number() throws(LinuxError) -> UInt64 {
        var number: UInt64 = 0
        _ = try systemCall("read random bytes") { clinux_random(&number, MemoryLayout<UInt64>.size) }
        return number
    }

    /// At most 256 bytes.
    public static func bytes(_ count: Int) throws(LinuxError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        _ = try systemCall("read random bytes") { clinux_random(&bytes, count) }
        return bytes
    }
}

/// Memory that is never paged out.
public enum Memory {
    /// Keeps all present and future pages of the process in memory, as they are touched (mlockall(2), MCL_ONFAULT).
    ///
    /// A page fault from disk between a failure and its take-over would be worse than the memory.
    public static func lock() throws(LinuxError) {
        _ = try systemCall("lock memory", remedy: "raise LimitMEMLOCK, or give CAP_IPC_LOCK") { clinux_lock_memory() }
    }

    public static func unlock() throws(LinuxError) {
        _ = try systemCall("unlock memory") { clinux_unlock_memory() }
    }
}
