import Glibc
import Testing

@testable import LabKit

/// A lab of the network and the web servers alone, taken down whatever happens.
func withNetwork<Result>(_ name: String, backends: Int = 2, size: Int = 20_000_000, _ body: (Lab) throws -> Result)
    throws -> Result
{
    try Lab.built(Lab(name: name, options: networkOptions(backends: backends, size: size)), body)
}

func networkOptions(backends: Int = 2, size: Int = 20_000_000) -> LabOptions {
    var options = LabOptions()
    options.daemons = false
    options.backends = backends
    options.fileSize = size
    return options
}

/// What must not be there once a lab is down; each line names a thing that is.
func leftovers(_ lab: String) throws -> [String] {
    let plan = try LabPlan(name: lab, backends: 0)
    var found = plan.presentNamespaces
    found += mountPoints(below: plan.directory)
    if fileExists(plan.directory) { found.append(plan.directory) }
    for name in listDirectory("/proc") {
        guard let process = Int32(name), let entry = ProcessEntry(process), entry.state != "Z" else { continue }
        if (readFile("/proc/\(name)/cmdline") ?? "").contains(plan.directory + "/") { found.append("process \(name)") }
    }
    return found
}

/// The program, built beside the tests.
func labProgram() throws -> String {
    let path = Requirements.programDirectory + "/baton-lab"
    try #require(fileExists(path), "\(path) is not built")
    return path
}

/// Lab tests share the machine's two cores with their own measurements: one at a time.
@Suite(.serialized) struct LabTests {}
