/// Named numbers and words that a scenario measured.
public typealias Figures = [String: JSONValue]

/// One thing that must be shown, as a program that shows it: the tests and `baton-lab scenario run` run the same.
public struct Scenario: Sendable {
    /// Lower case and hyphens; the name on the command line.
    public let name: String
    /// One sentence: what is done, and what must hold.
    public let summary: String
    /// It measures time, or takes all of the machine: nothing may run beside it.
    public let isAlone: Bool
    /// Does it. Throws when what must hold does not.
    public let run: @Sendable (ScenarioContext) throws -> Figures

    public init(
        _ name: String,
        _ summary: String,
        alone isAlone: Bool = false,
        run: @escaping @Sendable (ScenarioContext) throws -> Figures
    ) {
        self.name = name
        self.summary = summary
        self.isAlone = isAlone
        self.run = run
    }
}

/// How a scenario ended; `scenario run --json` prints an array of these.
public struct ScenarioOutcome: Sendable, Codable {
    public var name: String
    public var passed: Bool
    public var figures: Figures

    public init(name: String, passed: Bool, figures: Figures) {
        self.name = name
        self.passed = passed
        self.figures = figures
    }
}

/// What a scenario is given: labs to build, and a place to say what it does.
public struct ScenarioContext: Sendable {
    public let console: Console
    /// The directory of the daemons' programs; nil: that of this program.
    public let programs: String?
    /// The name of the lab that the scenario builds.
    public let labName: String

    public init(console: Console, programs: String? = nil, labName: String) {
        self.console = console
        self.programs = programs
        self.labName = labName
    }

    /// Builds a lab, does something in it, and takes it down whatever happens.
    public func withLab<Result>(_ options: LabOptions = LabOptions(), _ body: (Lab) throws -> Result) throws -> Result {
        var options = options
        if options.programs == nil { options.programs = programs }
        let console = console
        let lab = try Lab(name: labName, options: options) { console.line("  " + $0) }
        return try Lab.built(lab, body)
    }
}

extension Lab {
    /// Brings a lab up, does something in it, and takes it down whatever happens. What `body` throws goes first.
    public static func built<Result>(_ lab: Lab, _ body: (Lab) throws -> Result) throws -> Result {
        // A lab of that name that somebody else brought up must survive our refusal.
        guard !lab.isPresent else {
            throw LabError.state("a lab named \"\(lab.plan.name)\" is up; run `baton-lab down --lab \(lab.plan.name)`")
        }
        let result: Result
        do {
            try lab.up()
            result = try body(lab)
        } catch {
            try? lab.down()
            throw error
        }
        try lab.down()
        return result
    }
}
