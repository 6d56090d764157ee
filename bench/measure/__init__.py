"""The benchmarks: each module measures one thing, side by side with its peer, and returns a section of the report."""
