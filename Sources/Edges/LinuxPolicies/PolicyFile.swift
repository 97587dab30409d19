import CPolicy
import Glibc
public import ModuleInterfaces

/// Why a shared object is not used as a dispatch policy.
public struct PolicyRefusal: Error, CustomStringConvertible, Equatable {
    public let path: String
    public let cause: String
    public let remedy: String

    public var description: String { "cannot use the policy \(path): \(cause); \(remedy)" }
}

/// Loads dispatch policies of others: shared objects that speak baton_policy.h.
///
/// The code runs in the director with all its rights. So the file, and every directory above it, must belong to root
/// and be writable by nobody else; and it is never unloaded, for what it handed out stays in use.
public enum PolicyFile {
    /// - Parameters:
    ///   - path: absolute; links are followed, and what they lead to is held to the same rules.
    ///   - owner: who must own file and directories: root, but in tests.
    /// - Throws: before any code of the file has run, save for an object without a fitting `baton_policy`.
    public static func load(
        _ path: String, owner: uid_t = 0
    ) throws(PolicyRefusal) -> ModuleDescriptor<DispatchFactory> {
        guard path.hasPrefix("/") else { throw refusal(path, "it is no absolute path", "write the whole path") }
        guard let resolved = realpath(path, nil) else {
            throw refusal(path, String(cString: strerror(errno)), "put the file there, or correct the path")
        }
        let real = String(cString: resolved)
        free(resolved)
        try checkOwner(real, owner: owner)
        // Every symbol at once: what is missing shall be missed now, not at the first failure of a back-end.
        guard let handle = dlopen(real, RTLD_NOW | RTLD_LOCAL) else {
            throw refusal(path, message(), "build it as a shared object for this machine")
        }
        guard let symbol = dlsym(handle, "baton_policy") else {
            throw refusal(path, "it exports no symbol baton_policy", "declare one as in baton_policy.h")
        }
        return try describe(path, symbol.assumingMemoryBound(to: baton_policy.self).pointee)
    }

    /// A file that another user can exchange, by itself or by a directory on the way, is another user's code.
    private static func checkOwner(_ path: String, owner: uid_t) throws(PolicyRefusal) {
        var place = path
        while true {
            var information = stat()
            guard lstat(place, &information) == 0 else {
                throw refusal(path, "\(place): \(String(cString: strerror(errno)))", "make it readable")
            }
            let kind = information.st_mode & S_IFMT
            guard place != path || kind == S_IFREG else {
                throw refusal(path, "it is no regular file", "name the shared object itself")
            }
            guard information.st_uid == owner || information.st_uid == 0 else {
                throw refusal(path, "\(place) belongs to user \(information.st_uid)", "chown root it")
            }
            // In a directory with the sticky bit nobody exchanges what belongs to another.
            let isSticky = kind == S_IFDIR && information.st_mode & S_ISVTX != 0
            guard information.st_mode & (S_IWGRP | S_IWOTH) == 0 || isSticky else {
                throw refusal(path, "group or others may write \(place)", "chmod go-w it")
            }
            guard place != "/", let slash = place.lastIndex(of: "/") else { return }
            place = slash == place.startIndex ? "/" : String(place[..<slash])
        }
    }

    private static func describe(
        _ path: String, _ policy: baton_policy
    ) throws(PolicyRefusal) -> ModuleDescriptor<DispatchFactory> {
        guard policy.abi == UInt32(BATON_POLICY_ABI) else {
            throw refusal(
                path, "it speaks version \(policy.abi) of the interface, this director \(BATON_POLICY_ABI)",
                "build it anew with this director's baton_policy.h")
        }
        guard Int(policy.struct_bytes) >= MemoryLayout<baton_policy>.size, let name = policy.name,
            let plan = policy.plan
        else {
            throw refusal(path, "its baton_policy lacks fields", "build it anew with this director's baton_policy.h")
        }
        let text = String(cString: name)
        let isFit = { (byte: UInt8) in
            switch byte {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f: true
            default: false
            }
        }
        guard (1...32).contains(text.utf8.count), text.utf8.allSatisfy(isFit) else {
            throw refusal(path, "its name is none", "use 1 to 32 letters, digits, '.', '_' and '-'")
        }
        return ModuleDescriptor(
            name: text,
            version: "\(policy.abi)",
            summary: policy.summary.map { String(cString: $0) } ?? "",
            make: { _ in LoadedPolicy(fill: plan) }
        )
    }

    private static func message() -> String {
        guard let text = dlerror() else { return "it cannot be loaded" }
        return String(cString: text)
    }

    private static func refusal(_ path: String, _ cause: String, _ remedy: String) -> PolicyRefusal {
        PolicyRefusal(path: path, cause: cause, remedy: remedy)
    }
}
