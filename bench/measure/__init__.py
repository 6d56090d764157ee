"""The benchmarks: each module measures one thing, side by side with its peer, and gives a section of the report."""
