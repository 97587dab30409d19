import Glibc
import LinuxPolicies
import Model
import ModuleInterfaces
import Testing

/// A folder of its own, in a place that only its owner can change, removed at the end.
private final class Folder {
    let path: String

    init() throws {
        // Not below /tmp by way of a variable: every directory on the way counts.
        var template = Array("/var/tmp/baton-policies.XXXXXX".utf8CString)
        let made = try #require(mkdtemp(&template))
        path = String(cString: made)
    }

    deinit { _ = shell("rm -rf '\(path)'") }
}

@discardableResult
private func shell(_ command: String) -> Int32 {
    var pid = pid_t()
    let words = ["/bin/sh", "-c", command]
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { arguments.forEach { free($0) } }
    guard posix_spawn(&pid, "/bin/sh", nil, nil, &arguments, environ) == 0 else { return -1 }
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    return status
}

private let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
private let me = getuid()

@Suite("Policies by others", .serialized)
struct PolicyLoadingTests {
    private let slots = [(2, 5), (4, 0), (7, 1), (9, 3)].map {
        DispatchBackend(slot: SlotID(rawValue: $0.0), weight: $0.1, takenOver: $0.0 == 9 ? [SlotID(rawValue: 3)] : [])
    }

    /// A shared object of a C source that includes baton_policy.h.
    private func build(_ source: String, in folder: Folder, _ name: String) throws -> String {
        let path = "\(folder.path)/\(name).so"
        let include = "-I '\(root)/Sources/Modules/CPolicy/include'"
        let command = "printf '%s' \"$SOURCE\" | clang -x c \(include) -fPIC -shared -o '\(path)' -"
        setenv("SOURCE", "#include \"baton_policy.h\"\n" + source, 1)
        try #require(shell(command) == 0)
        return path
    }

    private func refusal(_ path: String, owner: uid_t = me) -> String {
        do {
            _ = try PolicyFile.load(path, owner: owner)
            return ""
        } catch {
            return error.description
        }
    }

    @Test("The examples in C and in Embedded Swift are built, loaded, and dispatch")
    func examples() throws {
        let folder = try Folder()
        try #require(shell("'\(root)/Plugins/Examples/build.sh' '\(folder.path)'") == 0)
        var registry = ModuleRegistry()
        for name in ["reversed", "spare"] {
            let module = try PolicyFile.load("\(folder.path)/\(name).so", owner: me)
            #expect(module.name == name && !module.summary.isEmpty)
            let isNew = registry.register(dispatch: module)
            #expect(isNew)
        }
        let makereversed = try #require(registry.dispatch(named: "reversed"))
        let reversed = makereversed(ModuleOptions())
        #expect(reversed.plan(for: slots).table.map(\.rawValue) == [9, 7, 2])
        #expect(reversed.plan(for: []) == .nobody)
        let makespare = try #require(registry.dispatch(named: "spare"))
        let spare = makespare(ModuleOptions())
        let plan = spare.plan(for: slots)
        #expect(plan.kind == .least && plan.rule == .overhead)
        #expect(plan.candidates.map(\.slot.rawValue) == [2, 9])
        #expect(plan.candidates.map(\.weight) == [5, 3])
        #expect(plan.candidates.last?.takenOver == [SlotID(rawValue: 3)])
        #expect(spare.plan(for: [slots[2]]).candidates.map(\.slot.rawValue) == [7])
        #expect(spare.plan(for: slots) == plan)
    }

