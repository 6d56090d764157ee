//! The installed ffmpeg: generates the files, and decodes them for comparison.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::common::data;
use crate::table::{Made, Row};

pub struct Ffmpeg {
    /// Working folder; removed at the end.
    folder: PathBuf,
}

impl Ffmpeg {
    /// `None` if ffmpeg is not on the `PATH`.
    pub fn find() -> Option<Self> {
        Command::new("ffmpeg").arg("-version").output().ok()?;
        let name = format!("audio-matrix-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the files");
        std::fs::write(folder.join("speech.s16"), data("speech.s16")).expect("the recording");
        let chapters = ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n\
                        [CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=2400\ntitle=Two\n";
        std::fs::write(folder.join("chapters"), chapters).expect("the chapters");
        Some(Self { folder })
    }

    fn run(&self, arguments: &[&str]) -> Result<Output, String> {
        let output = Command::new("ffmpeg")
            .current_dir(&self.folder)
            .args(["-v", "error", "-nostdin", "-y"])
            .args(arguments)
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(output)
        } else {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(text.lines().next().unwrap_or("ffmpeg failed").to_owned())
        }
    }

    /// Generates the file of a row, and keeps it in the folder for [`Self::decode`].
    pub fn make(&self, row: &Row) -> Result<Vec<u8>, String> {
        let path = self.folder.join(row.file);
        let ask = |arguments: &str| {
            let mut all = vec![
                "-f",
                "s16le",
                "-ar",
                "16000",
                "-ac",
                "1",
                "-i",
                "speech.s16",
            ];
            all.extend(arguments.split_whitespace());
            all.push(row.file);
            self.run(&all)?;
            std::fs::read(&path).map_err(|error| error.to_string())
        };
        let content = match row.made {
            Made::By(arguments) => return ask(arguments),
            Made::Changed(arguments, change) => change(ask(arguments)?),
            Made::Here(make) => make(),
        };
        std::fs::write(&path, &content).map_err(|error| error.to_string())?;
        Ok(content)
    }

    /// The first audio track as ffmpeg decodes it: 16 kHz, the mean of its channels. (Its own mix keeps the power instead.)
    pub fn decode(&self, file: &str) -> Result<Vec<f32>, String> {
        // AU is big-endian, and its header states the number of channels.
        let au = self.run(&[
            "-i",
            file,
            "-map",
            "0:a:0",
            "-ar",
            "16000",
            "-c:a",
            "pcm_f32be",
            "-f",
            "au",
            "-",
        ])?;
        let number = |at: usize| {
            let four = au.stdout.get(at..at + 4).unwrap_or(&[0; 4]);
            u32::from_be_bytes([four[0], four[1], four[2], four[3]]) as usize
        };
        let (start, channels) = (number(4), number(20).max(1));
        let sample = |four: &[u8]| f32::from_be_bytes([four[0], four[1], four[2], four[3]]);
        let samples: Vec<f32> = au.stdout[start.min(au.stdout.len())..]
            .chunks_exact(4)
            .map(sample)
            .collect();
        Ok(samples
            .chunks_exact(channels)
            .map(|frame| frame.iter().sum::<f32>() / channels as f32)
            .collect())
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
