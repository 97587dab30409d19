// An example of a dispatch policy in Embedded Swift: least connections for all but the back-end of the lowest weight,
// which is spared while there is another.

@c(spare_plan)
public func sparePlan(
    _ backends: UnsafePointer<baton_policy_backend>?, _ count: UInt32, _ plan: UnsafeMutablePointer<baton_policy_plan>?
) -> Int32 {
    guard let plan, let backends, let candidates = plan.pointee.candidates else { return count == 0 ? 0 : -1 }
    let all = UnsafeBufferPointer(start: backends, count: Int(count))
    var spared = -1
    var serving = 0
    for (index, backend) in all.enumerated() where backend.weight > 0 {
        serving += 1
        if spared < 0 || backend.weight < all[spared].weight { spared = index }
    }
    var written = 0
    for (index, backend) in all.enumerated() where backend.weight > 0 && (index != spared || serving == 1) {
        candidates[written] = backend
        written += 1
    }
    plan.pointee.kind = UInt32(BATON_POLICY_LEAST_OVERHEAD.rawValue)
    plan.pointee.candidate_count = UInt32(written)
    return 0
}
