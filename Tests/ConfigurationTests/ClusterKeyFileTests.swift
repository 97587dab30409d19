import Glibc
import Testing

@testable import Configuration

/// A folder of its own under the system's folder for such, removed at the end.
private final class Folder {
    let path: String

    init() throws {
        var template = Array("/tmp/baton-key-XXXXXX".utf8CString)
        path = String(cString: try #require(mkdtemp(&template)))
    }

    func write(_ name: String, _ content: [UInt8], mode: mode_t = 0o600) -> String {
        let file = "\(path)/\(name)"
        let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        precondition(descriptor >= 0 && Glibc.write(descriptor, content, content.count) == content.count)
        precondition(fchmod(descriptor, mode) == 0 && close(descriptor) == 0)
        return file
    }

    deinit {
        for name in ["key", "link", "loop", "fifo", "a b's"] { unlink("\(path)/\(name)") }
        rmdir(path)
    }
}

private func messages(_ path: String) -> String {
    do throws(ConfigurationError) {
        _ = try ClusterKeyFile.load(path)
        return ""
    } catch {
        return error.description
    }
}

private func creation(_ file: String) -> String {
    "make one, the same for all machines of the cluster: "
        + "(umask 077; head -c 32 /dev/urandom | od -An -v -tx1 > \(file)); chmod 600 \(file)"
}

@Suite("The cluster key")
struct ClusterKeyFileTests {
    private let secret = (0..<32).map { UInt8($0 * 7 + 3) }
    private var digits: String {
        secret.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    @Test("hexadecimal digits in any layout, and raw bytes, are taken")
    func forms() throws {
        let folder = try Folder()
        let spaced = " " + digits.map(String.init).joined(separator: " \r\n\t") + "\n"
        for content in [digits, digits + "\n", digits.uppercased(), spaced].map({ Array($0.utf8) }) + [secret] {
            #expect(try ClusterKeyFile.load(folder.write("key", content)).bytes == secret)
        }
        #expect(try ClusterKeyFile.load(folder.write("key", secret, mode: 0o400)).bytes == secret)
    }

    @Test("what the remedy says makes a key that is taken")
    func remedy() throws {
        let folder = try Folder()
        let file = "\(folder.path)/a b's"
        let command = try #require(ClusterKeyFile.creation(file).split(separator: ": ", maxSplits: 1).last)
        var process = pid_t()
        let words = ["/bin/sh", "-c", String(command)]
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        #expect(posix_spawn(&process, "/bin/sh", nil, nil, &arguments, environ) == 0)
        var status: Int32 = 0
        #expect(waitpid(process, &status, 0) == process && status == 0)
        #expect(try ClusterKeyFile.load(file).bytes.count == 32)
    }

    @Test("permissions of group or others are refused", arguments: [0o640, 0o604, 0o620, 0o601, 0o644, 0o777])
    func permissions(mode: Int) throws {
        let folder = try Folder()
        let file = folder.write("key", secret, mode: mode_t(mode))
        #expect(
            messages(file)
                == "\(file): the cluster key has the permissions \(String(mode, radix: 8)): "
                + "group or others may use it; "
                + "take that away: chmod 600 \(file), and make a new key if others may have read it"
        )
    }

    @Test("another user's file is refused (needs root, which alone can give files away)")
    func owner() throws {
        let folder = try Folder()
        let file = folder.write("key", secret)
        #expect(chown(file, 65_534, 0) == 0)
        #expect(
            messages(file)
                == "\(file): the cluster key belongs to user 65534, who could change it; "
                + "give it to root: chown root \(file)"
        )
    }

    @Test("too little, too much, too simple")
    func contents() throws {
        let folder = try Folder()
        let say = { (content: [UInt8]) in
            let file = folder.write("key", content)
            return (messages(file), file)
        }
        let cases: [([UInt8], String)] = [
            ([], "has 0 bytes, less than 32"),
            (Array(secret.dropLast()), "has 31 bytes, less than 32"),
            (Array(digits.utf8.dropLast(2)), "has 31 bytes, less than 32"),
            (Array(digits.utf8.dropLast()), "has an odd number of hexadecimal digits (63)"),
            ([UInt8](repeating: 0, count: 32), "is one byte, repeated"),
            (Array(String(repeating: "0", count: 64).utf8), "is one byte, repeated"),
            ([UInt8](repeating: 1, count: 4097), "is larger than 4096 bytes"),
        ]
        for (content, problem) in cases {
            let (message, file) = say(content)
            #expect(message == "\(file): the cluster key \(problem); \(creation(file))")
        }
    }

    @Test("links are followed, loops and what is no file are refused")
    func kinds() throws {
        let folder = try Folder()
        let file = folder.write("key", secret)
        let (link, loop, fifo) = ("\(folder.path)/link", "\(folder.path)/loop", "\(folder.path)/fifo")
        #expect(symlink(file, link) == 0 && symlink(loop, loop) == 0 && mkfifo(fifo, 0o600) == 0)
        #expect(try ClusterKeyFile.load(link).bytes == secret)
        #expect(
            messages(loop) == "\(loop): the cluster key cannot be opened: Too many levels of symbolic links (errno 40)"
        )
        #expect(messages(fifo) == "\(fifo): the cluster key is not a regular file; \(creation(fifo))")
        #expect(
            messages(folder.path) == "\(folder.path): the cluster key is not a regular file; \(creation(folder.path))"
        )
        let absent = "\(folder.path)/absent"
        #expect(
            messages(absent)
                == "\(absent): the cluster key cannot be opened: No such file or directory (errno 2); "
                + creation(absent)
        )
    }

    @Test("no description shows the secret")
    func silence() throws {
        let key = try #require(ClusterKeyFile(bytes: secret))
        var dumped = ""
        dump(key, to: &dumped)
        for text in ["\(key)", String(reflecting: key), dumped] {
            #expect(text.contains("cluster key of 32 bytes"))
            #expect(text.utf8.count < 60)
        }
        #expect(Mirror(reflecting: key).children.isEmpty)
        #expect(ClusterKeyFile(bytes: Array(secret.dropLast())) == nil)
    }
}
