import Glibc
import Model
import NIOCore
import NIOPosix
import NIOSSL

@testable import HealthKit

/// Servers of the loopback for checks, on a loop of their own.
enum Servers {
    static let group = MultiThreadedEventLoopGroup.singleton

    static let loopback = IPAddress(ipv4: 0x7f00_0001)

    /// Answers each connection's first bytes with a text, and closes; nil: says nothing.
    static func stream(_ text: String?, tls: Bool = false) async throws -> (channel: any Channel, endpoint: Endpoint) {
        let context = tls ? try serverContext() : nil
        let channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let context { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context)) }
                    try channel.pipeline.syncOperations.addHandler(Answering(text))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return (channel, Endpoint(address: loopback, port: UInt16(channel.localAddress?.port ?? 0)))
    }

    /// Answers each datagram with what the closure makes of it.
    static func datagrams(
        _ answer: @escaping @Sendable ([UInt8]) -> [UInt8]?
    ) async throws -> (channel: any Channel, endpoint: Endpoint) {
        let channel = try await DatagramBootstrap(group: group)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Echoing(answer))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return (channel, Endpoint(address: loopback, port: UInt16(channel.localAddress?.port ?? 0)))
    }

    /// Runs one attempt, with its time-out. Returns why it failed, or nil.
    static func attempt(
        _ check: any HealthCheck, _ endpoint: Endpoint, timeout: TimeAmount = .seconds(2)
    ) async throws -> String? {
        let loop = group.next()
        let promise = loop.makePromise(of: String?.self)
        loop.execute {
            let target = CheckTarget(service: "web", backend: "web1", endpoint: endpoint)
            let run = CheckRun(loop: loop, target: target, timeout: timeout) { promise.succeed($0) }
            let timer = loop.scheduleTask(in: timeout) {
                run.cancel()
                promise.succeed("timeout")
            }
            promise.futureResult.whenComplete { _ in timer.cancel() }
            check.begin(run)
        }
        return try await promise.futureResult.get()
    }

    private static func serverContext() throws -> NIOSSLContext {
        let certificate = try NIOSSLCertificate(bytes: Array(certificateText.utf8), format: .pem)
        let key = try NIOSSLPrivateKey(bytes: Array(keyText.utf8), format: .pem)
        return try NIOSSLContext(
            configuration: .makeServerConfiguration(certificateChain: [.certificate(certificate)], privateKey: .privateKey(key)))
    }

    /// Of web.example, signed by itself; for these tests alone.
    static let certificateText = """
        -----BEGIN CERTIFICATE-----
        MIIBnDCCAUGgAwIBAgIUTuIhwhL3Z+ZantQhv69o1kjsc3IwCgYIKoZIzj0EAwIw
        FjEUMBIGA1UEAwwLd2ViLmV4YW1wbGUwIBcNMjYxMTIxMTMyNDEyWhgPMjEyNjEw
        MjgxMzI0MTJaMBYxFDASBgNVBAMMC3dlYi5leGFtcGxlMFkwEwYHKoZIzj0CAQYI
        KoZIzj0DAQcDQgAEl+1V5lHEIKs/cT5zpSN3m6eTOOOItVLxSvG08/sf1sso1Fq+
        yz3KJ/XiHEDNxHy06MSHGVXtxZzWdLrYXp0qdKNrMGkwHQYDVR0OBBYEFCBYgKj6
        SOeXeAYuwD7zax+M431hMB8GA1UdIwQYMBaAFCBYgKj6SOeXeAYuwD7zax+M431h
        MA8GA1UdEwEB/wQFMAMBAf8wFgYDVR0RBA8wDYILd2ViLmV4YW1wbGUwCgYIKoZI
        zj0EAwIDSQAwRgIhAKCohJ29G31nyXw9spT5WtGB1Gj/D7Wi/0v+192mtER8AiEA
        4ThM15r1IRoUJH3jb8Bo+pRp4X0YjOGvCVvWENmU+6k=
        -----END CERTIFICATE-----
        """

    private static let keyText = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDn42ZmnpRPGTDf2A
        Ml3uFA7rn0O3NOnAdh6MS5ClS6ihRANCAASX7VXmUcQgqz9xPnOlI3ebp5M444i1
        UvFK8bTz+x/WyyjUWr7LPcon9eIcQM3EfLToxIcZVe3FnNZ0uthenSp0
        -----END PRIVATE KEY-----
        """
}

private final class Answering: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let text: String?

    init(_ text: String?) { self.text = text }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let text else { return }
        context.writeAndFlush(wrapOutboundOut(context.channel.allocator.buffer(string: text)), promise: nil)
        context.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

private final class Echoing: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    typealias OutboundOut = AddressedEnvelope<ByteBuffer>

    private let answer: ([UInt8]) -> [UInt8]?

    init(_ answer: @escaping ([UInt8]) -> [UInt8]?) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        guard let bytes = answer(Array(envelope.data.readableBytesView)) else { return }
        let reply = AddressedEnvelope(
            remoteAddress: envelope.remoteAddress, data: context.channel.allocator.buffer(bytes: bytes))
        context.writeAndFlush(wrapOutboundOut(reply), promise: nil)
    }
}
