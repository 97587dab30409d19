import Testing

/// All tests of the Linux edges: one at a time, since they share the machine's kernel and measure it.
@Suite(.serialized) enum Edges {}
