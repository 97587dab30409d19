import AdminProtocol
import Cluster
import Configuration
import LinuxBPF
import Model
import Wire

// The parts of `batonctl status` about checks, thresholds and floods. On the control thread.

extension DirectorRuntime {
    func limits() -> [DirectorStatus.Limit] {
        zip(configuration.services, host.serviceIDs).map { service, id in
            let key = UInt32(id.rawValue)
            let sums = (try? host.plane.floodCounters.sum(key)) ?? [0, 0, 0]
            let marks = try? host.plane.fullSlots.get(key)
            let full = machine.members.filter { marks?[Int($0.slot.rawValue)] ?? false }.map { machine.name(of: $0.id) }
            return DirectorStatus.Limit(
                service: service.name,
                rate: service.rate?.rate,
                burst: service.rate?.burst,
                refusedByService: sums[0],
                refusedByAll: sums[1],
                completed: sums[2],
                full: full,
                sorry: service.sorry
            )
        }
    }
}
