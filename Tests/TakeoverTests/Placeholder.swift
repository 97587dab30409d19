// The suites are on their way.
