import ControlPlane
import LinuxBase
import Logging
import Model
import NIOCore
import Wire

/// The TLS sessions between agents: a backup asks the owners of its slots for what its tap has missed.
///
/// Carries messages between peers and the data thread, which owns what they are about; keeps nothing but who is who.
/// Belongs to the control thread's loop.
final class PeerSessions {
    /// What the agent's machine knows of its peers.
    struct Knowledge {
        /// Our hello for the owner of this life; nil while we are no member of the ring.
        var hello: (Life) -> PeerHello?
        var isPeer: (PeerHello) -> Bool
        var mayTell: (SlotID, PeerHello) -> Bool
    }

    /// One owner that we ask.
    private final class Owner {
        let id: BackendID
        let life: Life
        let address: IPAddress
        var connector: SecureConnector?

        init(_ source: SlotSource) {
            id = source.owner
            life = source.ownerLife
            address = source.address
        }
    }

    private let loop: any EventLoop
    private let key: ControlPlane.ClusterKey
    private let local: IPAddress
    private let port: UInt16
    private let failures: AuthenticationFailures
    private let logger: Logger
    private let mailbox: Mailbox
    private let knowledge: Knowledge
    private var listener: SecureListener?
    private var owners: [Owner] = []

    /// Requests of one peer that wait for the data thread: a peer has one for each slot.
    private static let waitingLimit = Limits.slots

    /// Listens on the TCP port with the number of the heartbeats' UDP port. On the loop.
    init(
        address: IPAddress,
        port: UInt16,
        on loop: any EventLoop,
        key: ControlPlane.ClusterKey,
        failures: AuthenticationFailures,
        logger: Logger,
        mailbox: Mailbox,
        knowledge: Knowledge
    ) throws {
        self.loop = loop
        self.key = key
        local = address
        self.port = port
        self.failures = failures
        self.logger = logger
        self.mailbox = mailbox
        self.knowledge = knowledge
        listener = try SecureListener(
            bind: Endpoint(address: address, port: port), on: loop, key: key, failures: failures, logger: logger
        ) { [unowned self] session in self.accepted(session) }
    }

    func close() {
        set([])
        listener?.close()
        listener = nil
    }

    // MARK: Those who ask us

    private final class Peer {
        var hello: PeerHello?
        var waiting = 0
    }

    private func accepted(_ session: SecureSession) {
        let peer = Peer()
        session.onFrame = { [weak self, unowned session] body in
            guard let self else { return session.close() }
            do {
                try self.received(try PeerMessage(decoding: body), peer, session)
            } catch {
                self.failures.record(.messageMalformed, from: session.peer, detail: "\(error)")
                session.close()
            }
        }
    }

    private func received(_ message: PeerMessage, _ peer: Peer, _ session: SecureSession) throws {
        let asked: (slot: SlotID, serial: UInt32)
        switch message {
        case .hello(let hello):
            guard peer.hello == nil, knowledge.isPeer(hello) else {
                refuse(SlotID(rawValue: 0), 0, .unknownPeer, session)
                session.close()
                return
            }
            peer.hello = hello
            return
        case .list(let request): asked = (request.slot, request.serial)
        case .fetch(let request): asked = (request.slot, request.serial)
        case .listed, .copies, .refused: return
        }
        guard let hello = peer.hello, peer.waiting < Self.waitingLimit else {
            session.close()
            return
        }
        guard knowledge.mayTell(asked.slot, hello) else {
            refuse(asked.slot, asked.serial, .notOurs, session)
            return
        }
        peer.waiting += 1
        let answer = LoopBound(value: (session, peer))
        mailbox.post(
            .peerRequest(message) { [loop] body in
                loop.execute {
                    let (session, peer) = answer.value
                    peer.waiting -= 1
                    session.send(body)
                }
            }
        )
    }

    private func refuse(
        _ slot: SlotID,
        _ serial: UInt32,
        _ reason: PeerRefusal.Reason,
        _ session: SecureSession
    ) {
        session.send(PeerMessage.refused(PeerRefusal(slot: slot, serial: serial, reason: reason)).encodeBody())
    }

    // MARK: Those whom we ask

    /// Keeps a session to each owner of the slots that we back up, and to no other.
    func set(_ sources: [SlotSource]) {
        var kept: [Owner] = []
        for source in sources where !kept.contains(where: { $0.id == source.owner }) {
            let known = owners.first {
                $0.id == source.owner && $0.life == source.ownerLife && $0.address == source.address
            }
            kept.append(known ?? Owner(source))
        }
        for owner in owners where !kept.contains(where: { $0 === owner }) { owner.connector?.stop() }
        owners = kept
        mailbox.post(.sources(sources))
        for owner in owners where owner.connector == nil { connect(owner) }
    }

    private func connect(_ owner: Owner) {
        do {
            let connector = try SecureConnector(
                to: Endpoint(address: owner.address, port: port),
                from: local,
                on: loop,
                key: key,
                failures: failures,
                logger: logger,
                random: { (try? Randomness.number()) ?? 0 }
            ) { [unowned self, unowned owner] session in self.opened(session, owner) }
            owner.connector = connector
            connector.start()
        } catch {
            logger.error("no session with \(owner.id) at \(owner.address): \(error)")
        }
    }

    private func opened(_ session: SecureSession, _ owner: Owner) {
        guard let hello = knowledge.hello(owner.life) else {
            session.close()
            return
        }
        let id = owner.id
        session.onFrame = { [weak self, unowned session] body in
            guard let self else { return session.close() }
            do {
                self.mailbox.post(.peerAnswer(try PeerMessage(decoding: body), from: id))
            } catch {
                self.failures.record(.messageMalformed, from: session.peer, detail: "\(error)")
                session.close()
            }
        }
        session.onClosed = { [mailbox, weak self, weak owner] _ in
            // Another life of this owner may have a session already.
            guard let self, let owner, self.owners.contains(where: { $0 === owner }) else { return }
            mailbox.post(.peerConnected(id, false))
        }
        session.send(PeerMessage.hello(hello).encodeBody())
        mailbox.post(.peerConnected(id, true))
    }

    /// A request of the data thread.
    func send(_ message: PeerMessage, to id: BackendID) {
        owners.first { $0.id == id }?.connector?.session?.send(message.encodeBody())
    }
}

/// Carries what belongs to the loop to another thread and back; only the loop looks into it.
private struct LoopBound<Value>: @unchecked Sendable {
    let value: Value
}
