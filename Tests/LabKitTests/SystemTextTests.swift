import Testing

@testable import LabKit

@Suite struct SystemTextTests {
    @Test(arguments: [(0.0, 1, "0.0"), (1.25, 1, "1.3"), (-0.04, 1, "0.0"), (-2.5, 2, "-2.50"), (149.999, 0, "150")])
    func numbers(value: Double, places: Int, text: String) {
        #expect(rounded(value, places) == text)
    }

    @Test func bytes() {
        #expect(byteText(999) == "999 B")
        #expect(byteText(200_000_000) == "200.0 MB")
    }
}
