import CLinux
import Glibc
import LinuxBase
import Model
import Synchronization
import Testing

extension Edges {
    @Suite struct BaseTests {
        @Test func errorsAreSentences() {
            let error = LinuxError("create TUN device", "baton0", errno: EBUSY, remedy: "choose another name")
            #expect(
                error.description
                    == "cannot create TUN device baton0: Device or resource busy (EBUSY); choose another name"
            )
            #expect(LinuxError("list", "", errno: EPERM).description.contains("root"))
            #expect(LinuxError.text(99_999) == "error 99999")
        }

        /// Not being root is said in words; nothing is skipped.
        @Test func withoutRootItIsSaid() async {
            await #expect(processExitsWith: .success) {
                guard setuid(65_534) == 0 else { exit(2) }
                do {
                    try Privilege.requireRoot(for: "run the agent")
                    exit(3)
                } catch {
                    exit("\(error)".contains("not as user 65534") ? 0 : 4)
                }
            }
        }

        @Test func theRunnerIsRoot() throws {
            try Privilege.requireRoot(for: "test the Linux edges")
        }

        @Test func clockGoesOn() {
            let first = MonotonicClock.now()
            usleep(2_000)
            let length = MonotonicClock.now() - first
            #expect(length >= .milliseconds(2))
            #expect(length < .seconds(5))
        }

        @Test func randomNumbersDiffer() throws {
            let numbers = try (0..<64).map { _ in try Randomness.number() }
            #expect(Set(numbers).count == 64)
            let bytes = try (0..<2).map { _ in try Randomness.bytes(32) }
            #expect(bytes[0] != bytes[1])
            #expect(try Randomness.bytes(0) == [])
            #expect(failure { _ = try Randomness.bytes(257) }?.errno == EINVAL)
        }

        @Test func eventsWakeThePoller() throws {
            let poller = try Poller()
            let (first, second, timer) = (try EventFD(), try EventFD(), try TimerFD())
            try poller.add(first.descriptor, token: 1)
            try poller.add(second.descriptor, token: .max)
            try poller.add(timer.descriptor, token: 3)
            func ready(_ timeout: Interval) throws -> [UInt64] {
                var tokens: [UInt64] = []
                try poller.wait(timeout: timeout) { ready in
                    #expect(ready.readable && !ready.failed)
                    tokens.append(ready.token)
                }
                return tokens.sorted()
            }
            #expect(try ready(.zero) == [])
            let before = MonotonicClock.now()
            #expect(try ready(.microseconds(3_500)) == [])
            #expect(MonotonicClock.now() - before >= .microseconds(3_500))
            first.signal()
            first.signal()
            second.signal()
            #expect(try ready(.seconds(1)) == [1, .max])
            #expect(first.drain() == 2)
            #expect(first.drain() == 0)
            #expect(try ready(.zero) == [.max])
            second.drain()
            try timer.arm(at: MonotonicClock.now() + .milliseconds(5))
            #expect(try ready(.seconds(2)) == [3])
            #expect(timer.drain())
            #expect(!timer.drain())
            // One that is past fires at once; a disarmed one never.
            try timer.arm(at: Instant(nanoseconds: 0))
            #expect(try ready(.seconds(1)) == [3])
            try timer.arm(at: nil)
            #expect(try ready(.milliseconds(10)) == [])
            try timer.arm(at: .never)
            #expect(try ready(.milliseconds(10)) == [])
            try poller.remove(first.descriptor.rawValue)
            first.signal()
            #expect(try ready(.milliseconds(10)) == [])
            #expect(failure { try poller.remove(first.descriptor.rawValue) }?.errno == ENOENT)
        }

        @Test func threadRunsInRealTime() throws {
            final class Box: Sendable { let result = Mutex<(Int32, Int32, String)>((-1, -1, "")) }
            let box = Box()
            let thread = try RealtimeThread.start(name: "bte-thread-with-long-name", priority: 20) {
                usleep(20_000)
                var parameters = sched_param()
                var policy: Int32 = 0
                pthread_getschedparam(pthread_self(), &policy, &parameters)
                let comm = FileDescriptor(owning: open("/proc/thread-self/comm", O_RDONLY))
                let text = comm.readAll().filter { $0 != "\n" }
                let (found, priority) = (policy, parameters.sched_priority)
                box.result.withLock { $0 = (found, priority, text) }
            }
            thread.join()
            let (policy, priority, name) = box.result.withLock { $0 }
            #expect(name == "bte-thread-with")
            // Containers may refuse SCHED_FIFO: then the thread says so and runs all the same.
            #expect(thread.isRealtime == (policy == SCHED_FIFO))
            #expect(thread.isRealtime ? priority == 20 : thread.refusal == EPERM)
        }

        @Test func refusedRealTimeIsTold() async {
            await #expect(processExitsWith: .success) {
                guard setuid(65_534) == 0 else { exit(2) }
                do {
                    let thread = try RealtimeThread.start(name: "bte", priority: 20) {}
                    thread.join()
                    exit(!thread.isRealtime && thread.refusal == EPERM ? 0 : 3)
                } catch {
                    exit(4)
                }
            }
        }

        /// A thread started from the main actor must not inherit its isolation (it would trap).
        @MainActor @Test func threadFromTheMainActor() throws {
            let done = try EventFD()
            let thread = try RealtimeThread.start(name: "bte-main") { done.signal() }
            thread.join()
            #expect(done.drain() == 1)
        }

        @Test func memoryIsLocked() async {
            await #expect(processExitsWith: .success) {
                do {
                    try Memory.lock()
                    try Memory.unlock()
                    exit(0)
                } catch {
                    exit(1)
                }
            }
        }
    }
}
