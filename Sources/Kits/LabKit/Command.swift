import CLab
import Glibc

/// What a program that ran to its end left.
public struct CommandResult: Sendable {
    public var status: ExitStatus
    public var output: String
    public var errors: String
}

/// Runs a program to its end, without a shell, and collects what it printed.
///
/// Throws when it cannot be started, on `.timeout` (the program is then killed), and on `.interrupted`.
@discardableResult
func runCommand(
    _ command: [String],
    input: StandardStream = .null,
    timeout seconds: Double = 60
) throws -> CommandResult {
    let output = try OutputCollector()
    let errors = try OutputCollector()
    let child: ChildProcess
    do {
        child = try ChildProcess(
            command, input: input, output: .descriptor(output.writeEnd), error: .descriptor(errors.writeEnd))
    } catch {
        output.closeWriteEnd()
        errors.closeWriteEnd()
        throw error
    }
    output.closeWriteEnd()
    errors.closeWriteEnd()
    do {
        let status = try child.wait(timeout: seconds)
        return CommandResult(status: status, output: output.text(), errors: errors.text())
    } catch {
        child.end()
        throw error
    }
}

/// Runs a program that has to succeed; the error carries what it printed.
@discardableResult
func require(_ command: [String], timeout seconds: Double = 60) throws -> String {
    let result = try runCommand(command, timeout: seconds)
    guard result.status.isSuccess else {
        let text = (result.errors + result.output).trimmedLines
        throw LabError.command(command, status: result.status.description, output: text)
    }
    return result.output
}

/// Reads a pipe to its end on a thread, so that a program with much to say never blocks.
final class OutputCollector: Sendable {
    let writeEnd: Int32
    private let promise: Promise<[UInt8]>

    init() throws {
        var ends: [Int32] = [-1, -1]
        guard clab_pipe(&ends) == 0 else { throw LabError.system("pipe", code: errno) }
        writeEnd = ends[1]
        promise = try Promise()
        let (promise, readEnd) = (promise, ends[0])
        startThread {
            var bytes: [UInt8] = []
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65536, alignment: 16)
            while true {
                let count = read(readEnd, buffer.baseAddress, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { break }
                bytes.append(contentsOf: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            }
            buffer.deallocate()
            close(readEnd)
            promise.fulfil(bytes)
        }
    }

    func closeWriteEnd() { close(writeEnd) }

    /// All that came; a grandchild that holds the pipe open is not waited for longer than a second.
    func text() -> String {
        let bytes = Interrupts.shield { promise.wait(until: Deadline(seconds: 1)) } ?? []
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension String {
    /// Without white space at both ends, line ends within turned to "; ".
    var trimmedLines: String {
        split(whereSeparator: \.isNewline).map { $0.drop { $0 == " " } }.filter { !$0.isEmpty }.joined(separator: "; ")
    }
}
