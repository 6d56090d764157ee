//! A matrix of containers and codecs: a recording in all formats that ffmpeg writes, and in some that are built here.
//!
//! For each file the table states whether it is decoded, and how closely it must match ffmpeg's output, or the name by which it is
//! rejected. A run prints every row, and at the end those that differ from the table. Without ffmpeg it prints that it is skipped;
//! so are rows whose encoder this ffmpeg lacks. `containers.rs` tests the most important ones without ffmpeg.

#[path = "../common/mod.rs"]
mod common;
mod ffmpeg;
mod make;
mod table;

use audio::{Decoder, Error, Hint, Resampler};
use ffmpeg::Ffmpeg;
use table::{Expected, ROWS, Row};

/// Maximum encoder delay in samples at 16 kHz: containers do not always state how much to trim,
/// and symphonia does not always read it.
const MAX_DELAY: usize = 2_800;

#[test]
fn every_container_and_codec_is_decoded_as_by_ffmpeg_or_rejected_by_name() {
    let Some(ffmpeg) = Ffmpeg::find() else {
        println!("skipped: ffmpeg, which generates the files, is not on the PATH");
        return;
    };
    let only = std::env::var("ROW").ok();
    let mut wrong = Vec::new();
    for row in ROWS {
        if only
            .as_ref()
            .is_some_and(|only| !row.file.contains(&**only))
        {
            continue;
        }
        let content = match ffmpeg.make(row) {
            Ok(content) => content,
            Err(reason) => {
                println!("{:28} skipped: {reason}", row.file);
                continue;
            }
        };
        match check(&ffmpeg, row, &content) {
            Ok(found) => println!("{:28} {found}", row.file),
            Err(found) => {
                println!("{:28} WRONG: {found}", row.file);
                wrong.push(format!("{}: {found}", row.file));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "rows that differ from the table:\n{}",
        wrong.join("\n")
    );
}

/// Description of the result; an error if it differs from the table.
fn check(ffmpeg: &Ffmpeg, row: &Row, content: &[u8]) -> Result<String, String> {
    let samples = match (decode(content), row.expected) {
        (Err(Error::UnsupportedCodec(text) | Error::NotAudio(text)), Expected::Refused(name)) => {
            return if text.contains(name) && text.contains(" is not supported: convert it") {
                Ok(format!("refused: {name}"))
            } else {
                Err(format!("not rejected as {name}: {text}"))
            };
        }
        (Err(Error::Corrupt(text)), Expected::Damaged(name)) if text.contains(name) => {
            return Ok(format!("damaged: {text}"));
        }
        (Err(error), _) => return Err(format!("{error:?}")),
        (Ok((_, skipped)), _) if skipped > 0 => return Err(format!("{skipped} packets skipped")),
        (Ok((samples, _)), Expected::Refused(name) | Expected::Damaged(name)) => {
            return Err(format!("{} samples instead of {name}", samples.len()));
        }
        (Ok((samples, _)), _) => samples,
    };
    match row.expected {
        Expected::Same(tolerance) => same(&samples, &ffmpeg.decode(row.file)?, tolerance),
        Expected::Like(least) => like(&samples, &ffmpeg.decode(row.file)?, least),
        Expected::Speech(tolerance) => same(&samples, &make::samples(), tolerance),
        Expected::Refused(_) | Expected::Damaged(_) => unreachable!("returned above"),
    }
}

/// The samples at 16 kHz, and the number of skipped packets.
fn decode(content: &[u8]) -> Result<(Vec<f32>, u32), Error> {
    let mut decoder = Decoder::open(common::bytes(content), &Hint::default())?;
    let mut out = Vec::new();
    let mut resampler: Option<Resampler> = None;
    while let Some(block) = decoder.next_block()? {
        if resampler.is_none() {
            resampler = Some(Resampler::new(block.sample_rate)?);
        }
        if let Some(resampler) = &mut resampler {
            resampler.push(block.samples, &mut out)?;
        }
    }
    if let Some(mut resampler) = resampler {
        resampler.finish(&mut out)?;
    }
    Ok((out, decoder.skipped_packets()))
}

fn same(samples: &[f32], reference: &[f32], tolerance: f32) -> Result<String, String> {
    if samples.len() != reference.len() {
        return Err(format!(
            "{} samples, by ffmpeg {}",
            samples.len(),
            reference.len()
        ));
    }
    let worst = samples
        .iter()
        .zip(reference)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    if worst <= tolerance {
        Ok(format!("identical within {worst:.6}"))
    } else {
        Err(format!("off by {worst}, more than {tolerance}"))
    }
}

fn like(samples: &[f32], reference: &[f32], least: f64) -> Result<String, String> {
    if samples.len().abs_diff(reference.len()) > MAX_DELAY {
        return Err(format!(
            "{} samples, by ffmpeg {}",
            samples.len(),
            reference.len()
        ));
    }
    // Equal power and high correlation, with a delay of either one.
    let energy = |samples: &[f32]| samples.iter().map(|x| f64::from(x * x)).sum::<f64>();
    let louder = energy(samples) / energy(reference);
    let later = |a: &[f32], b: &[f32]| {
        (0..MAX_DELAY.min(a.len()))
            .map(|lag| (common::correlation(a, b, lag), lag))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap_or_default()
    };
    let (ours, theirs) = (later(samples, reference), later(reference, samples));
    let (best, lag) = if ours.0 >= theirs.0 {
        (ours.0, ours.1 as isize)
    } else {
        (theirs.0, -(theirs.1 as isize))
    };
    let found = format!("correlation {best:.4}, {lag} samples later, {louder:.2} times the power");
    if best >= least && (0.8..1.25).contains(&louder) {
        Ok(found)
    } else {
        Err(found)
    }
}