    @Test("A file that others can change is refused, and so is one below a directory that they can change")
    func owners() throws {
        let folder = try Folder()
        try #require(shell("'\(root)/Plugins/Examples/build.sh' '\(folder.path)'") == 0)
        let path = "\(folder.path)/reversed.so"
        #expect(refusal(path) == "")
        for mode in ["g+w", "o+w"] {
            shell("chmod go-w '\(path)'; chmod \(mode) '\(path)'")
            #expect(refusal(path).contains("group or others may write \(path); chmod go-w it"))
        }
        shell("chmod go-w '\(path)'; chmod g+w '\(folder.path)'")
        #expect(refusal(path).contains("group or others may write \(folder.path)"))
        shell("chmod go-w '\(folder.path)'")
        // A link is held to what it leads to.
        shell("ln -s '\(path)' '\(folder.path)/link.so'")
        #expect(refusal("\(folder.path)/link.so") == "")
        if me == 0 {
            shell("chown 12345 '\(path)'")
            #expect(refusal(path).contains("\(path) belongs to user 12345"))
            #expect(refusal("\(folder.path)/link.so").contains("belongs to user 12345"))
        }
    }

    @Test("What is no policy is refused with cause and remedy")
    func strangers() throws {
        let folder = try Folder()
        #expect(refusal("policy.so").contains("it is no absolute path"))
        #expect(refusal("\(folder.path)/none.so").contains("No such file"))
        #expect(refusal(folder.path).contains("it is no regular file"))
        shell("echo text > '\(folder.path)/text.so'")
        #expect(refusal("\(folder.path)/text.so").contains("build it as a shared object"))
        let empty = try build("int nothing;", in: folder, "empty")
        #expect(refusal(empty).contains("exports no symbol baton_policy"))
        let plan = "static int32_t plan(const struct baton_policy_backend *b, uint32_t n, struct baton_policy_plan *p) "
            + "{ return 0; }\n"
        let policy = { (abi: String, bytes: String, name: String, plan: String) in
            "const struct baton_policy baton_policy = {\(abi), \(bytes), \(name), \"\", \(plan)};"
        }
        let whole = "sizeof(struct baton_policy)"
        let cases: [(String, String)] = [
            (policy("2", whole, "\"x\"", "plan"), "speaks version 2 of the interface, this director 1"),
            (policy("0", whole, "\"x\"", "plan"), "speaks version 0"),
            (policy("1", "8", "\"x\"", "plan"), "lacks fields"),
            (policy("1", whole, "\"x\"", "0"), "lacks fields"),
            (policy("1", whole, "0", "plan"), "lacks fields"),
            (policy("1", whole, "\"a b\"", "plan"), "its name is none"),
            (policy("1", whole, "\"\"", "plan"), "its name is none"),
        ]
        for (index, (source, cause)) in cases.enumerated() {
            let path = try build(plan + source, in: folder, "case\(index)")
            #expect(refusal(path).contains(cause), "\(source)")
        }
    }

    @Test("What a policy writes is checked: a plan that cannot be run is none")
    func hostilePlans() throws {
        let folder = try Folder()
        let bodies = [
            "return 1;",
            "p->kind = 99; return 0;",
            "p->kind = 2; return 0;",
            "p->table_length = 0xffffffff; return 0;",
            "p->table[0] = 4; p->table_length = 1; return 0;",  // weight 0
            "p->table[0] = 5; p->table_length = 1; return 0;",  // nobody's slot
            "p->table[0] = 0xffff; p->table_length = 1; return 0;",
            "p->kind = 16; p->candidates[0].slot = 2; p->candidate_count = 1; return 0;",
            "p->kind = 16; p->candidate_count = n + 1; return 0;",
            "p->kind = 16; p->table[0] = 2; p->table_length = 1; return 0;",
        ]
        for (index, body) in bodies.enumerated() {
            let source =
                "static int32_t plan(const struct baton_policy_backend *b, uint32_t n, struct baton_policy_plan *p) "
                + "{ \(body) }\nconst struct baton_policy baton_policy = "
                + "{1, sizeof(struct baton_policy), \"hostile\", \"\", plan};"
            let path = try build(source, in: folder, "hostile\(index)")
            let module = try PolicyFile.load(path, owner: me)
            #expect(module.make(ModuleOptions()).plan(for: slots) == .nobody, "\(body)")
        }
    }
}
