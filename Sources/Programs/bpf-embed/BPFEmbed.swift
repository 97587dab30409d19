import Glibc

/// Host tool of the build: compiles one eBPF program with clang and writes it as base64 in a Swift source file.
///
/// Packagers may call it by hand:
///
///     bpf-embed --clang CLANG --objcopy LLVM-OBJCOPY --source X.bpf.c --output X.bpf.swift [--include DIR]...
///
/// The object itself is left beside the output, as `X.bpf.o`.
@main
struct BPFEmbed {
    static func main() {
        do {
            let options = try Options(Array(CommandLine.arguments.dropFirst()))
            try run(options)
        } catch {
            write(Array("bpf-embed: error: \(error.message)\n".utf8), to: 2)
            exit(1)
        }
    }

    private static func run(_ options: Options) throws(EmbedError) {
        let object = options.outputFolder + "/" + options.stem + ".bpf.o"
        try spawn(options.clang, clangArguments(options, object: object))
        // DWARF is three quarters of the object; libbpf and the verifier read BTF only, which stays.
        try spawn(options.objcopy, ["--strip-debug", object])
        let text = swiftSource(options, object: try readFile(object))
        try writeFile(options.output, Array(text.utf8))
    }

    private static func clangArguments(_ options: Options, object: String) -> [String] {
        var arguments = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
        // The macros of libbpf's bpf_tracing.h declare a context that few programs use.
        arguments.append("-Wno-unused-parameter")
        // Unlikely branches stay where they are: libbpf knows no static functions beside the programs, which they would
        // become.
        arguments += ["-mllvm", "-hotcoldsplit-threshold=1000000"]
        arguments += options.includes.flatMap { ["-I", $0] }
        // linux/types.h wants asm/types.h, which Debian keeps in the folder of the architecture.
        if let folder = multiarchIncludes() { arguments += ["-idirafter", folder] }
        // The same object on every machine: no absolute path in it.
        arguments += ["-ffile-prefix-map=\(options.sourceFolder)=bpf"]
        arguments += ["-c", options.source, "-o", object]
        return arguments
    }

    private static func multiarchIncludes() -> String? {
        var names = utsname()
        guard uname(&names) == 0 else { return nil }
        let machine = withUnsafeBytes(of: &names.machine) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        let folder = "/usr/include/\(machine)-linux-gnu"
        return access(folder, R_OK) == 0 ? folder : nil
    }

    private static func swiftSource(_ options: Options, object: [UInt8]) -> String {
        """
        // Made by bpf-embed from \(options.stem).bpf.c; do not edit.
        extension BPFObject {
            /// The object of `\(options.stem).bpf.c`, \(object.count) bytes.
            public static let \(options.identifier) = BPFObject(
                name: "\(options.stem)",
                base64: "\(base64(object))"
            )
        }

        """
    }
}

/// What the tool was asked to do.
struct Options {
    var clang = ""
    var objcopy = ""
    var source = ""
    var output = ""
    var includes: [String] = []

    init(_ arguments: [String]) throws(EmbedError) {
        var rest = arguments[...]
        while let key = rest.popFirst() {
            guard let value = rest.popFirst() else { throw EmbedError("\(key) needs a value") }
            switch key {
            case "--clang": clang = value
            case "--objcopy": objcopy = value
            case "--source": source = value
            case "--output": output = value
            case "--include": includes.append(value)
            default: throw EmbedError("unknown option \(key)")
            }
        }
        for (key, value) in [("clang", clang), ("objcopy", objcopy), ("source", source), ("output", output)]
        where value.isEmpty {
            throw EmbedError("--\(key) is missing")
        }
        guard source.hasSuffix(".bpf.c") else { throw EmbedError("\(source): a name that ends in .bpf.c is expected") }
    }

    var sourceFolder: String { folder(of: source) }
    var outputFolder: String { folder(of: output) }

    /// `director` of `.../director.bpf.c`.
    var stem: String {
        String((source.split(separator: "/").last ?? "").dropLast(".bpf.c".count))
    }

    /// The stem as a Swift name: `self_check` becomes `selfCheck`.
    var identifier: String {
        let words = stem.split { $0 == "_" || $0 == "-" || $0 == "." }
        return words.enumerated().map { index, word in
            index == 0 ? String(word) : word.prefix(1).uppercased() + word.dropFirst()
        }.joined()
    }

    private func folder(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return String(path[..<slash])
    }
}

struct EmbedError: Error {
    let message: String

    init(_ message: String) { self.message = message }
}
