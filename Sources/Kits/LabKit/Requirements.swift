import Glibc

/// Looks for what a lab needs before anything is changed on the machine.
enum Requirements {
    /// Program and the Debian package that brings it.
    private static let programs = [
        ("ip", "iproute2"), ("nsenter", "util-linux"), ("sysctl", "procps"), ("ethtool", "ethtool"),
        ("nginx", "nginx-light"), ("curl", "curl"),
    ]

    static func check(_ options: LabOptions, programs directory: String) throws {
        guard geteuid() == 0 else {
            throw LabError.missing("network namespaces need root", remedy: "run it as root, with sudo for example")
        }
        for (program, package) in programs { try require(program, from: package) }
        try require(options.server.program, from: options.server.package)
        guard fileExists(WebServer.echoModule) else {
            throw LabError.missing(
                "\(WebServer.echoModule) is missing", remedy: "run: apt-get install libnginx-mod-http-echo")
        }
        guard options.daemons else { return }
        for program in ["baton-director", "baton-agent", "batonctl"] {
            guard access(directory + "/" + program, X_OK) == 0 else {
                throw LabError.missing(
                    "\(directory)/\(program) is not there",
                    remedy: "build it (make build), or name its directory with --programs")
            }
        }
    }

    /// What only some scenarios need.
    static func require(_ program: String, from package: String) throws {
        guard isOnPath(program) else {
            throw LabError.missing("\(program) is not installed", remedy: "run: apt-get install \(package)")
        }
    }

    static func isOnPath(_ program: String) -> Bool {
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/sbin:/usr/bin:/sbin:/bin"
        return path.split(separator: ":").contains { access("\($0)/\(program)", X_OK) == 0 }
    }

    /// Where the programs are when nobody says so: tests run from another directory than their build's programs.
    static var programDirectory: String {
        getenv("BATON_PROGRAMS").map { String(cString: $0) } ?? ownDirectory
    }

    /// The directory of this program's file.
    static var ownDirectory: String {
        let path = readLink("/proc/self/exe") ?? "/"
        return String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
    }
}
