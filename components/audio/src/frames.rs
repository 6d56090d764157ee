//! The pipeline from a file's bytes to its log-mel frames.

use crate::{
    Bytes, Decoder, Error, Format, Hint, LogMel, MAX_BLOCK_FRAMES, Resampler, SAMPLE_RATE,
};

/// The log-mel frames of a file, computed block by block.
pub struct Frames {
    decoder: Decoder,
    /// For the rate of the previous block; `None` before the first.
    resampler: Option<Resampler>,
    /// Buffer of 16 kHz samples; cleared on each call.
    resampled: Vec<f32>,
    log_mel: LogMel,
    ended: bool,
}

impl Frames {
    /// Detects the format of the bytes and prepares to decode them to frames of `n_mels` bins: 80 or 128.
    pub fn open(bytes: Bytes, hint: &Hint, n_mels: u32) -> Result<Self, Error> {
        let log_mel = LogMel::new(n_mels)?;
        let decoder = Decoder::open(bytes, hint)?;
        Ok(Self {
            decoder,
            resampler: None,
            resampled: Vec::new(),
            log_mel,
            ended: false,
        })
    }

    /// The file's format.
    pub fn format(&self) -> &Format {
        self.decoder.format()
    }

    /// The next block: `[frames, n_mels]`, row-major, at most [`MAX_BLOCK_FRAMES`]; `None` after the last and after an error.
    pub fn read(&mut self) -> Result<Option<Vec<f32>>, Error> {
        self.decode()?;
        Ok(self.compute())
    }

    /// The first half of [`read`](Self::read): decodes the samples of the next block.
    pub fn decode(&mut self) -> Result<(), Error> {
        while !self.ended && self.log_mel.frames_ready() < MAX_BLOCK_FRAMES {
            if let Err(error) = self.decode_more() {
                self.ended = true;
                return Err(error);
            }
        }
        Ok(())
    }

    /// The second half of [`read`](Self::read): computes the log-mel frames of the block.
    pub fn compute(&mut self) -> Option<Vec<f32>> {
        self.log_mel.next_block()
    }

    /// Seconds of audio decoded so far.
    pub fn duration(&self) -> f64 {
        self.log_mel.samples() as f64 / f64::from(SAMPLE_RATE)
    }

    /// Packets skipped so far because they could not be decoded.
    pub fn skipped_packets(&self) -> u32 {
        self.decoder.skipped_packets()
    }

    /// Decodes one block, or reaches the end.
    fn decode_more(&mut self) -> Result<(), Error> {
        self.resampled.clear();
        match self.decoder.next_block()? {
            Some(block) => {
                if self
                    .resampler
                    .as_ref()
                    .is_none_or(|resampler| resampler.rate() != block.sample_rate)
                {
                    if let Some(mut before) = self.resampler.take() {
                        before.finish(&mut self.resampled)?;
                    }
                    self.resampler = Some(Resampler::new(block.sample_rate)?);
                }
                if let Some(resampler) = &mut self.resampler {
                    resampler.push(block.samples, &mut self.resampled)?;
                }
                self.log_mel.push(&self.resampled);
            }
            None => {
                if let Some(mut resampler) = self.resampler.take() {
                    resampler.finish(&mut self.resampled)?;
                    self.log_mel.push(&self.resampled);
                }
                if self.log_mel.samples() == 0 {
                    return Err(Error::Empty(
                        "the file contains no audio samples: send a recording".to_owned(),
                    ));
                }
                self.log_mel.finish();
                self.ended = true;
            }
        }
        Ok(())
    }
}
