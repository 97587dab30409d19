import Glibc
import HTTP
import LinuxBase
import LinuxNetwork
import Model

/// Makes requests of the local application and reads the heads of its replies, without waiting for anything.
///
/// Belongs to the data thread. How long an answer may take is the take-over machine's affair; here a trial ends after
/// two seconds at the latest.
final class Trials {
    struct Outcome {
        var flow: FlowKey
        var facts: ReplyFacts?
    }

    private struct Trial {
        let flow: FlowKey
        let descriptor: FileDescriptor
        let request: [UInt8]
        let started: Instant
        var sent = 0
        var reply: [UInt8] = []
    }

    /// Open at a time; what is more fails at once, and is adopted without a trial.
    private static let limit = 512
    /// Tokens of the poller from here on are trials.
    private static let firstToken: UInt64 = 1 << 32
    private static let patience = Interval.seconds(2)

    private let poller: Poller
    private var open: [UInt64: Trial] = [:]
    private var next = Trials.firstToken
    private var results: [Outcome] = []

    init(poller: Poller) { self.poller = poller }

    var hasResults: Bool { !results.isEmpty }

    func takeResults() -> [Outcome] {
        defer { results.removeAll(keepingCapacity: true) }
        return results
    }

    func start(_ flow: FlowKey, _ request: [UInt8]) {
        dropOld()
        guard open.count < Self.limit, let descriptor = try? LocalConnection.start(to: flow.service) else {
            results.append(Outcome(flow: flow))
            return
        }
        let token = next
        next += 1
        do {
            try poller.add(descriptor.rawValue, token: token, readable: false, writable: true)
        } catch {
            results.append(Outcome(flow: flow))
            return
        }
        open[token] = Trial(flow: flow, descriptor: descriptor, request: request, started: MonotonicClock.now())
    }

    /// A trial's socket is ready for something.
    func serve(_ token: UInt64) {
        guard var trial = open[token] else { return }
        if trial.sent < trial.request.count {
            let count = trial.request.withUnsafeBytes {
                send(trial.descriptor.rawValue, $0.baseAddress?.advanced(by: trial.sent), $0.count - trial.sent, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 || errno == EAGAIN else { return finish(token, nil) }
            trial.sent += max(count, 0)
            if trial.sent == trial.request.count {
                do {
                    try poller.remove(trial.descriptor.rawValue)
                    try poller.add(trial.descriptor.rawValue, token: token)
                } catch {
                    return finish(token, nil)
                }
            }
            open[token] = trial
            return
        }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(trial.descriptor.rawValue, &buffer, buffer.count, 0)
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count > 0 else { return finish(token, nil) }
        trial.reply += buffer[..<count]
        open[token] = trial
        switch ReplyHead.parse(trial.reply) {
        case .incomplete: return
        case .malformed: finish(token, nil)
        case .facts(let facts): finish(token, facts)
        }
    }

    private func finish(_ token: UInt64, _ facts: ReplyFacts?) {
        guard let trial = open.removeValue(forKey: token) else { return }
        try? poller.remove(trial.descriptor.rawValue)
        results.append(Outcome(flow: trial.flow, facts: facts))
    }

    private func dropOld() {
        let now = MonotonicClock.now()
        for token in open.filter({ now - $0.value.started > Self.patience }).keys.sorted() { finish(token, nil) }
    }
}
