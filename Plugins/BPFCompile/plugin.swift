import Foundation
import PackagePlugin

/// Compiles every `bpf/*.bpf.c` of a target to a Swift source that carries the object within it.
///
/// One command a program, run by the host tool `bpf-embed`. The only declared output is the Swift file: an object among
/// the outputs would become a resource, whose generated accessor imports Foundation. SwiftPM reads no dependency files,
/// so every header that may be included is an input: those beside the programs and the public headers of the C targets
/// that this target depends on.
@main
struct BPFCompile: BuildToolPlugin {
    func createBuildCommands(context: PluginContext, target: any Target) async throws -> [Command] {
        let folder = target.directoryURL.appending(path: "bpf")
        let files = try FileManager.default
            .contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
            .sorted { $0.lastPathComponent < $1.lastPathComponent }
        let includes = publicHeaderFolders(of: target)
        let headers = try (files + includes.flatMap(contents)).filter { $0.pathExtension == "h" }
        let tool = try context.tool(named: "bpf-embed").url
        let clang = try context.tool(named: "clang").url
        let objcopy = try context.tool(named: "llvm-objcopy").url

        return files.filter { $0.lastPathComponent.hasSuffix(".bpf.c") }.map { source in
            let name = source.lastPathComponent.dropLast(".bpf.c".count)
            let output = context.pluginWorkDirectoryURL.appending(path: "\(name).bpf.swift")
            let arguments =
                ["--clang", clang.path, "--objcopy", objcopy.path]
                + ["--source", source.path, "--output", output.path]
                + ([folder] + includes).flatMap { ["--include", $0.path] }
            return .buildCommand(
                displayName: "BPF \(source.lastPathComponent)",
                executable: tool,
                arguments: arguments,
                inputFiles: [source, clang] + headers,
                outputFiles: [output]
            )
        }
    }

    private func publicHeaderFolders(of target: any Target) -> [URL] {
        target.dependencies.compactMap { dependency in
            guard case .target(let dependency) = dependency else { return nil }
            return (dependency.sourceModule as? ClangSourceModuleTarget)?.publicHeadersDirectoryURL
        }
    }

    private func contents(of folder: URL) throws -> [URL] {
        try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
            .sorted { $0.lastPathComponent < $1.lastPathComponent }
    }
}
