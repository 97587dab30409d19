import Cluster
import Model
import Wire

extension Simulation {
    /// A message between two data threads, over the TLS session that their control threads keep. A session that breaks
    /// loses it; the asker asks again.
    func sendToPeer(_ message: PeerMessage, from: Int, to peer: BackendID) {
        let to = Int(peer.rawValue) + 1
        guard to < hosts.count, !links.isCut(from, to), !links.isCut(to, from), hosts[to].isAlive,
            let sender = hosts[from].agent
        else { return }
        let body = message.encodeBody()
        guard let read = try? PeerMessage(decoding: body), let id = sender.director?.backend else { return }
        let input: DataInput
        switch read {
        case .list, .fetch: input = .peerRequest(read, from: id, life: sender.life)
        case .hello, .listed, .copies, .refused: input = .peerAnswer(read, from: id)
        }
        let time = now + random.microseconds(60...1_500)
        queue.push(.data(input, host: to, incarnation: hosts[to].incarnation), at: time)
    }
}
