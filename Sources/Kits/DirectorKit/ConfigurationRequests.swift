import AdminProtocol
import Configuration
import ControlPlane
import Logging
import Model
import NIOCore
import NIOPosix

// What `batonctl reload`, `restore`, `save`, `service` and `server` ask of the director. On the control thread.

extension DirectorRuntime {
    static let configurationCommands = ["reload", "restore", "edit", "save"]

    /// Carries out one of `configurationCommands`; nil for another command.
    func answerConfiguration(_ request: AdminRequest) -> AdminAnswer? {
        guard Self.configurationCommands.contains(request.command) else { return nil }
        guard let source else { return .failure("this director was not started from a file") }
        let dryRun = request.arguments["dry_run"] == "true"
        switch request.command {
        case "reload": return answer(reload(from: source, dryRun: dryRun))
        case "restore":
            guard let path = request.arguments["path"], path.hasPrefix("/") else {
                return .failure("restore takes the argument path, an absolute one")
            }
            return answer(change(dryRun: dryRun) { _ in try source.load(path) })
        case "edit":
            guard let edit = ConfigurationEdit(request.arguments) else {
                return .failure("edit takes kind (service, server), verb (add, edit, del), target and set.KEY or unset.KEY")
            }
            return answer(change(dryRun: dryRun) { try Self.edited($0, edit, source) })
        default: return save(to: source, writes: request.arguments["write"] == "true")
        }
    }

    /// SIGHUP.
    func reloadBySignal() {
        guard let source else { return }
        reload(from: source, dryRun: false).whenSuccess { [logger] report in
            // The changes themselves are logged where they are applied.
            if let failure = report.failure {
                let lines = (report.obstacles + [failure]).joined(separator: "; ")
                logger.error("reload: \(lines); \(report.undone ? "undone" : "nothing was changed")")
            } else if report.changes.isEmpty {
                logger.notice("reload: nothing changes")
            }
        }
    }

    private func reload(from source: ConfigurationSource, dryRun: Bool) -> EventLoopFuture<ChangeReport> {
        change(dryRun: dryRun) { _ in
            try source.load(source.path)
        } then: { [self] new in
            saved = new
        }
    }

    /// The same checks as for a file: what runs can always be saved.
    private static func edited(
        _ present: DirectorConfiguration, _ edit: ConfigurationEdit, _ source: ConfigurationSource
    ) throws -> DirectorConfiguration {
        let tree = try edit.applied(to: present.tree)
        do {
            return try source.read(tree.yaml)
        } catch {
            throw ConfigurationEditError(error.withoutPlaces)
        }
    }

    private func save(to source: ConfigurationSource, writes: Bool) -> AdminAnswer {
        let turn = lastChange.flatMap { [self] in
            let (present, differs) = (configuration, configuration != saved)
            return walker.runIfActive(eventLoop: loop) {
                var answer = SavedConfiguration(text: try present.text(reading: source.read), differs: differs)
                if writes {
                    let head = "# Written by batonctl save; see baton-director.yaml(5).\n"
                    answer.backup = try ConfigurationSaving.write(head + answer.text, to: source.path)
                    answer.path = source.path
                }
                return answer
            }.map { answer in
                if writes { self.saved = present }
                return answer
            }
        }
        lastChange = turn.map { _ in }.recover { _ in }
        return .later(turn.flatMapThrowing { try AdminJSON.encode($0) })
    }

    private func answer(_ report: EventLoopFuture<ChangeReport>) -> AdminAnswer {
        .later(report.flatMapThrowing { try AdminJSON.encode($0) })
    }
}

extension ConfigurationEdit {
    /// From a request's words: `kind`, `verb`, `target`, `set.KEY` and `unset.KEY`; nil when they are not that.
    init?(_ arguments: [String: String]) {
        guard let kind = arguments["kind"].flatMap(Kind.init), let verb = arguments["verb"].flatMap(Verb.init),
            let target = arguments["target"]
        else { return nil }
        var settings: [Setting] = []
        // A key comes before those below it: `policy` before `policy.port`.
        for (word, value) in arguments.sorted(by: { $0.key < $1.key }) {
            if word.hasPrefix("set.") { settings.append(Setting(String(word.dropFirst(4)), value)) }
            if word.hasPrefix("unset.") { settings.append(Setting(String(word.dropFirst(6)), nil)) }
        }
        self.init(verb, kind, target, settings)
    }
}
