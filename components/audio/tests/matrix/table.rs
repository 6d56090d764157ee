//! The table: each file, how it is made, and what is to come of it.

use crate::make;

/// A row.
pub struct Row {
    /// Name of the file; its end tells ffmpeg the container.
    pub file: &'static str,
    pub made: Made,
    pub expected: Expected,
}

/// How a file is made.
pub enum Made {
    /// By ffmpeg, from the recording, with these arguments.
    By(&'static str),
    /// So, and then changed.
    Changed(&'static str, fn(Vec<u8>) -> Vec<u8>),
    /// Without ffmpeg.
    Here(fn() -> Vec<u8>),
}

/// What is to come of it.
#[derive(Clone, Copy)]
pub enum Expected {
    /// The samples that ffmpeg decodes, within a tolerance; full scale is 1.
    Same(f32),
    /// The same sound, at least so alike (correlation), maybe later.
    Like(f64),
    /// The samples of the recording itself, within a tolerance: ffmpeg decodes this file otherwise, or not at all.
    Speech(f32),
    /// Refused as damaged, with this in the message.
    Damaged(&'static str),
    /// Refused as not supported, with this in the message.
    Refused(&'static str),
}

use Expected::{Damaged, Like, Refused, Same, Speech};
use Made::{By, Changed, Here};

/// Rounding to 16 bits, which some codecs do differently.
const BITS_16: f32 = 1.0 / 32_768.0;

const fn row(file: &'static str, made: Made, expected: Expected) -> Row {
    Row {
        file,
        made,
        expected,
    }
}

/// A film with the sound.
macro_rules! film {
    ($arguments:literal) => {
        concat!(
            "-f lavfi -i testsrc=size=64x64:rate=25:duration=2.4 -map 1:v -map 0:a -c:v mpeg4 ",
            $arguments
        )
    };
}

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    // WAV and its kin.
    row("u8.wav", By("-c:a pcm_u8"), Same(0.0)),
    row("s16.wav", By("-c:a pcm_s16le"), Same(0.0)),
    row("s24.wav", By("-c:a pcm_s24le"), Same(0.0)),
    row("s32.wav", By("-c:a pcm_s32le"), Same(0.0)),
    row("f32.wav", By("-c:a pcm_f32le"), Same(0.0)),
    row("f64.wav", By("-c:a pcm_f64le"), Same(0.0)),
    row("six_channels.wav", By("-c:a pcm_s16le -af pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0"), Like(0.99)),
    row("4000.wav", By("-c:a pcm_s16le -ar 4000"), Like(0.98)),
    row("8000.wav", By("-c:a pcm_s16le -ar 8000"), Like(0.99)),
    row("wide_high.wav", Here(make::wide_high), Speech(BITS_16)),
    row("wide_low.wav", Here(make::wide_low), Speech(BITS_16)),
    row("cool_edit.wav", Here(make::cool_edit), Refused("PCM of 24 bits in floating point")),
    row("alaw.wav", By("-c:a pcm_alaw"), Same(0.0)),
    row("mulaw.wav", By("-c:a pcm_mulaw"), Same(0.0)),
    row("alaw_short.wav", Changed("-c:a pcm_alaw", make::short_g711_header), Same(0.0)),
    row("mulaw_short.wav", Changed("-c:a pcm_mulaw", make::short_g711_header), Same(0.0)),
    row("alaw_extensible.wav", Changed("-c:a pcm_alaw", make::extensible_g711_header), Same(0.0)),
    row("mulaw_extensible.wav", Changed("-c:a pcm_mulaw", make::extensible_g711_header), Same(0.0)),
    row("ima.wav", By("-c:a adpcm_ima_wav"), Same(2.0 * BITS_16)),
    row("ima_stereo.wav", By("-c:a adpcm_ima_wav -ac 2"), Same(2.0 * BITS_16)),
    row("ms.wav", By("-c:a adpcm_ms"), Same(2.0 * BITS_16)),
    row("ms_stereo.wav", By("-c:a adpcm_ms -ac 2"), Same(2.0 * BITS_16)),
    row("yamaha.wav", By("-c:a adpcm_yamaha"), Same(0.0)),
    row("yamaha_stereo.wav", By("-c:a adpcm_yamaha -ac 2"), Same(BITS_16)),
    row("yamaha_loud.wav", By("-af volume=40dB -c:a adpcm_yamaha"), Same(0.0)),
    row("g722_loud.wav", By("-af volume=40dB -c:a g722"), Same(0.0)),
    row("gsm.wav", By("-c:a libgsm_ms -ar 8000 -b:a 13000"), Like(0.9999)),
    row("g722.wav", By("-c:a g722"), Same(0.0)),
    row("g726.wav", By("-c:a g726 -ar 8000"), Refused("G.726")),
    row("g723_1.wav", By("-c:a g723_1 -ar 8000 -b:a 6300"), Refused("G.723.1")),
    row("mp3.wav", By("-c:a libmp3lame"), Like(0.999)),
    row("mp2.wav", By("-c:a mp2"), Like(0.999)),
    row("aac.wav", By("-c:a aac"), Refused("AAC without ADTS headers")),
    row("ac3.wav", By("-c:a ac3 -ar 48000"), Refused("AC-3")),
    row("wmav2.wav", By("-c:a wmav2"), Refused("Windows Media Audio")),
    row("rf64.wav", By("-c:a pcm_s16le -rf64 always"), Same(0.0)),
    row("rifx.wav", Here(make::rifx), Speech(0.0)),
    row("odd_chunk.wav", Here(make::odd_chunk), Same(0.0)),
    row("no_lengths.wav", Changed("-c:a pcm_s16le", make::no_lengths), Same(0.0)),
    row("no_lengths_gsm.wav", Changed("-c:a libgsm_ms -ar 8000 -b:a 13000", make::no_lengths), Like(0.9999)),
    row("s16.w64", By("-c:a pcm_s16le"), Same(0.0)),
    row("s24.w64", By("-c:a pcm_s24le"), Same(0.0)),
    row("alaw.w64", By("-c:a pcm_alaw"), Same(0.0)),
    row("gsm.w64", By("-c:a libgsm_ms -ar 8000 -b:a 13000"), Like(0.9999)),

    // AU, AIFF, CAF.
    row("s8.au", By("-c:a pcm_s8"), Same(0.0)),
    row("s16.au", By("-c:a pcm_s16be"), Same(0.0)),
    row("s24.au", By("-c:a pcm_s24be"), Same(0.0)),
    row("s32.au", By("-c:a pcm_s32be"), Same(0.0)),
    row("f32.au", By("-c:a pcm_f32be"), Same(0.0)),
    row("f64.au", By("-c:a pcm_f64be"), Same(0.0)),
    row("alaw.au", By("-c:a pcm_alaw"), Same(0.0)),
    row("mulaw.au", By("-c:a pcm_mulaw"), Same(0.0)),
    row("g722.au", By("-c:a adpcm_g722"), Same(0.0)),
    row("no_length.au", Changed("-c:a pcm_s16be", make::no_au_length), Same(0.0)),
    row("s8.aiff", By("-c:a pcm_s8"), Same(0.0)),
    row("s16.aiff", By("-c:a pcm_s16be"), Same(0.0)),
    row("s24.aiff", By("-c:a pcm_s24be"), Same(0.0)),
    row("s32.aiff", By("-c:a pcm_s32be"), Same(0.0)),
    row("sowt.aiff", By("-c:a pcm_s16le"), Same(0.0)),
    row("f32.aiff", By("-c:a pcm_f32be"), Same(0.0)),
    row("f64.aiff", By("-c:a pcm_f64be"), Same(0.0)),
    row("alaw.aiff", By("-c:a pcm_alaw"), Same(0.0)),
    row("mulaw.aiff", By("-c:a pcm_mulaw"), Same(0.0)),
    row("ima4.aiff", By("-c:a adpcm_ima_qt"), Like(0.999)),
    row("ima4_stereo.aiff", By("-c:a adpcm_ima_qt -ac 2"), Like(0.999)),
    row("g722.aiff", Changed("-c:a pcm_alaw", make::g722_in_aiff), Refused("G.722")),
    row("gsm.aiff", Changed("-c:a pcm_alaw", make::gsm_in_aiff), Refused("GSM 06.10")),
    row("no_lengths.aiff", Changed("-c:a pcm_s16be", make::no_aiff_lengths), Speech(0.0)),
    row("s8.caf", By("-c:a pcm_s8"), Same(0.0)),
    row("s16.caf", By("-c:a pcm_s16be"), Same(0.0)),
    row("s24.caf", By("-c:a pcm_s24le"), Same(0.0)),
    row("s32.caf", By("-c:a pcm_s32be"), Same(0.0)),
    row("f32.caf", By("-c:a pcm_f32le"), Same(0.0)),
    row("f64.caf", By("-c:a pcm_f64be"), Same(0.0)),
    row("alaw.caf", By("-c:a pcm_alaw"), Same(0.0)),
    row("mulaw.caf", By("-c:a pcm_mulaw"), Same(0.0)),
    row("ima4.caf", By("-c:a adpcm_ima_qt"), Like(0.999)),
    row("alac.caf", By("-c:a alac"), Same(0.0)),
    row("opus.caf", By("-c:a libopus -ar 48000"), Refused("Opus")),
    row("ac3.caf", By("-c:a ac3 -ar 48000"), Refused("AC-3")),

    // Frames without a container.
    row("plain.mp3", By("-c:a libmp3lame"), Like(0.999)),
    row("picture.mp3", Changed("-c:a libmp3lame", make::behind_a_picture), Like(0.999)),
    row("behind_zeros.mp3", Changed("-c:a libmp3lame -write_xing 0 -id3v2_version 0", make::behind_zeros), Like(0.999)),
    row("behind_noise.mp3", Changed("-c:a libmp3lame -write_xing 0 -id3v2_version 0", make::behind_noise), Like(0.999)),
    row("free.mp3", Changed("-c:a libmp3lame -ar 48000 -b:a 64k -write_xing 0 -id3v2_version 0", make::free_bit_rate), Refused("MP3 of free bit rate")),
    row("mono.mp2", By("-c:a mp2"), Like(0.999)),
    row("too_fast.mp2", By("-c:a mp2 -ar 44100 -b:a 384k"), Refused("MP2 of one channel at more than 192")),
    row("stereo.mp2", By("-c:a mp2 -ar 44100 -ac 2"), Like(0.999)),
    row("behind_noise.mp2", Changed("-c:a mp2", make::behind_noise), Like(0.999)),
    row("lc.aac", By("-c:a aac"), Like(0.999)),
    row("main.aac", By("-c:a aac -profile:a aac_main"), Refused("AAC Main")),
    row("ltp.aac", By("-c:a aac -profile:a aac_ltp -strict -2"), Refused("AAC LTP")),
    row("mpeg_2.aac", By("-c:a aac -profile:a mpeg2_aac_low"), Like(0.999)),
    row("behind_zeros.aac", Changed("-c:a aac", make::behind_zeros), Like(0.999)),
    row("surround.aac", By("-c:a aac -af pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0"), Refused("AAC of 6 channels")),
    row("main.latm", By("-c:a aac"), Refused("AAC in LATM")),
    row("plain.flac", By("-c:a flac"), Same(0.0)),
    row("s24.flac", By("-c:a flac -sample_fmt s32"), Same(0.0)),
    row("picture.flac", Changed("-c:a flac", make::flac_with_picture), Same(0.0)),
    row("picture_tag.flac", Changed("-c:a flac", make::behind_a_picture), Same(0.0)),
    row("flac.ogg", By("-c:a flac"), Same(0.0)),
    row("vorbis.ogg", By("-c:a libvorbis"), Like(0.999)),
    row("opus.ogg", By("-c:a libopus"), Refused("Opus")),
    row("speex.ogg", By("-c:a libspeex"), Refused("Speex")),

    // QuickTime and MP4.
    row("raw.mov", By("-c:a pcm_u8"), Same(0.0)),
    row("s8.mov", By("-c:a pcm_s8"), Same(0.0)),
    row("sowt.mov", By("-c:a pcm_s16le"), Same(0.0)),
    row("twos.mov", By("-c:a pcm_s16be"), Same(0.0)),
    row("twos_stereo.mov", By("-c:a pcm_s16be -ac 2"), Same(BITS_16)),
    row("s24le.mov", By("-c:a pcm_s24le"), Same(0.0)),
    row("s24be.mov", By("-c:a pcm_s24be"), Same(0.0)),
    row("s32le.mov", By("-c:a pcm_s32le"), Same(0.0)),
    row("s32be.mov", By("-c:a pcm_s32be"), Same(0.0)),
    row("f32le.mov", By("-c:a pcm_f32le"), Same(0.0)),
    row("f32be.mov", By("-c:a pcm_f32be"), Same(0.0)),
    row("f64le.mov", By("-c:a pcm_f64le"), Same(0.0)),
    row("f64be.mov", By("-c:a pcm_f64be"), Same(0.0)),
    row("six_channels.mov", By("-c:a pcm_s24be -af pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0"), Like(0.99)),
    row("alaw.mov", By("-c:a pcm_alaw"), Same(0.0)),
    row("mulaw.mov", By("-c:a pcm_mulaw"), Same(0.0)),
    row("mulaw_8000.mov", By("-c:a pcm_mulaw -ar 8000"), Like(0.999)),
    row("ima4.mov", By("-c:a adpcm_ima_qt"), Like(0.999)),
    row("ima4_stereo.mov", By("-c:a adpcm_ima_qt -ac 2"), Like(0.999)),
    row("mp3.mov", By("-c:a libmp3lame -ar 44100"), Like(0.998)),
    row("aac.mov", By("-c:a aac"), Like(0.999)),
    row("alac.mov", By("-c:a alac"), Same(0.0)),
    row("film.mov", By(film!("-c:a pcm_s24be")), Same(0.0)),
    row("film_timecode.mov", By(film!("-timecode 00:00:00:00 -c:a aac")), Like(0.999)),
    row("film_timecode_pcm.mov", By(film!("-timecode 00:00:00:00 -c:a pcm_s16be")), Same(0.0)),
    row("chapters.mov", By("-i chapters -map_metadata 1 -map 0:a -c:a aac"), Like(0.999)),
    row("chapters.m4a", By("-i chapters -map_metadata 1 -map 0:a -c:a aac"), Like(0.999)),
    row("two_tracks.mov", By("-map 0:a -map 0:a -c:a:0 pcm_f32be -c:a:1 aac"), Same(0.0)),
    row("two_descriptions.m4a", Changed("-c:a aac", make::two_descriptions), Like(0.999)),
    row("gsm.mov", By("-c:a libgsm -ar 8000 -b:a 13000"), Refused("GSM 06.10")),
    row("main.m4a", By("-c:a aac -profile:a aac_main"), Refused("AAC Main")),
    row("main.mka", By("-c:a aac -profile:a aac_main"), Refused("AAC Main")),
    row("main.ts", By("-c:a aac -profile:a aac_main"), Refused("AAC Main")),
    row("main.flv", By("-c:a aac -profile:a aac_main"), Refused("AAC Main")),
    row("lc.m4a", By("-c:a aac"), Like(0.999)),
    row("explicit_sbr.m4a", Changed("-c:a aac", make::explicit_sbr), Like(0.99)),
    row("explicit_ps.m4a", Changed("-c:a aac", make::explicit_ps), Like(0.9)),
    row("low_delay.m4a", Changed("-c:a aac", make::low_delay), Refused("AAC-LD")),
    row("surround.m4a", By("-c:a aac -af pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0"), Refused("AAC of 6 channels")),
    row("fragmented.mp4", By("-c:a aac -movflags +frag_keyframe+empty_moov"), Like(0.999)),
    row("alac.m4a", By("-c:a alac"), Same(0.0)),
    row("alac_24.m4a", By("-c:a alac -sample_fmt s32p"), Same(0.0)),
    row("flac.mp4", By("-c:a flac -strict -2"), Same(0.0)),
    row("mp3.mp4", By("-c:a libmp3lame -ar 44100"), Like(0.998)),
    row("mp2.mp4", By("-c:a mp2 -ar 44100 -b:a 128k"), Like(0.97)),
    row("mp2_too_fast.mp4", By("-c:a mp2 -ar 44100 -b:a 384k"), Refused("MP2 of one channel at more than 192")),
    row("film.mp4", By(film!("-c:a aac")), Like(0.999)),
    row("opus.mp4", By("-c:a libopus"), Refused("Opus")),
    row("ac3.mp4", By("-c:a ac3 -ar 48000"), Refused("AC-3")),
    row("eac3.mp4", By("-c:a eac3 -ar 48000"), Refused("Enhanced AC-3")),
    row("dts.mp4", By("-c:a dca -strict -2 -ar 48000"), Refused("DTS")),
    row("ac3.mov", By("-c:a ac3 -ar 48000"), Refused("AC-3")),
    row("fragments_without_base.mp4", By(film!("-c:a aac -movflags +omit_tfhd_offset+frag_keyframe+empty_moov")), Like(0.999)),
    row("fragments_based_on_moof.mp4", By(film!("-c:a aac -movflags +default_base_moof+frag_keyframe+empty_moov")), Like(0.999)),
    row("fragments_swapped.mp4", Changed(film!("-c:a aac -movflags +frag_keyframe+empty_moov"), make::swapped_defaults), Like(0.999)),
    row("fragments_dash_swapped.mp4", Changed(film!("-c:a aac -movflags +dash+frag_keyframe+delay_moov"), make::swapped_defaults), Like(0.999)),
    row("fragments_without_bytes.mp4", Changed("-c:a aac -movflags +frag_keyframe+empty_moov", make::samples_without_bytes), Damaged("more samples than it has bytes")),
    row("fragments_flagged.mp4", Changed("-c:a aac -movflags +frag_keyframe+empty_moov", make::all_flags_of_first_samples), Like(0.999)),
    row("fragment_of_many_samples.mp4", By("-af aloop=loop=29:size=100000 -c:a aac -movflags +empty_moov"), Like(0.999)),
    row("fragments_cut_off.mp4", Changed("-f lavfi -i testsrc=size=320x240:rate=25:duration=2.4 -map 0:a -map 1:v -c:v mpeg4 -g 250 -c:a aac -movflags +frag_keyframe+empty_moov+default_base_moof", make::cut_off), Like(0.999)),
    row("fragments_of_the_first_moov.mp4", Changed("-c:a aac -movflags +frag_keyframe+empty_moov+default_base_moof", make::two_indexes), Like(0.999)),
    row("fragments_behind_their_data.mp4", Changed("-c:a aac -movflags +empty_moov+default_base_moof -frag_duration 1500000", make::data_before_fragments), Like(0.999)),
    row("fragments_behind_many_boxes.mp4", Changed(film!("-c:a aac -movflags +omit_tfhd_offset+frag_keyframe+empty_moov"), make::many_boxes), Like(0.999)),
    row("fragments_behind_zeros.mp4", Changed(film!("-c:a alac -movflags +frag_keyframe+empty_moov"), make::behind_zeros), Speech(0.0)),
    row("fragments_longer_than_edits.mp4", Changed("-c:a aac -movflags +delay_moov+default_base_moof -frag_duration 500000", make::edits_of_half_a_second), Like(0.999)),
    row("alac_fragmented.mov", By("-c:a alac -movflags +frag_keyframe+empty_moov"), Same(0.0)),
    row("eac3_fragmented.mp4", By("-c:a eac3 -ar 48000 -movflags +frag_keyframe+empty_moov+delay_moov"), Refused("Enhanced AC-3")),
    row("s24_fragmented.mov", By("-c:a pcm_s24be -movflags +frag_keyframe+empty_moov"), Refused("fragmented")),
    row("mp3_fragmented.mp4", By("-c:a libmp3lame -ar 44100 -movflags +frag_keyframe+empty_moov"), Like(0.998)),
    row("aac.3gp", By("-c:a aac"), Like(0.999)),

    // Matroska.
    row("u8.mka", By("-c:a pcm_u8"), Refused("PCM of 8 bits")),
    row("s16.mka", By("-c:a pcm_s16le"), Same(0.0)),
    row("s16be.mka", By("-c:a pcm_s16be"), Same(0.0)),
    row("s24.mka", By("-c:a pcm_s24le"), Same(0.0)),
    row("s24be.mka", By("-c:a pcm_s24be"), Same(0.0)),
    row("s32.mka", By("-c:a pcm_s32le"), Same(0.0)),
    row("f32.mka", By("-c:a pcm_f32le"), Same(0.0)),
    row("f64.mka", By("-c:a pcm_f64le"), Same(0.0)),
    row("flac.mka", By("-c:a flac"), Same(0.0)),
    row("alac.mka", By("-c:a alac"), Same(0.0)),
    row("mp3.mka", By("-c:a libmp3lame"), Like(0.999)),
    row("mp2.mka", By("-c:a mp2"), Like(0.999)),
    row("aac.mka", By("-c:a aac"), Like(0.999)),
    row("vorbis.webm", By("-c:a libvorbis"), Like(0.999)),
    row("film.mkv", By(film!("-c:a libmp3lame")), Like(0.999)),
    row("opus.webm", By("-c:a libopus"), Refused("Opus")),
    row("ac3.mka", By("-c:a ac3 -ar 48000"), Refused("AC-3")),
    row("dts.mka", By("-c:a dca -strict -2 -ar 48000"), Refused("DTS")),
    row("tta.mka", By("-c:a tta"), Refused("True Audio")),
    row("wavpack.mka", By("-c:a wavpack"), Refused("WavPack")),
    row("wmav2.mka", By("-c:a wmav2"), Refused("Windows Media Audio")),
    row("alaw.mka", By("-c:a pcm_alaw"), Refused("A-law")),

    // FLV, AVI, ASF.
    row("mp3.flv", By("-c:a libmp3lame -ar 44100"), Like(0.999)),
    row("mp3_film.flv", By("-f lavfi -i testsrc=size=64x64:rate=25:duration=2.4 -map 1:v -map 0:a -c:v flv1 -c:a libmp3lame -ar 22050"), Like(0.999)),
    row("aac.flv", By("-c:a aac"), Like(0.999)),
    row("aac_stereo.flv", By("-c:a aac -ar 44100 -ac 2"), Like(0.999)),
    row("s16.flv", By("-c:a pcm_s16le -ar 22050"), Like(0.999)),
    row("alaw.flv", By("-c:a pcm_alaw -ar 8000"), Like(0.999)),
    row("mulaw.flv", By("-c:a pcm_mulaw -ar 8000"), Like(0.999)),
    row("nellymoser.flv", By("-c:a nellymoser -ar 22050"), Refused("Nellymoser")),
    row("speex.flv", By("-c:a libspeex"), Refused("Speex")),
    row("adpcm.flv", By("-c:a adpcm_swf -ar 22050"), Refused("ADPCM")),
    row("mp3.avi", By(film!("-c:a libmp3lame -ar 44100")), Like(0.999)),
    row("mp2.avi", By(film!("-c:a mp2")), Like(0.999)),
    row("s16.avi", By(film!("-c:a pcm_s16le")), Same(0.0)),
    row("u8.avi", By("-c:a pcm_u8"), Same(0.0)),
    row("mulaw.avi", By(film!("-c:a pcm_mulaw")), Same(0.0)),
    row("ima.avi", By(film!("-c:a adpcm_ima_wav")), Same(2.0 * BITS_16)),
    row("aac.avi", By(film!("-c:a aac")), Like(0.999)),
    row("ac3.avi", By(film!("-c:a ac3 -ar 48000")), Refused("AC-3")),
    row("two_tracks.avi", By(film!("-map 0:a -c:a:0 ac3 -c:a:1 pcm_s16le")), Like(0.95)),
    row("wmav2.wma", By("-c:a wmav2"), Refused("ASF")),
    row("mp3.asf", By("-c:a libmp3lame"), Refused("ASF")),

    // MPEG streams.
    row("mp2.mpg", By(film!("-c:v mpeg1video -c:a mp2 -b:a 128k -ar 44100")), Like(0.999)),
    row("mp3.mpg", By("-c:a libmp3lame -ar 44100"), Like(0.999)),
    row("mp2.vob", By(film!("-c:v mpeg2video -c:a mp2 -b:a 128k -ar 48000")), Like(0.999)),
    row("mp3.vob", By("-c:a libmp3lame -ar 48000"), Like(0.999)),
    row("ac3.vob", By("-c:a ac3 -ar 48000"), Refused("AC-3")),
    row("dts.vob", By("-c:a dca -strict -2 -ar 48000"), Refused("DTS")),
    row("mp3.ts", By("-c:a libmp3lame -ar 44100"), Like(0.999)),
    row("mp2.ts", By(film!("-c:v mpeg2video -c:a mp2 -b:a 128k -ar 48000")), Like(0.999)),
    row("aac.ts", By("-c:a aac -ar 44100"), Like(0.999)),
    row("aac_film.ts", By(film!("-c:v mpeg2video -c:a aac -ar 44100 -ac 2")), Like(0.999)),
    row("aac.m2ts", By("-c:a aac -ar 44100 -f mpegts -mpegts_m2ts_mode 1"), Like(0.999)),
    row("ac3.ts", By("-c:a ac3 -ar 48000"), Refused("AC-3")),
    row("eac3.ts", By("-c:a eac3 -ar 48000"), Refused("Enhanced AC-3")),
    row("latm.ts", By("-c:a aac -mpegts_flags +latm"), Refused("AAC in LATM")),
    row("opus.ts", By("-c:a libopus"), Refused("Opus")),
    row("s302m.ts", By("-c:a s302m -strict -2 -ar 48000 -ac 2"), Refused("SMPTE 302M")),

    // Known by name only.
    row("plain.amr", Here(make::amr), Refused("AMR")),
    row("wide.amr", Here(make::amr_wb), Refused("AMR-WB")),
    row("plain.ac3", By("-c:a ac3 -ar 48000"), Refused("AC-3")),
    row("plain.eac3", By("-c:a eac3 -ar 48000"), Refused("AC-3")),
    row("plain.dts", By("-c:a dca -strict -2 -ar 48000"), Refused("DTS")),
    row("plain.mlp", By("-c:a mlp -strict -2 -ar 48000"), Refused("MLP")),
    row("plain.thd", By("-c:a truehd -strict -2 -ar 48000 -f truehd"), Refused("Dolby TrueHD")),
    row("plain.tta", By("-c:a tta"), Refused("True Audio")),
    row("plain.wv", By("-c:a wavpack"), Refused("WavPack")),
    row("plain.voc", By("-c:a pcm_u8"), Refused("Creative Voice")),
    row("plain.rm", By("-c:a ac3 -ar 44100"), Refused("RealMedia")),
    row("plain.mxf", By("-f lavfi -i testsrc=size=720x576:rate=25:duration=1 -map 1:v -map 0:a -c:v mpeg2video -c:a pcm_s16le -ar 48000"), Refused("MXF")),
];
