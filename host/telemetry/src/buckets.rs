//! Bounds of the buckets of histograms, chosen by the ending of the name.

/// The first entry whose ending fits applies.
const BOUNDS: [(&str, &[f64]); 5] = [
    // Length of recordings: from a word to the default limit of four hours.
    (
        "_audio_duration_seconds",
        &[
            1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0,
        ],
    ),
    // OpenTelemetry's bounds for HTTP requests, and more for transcriptions, which may take minutes.
    (
        "_seconds",
        &[
            0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0,
            60.0, 120.0, 300.0, 900.0,
        ],
    ),
    // From a page of linear memory to all of it.
    (
        "_bytes",
        &[
            65536.0,
            1048576.0,
            4194304.0,
            16777216.0,
            67108864.0,
            134217728.0,
            268435456.0,
            1073741824.0,
            4294967296.0,
        ],
    ),
    (
        "_ratio",
        &[0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0],
    ),
    ("", &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]),
];

/// The upper bounds of a histogram's buckets, ascending.
pub(crate) fn bounds(name: &str) -> &'static [f64] {
    let fitting = BOUNDS.iter().find(|(ending, _)| name.ends_with(ending));
    fitting.map_or(&[], |(_, bounds)| bounds)
}
