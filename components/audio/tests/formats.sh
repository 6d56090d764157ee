#!/bin/sh
# Generates tests/data: one spoken clip, and that clip in every container and codec that `audio` supports, and in some that it
# must reject. Needs ffmpeg (with libmp3lame, libvorbis, libopus, libgsm) and espeak-ng. The results are committed, so
# run this only to change them, and golden.py afterwards.
set -eu
cd "$(dirname "$0")/data"
mkdir -p formats

espeak-ng -v en-us -s 150 -w speech.wav "The quick brown fox jumps over the lazy dog."
# The reference: 2.5 s of 16 kHz mono, for the mel spectrogram; its first 1.2 s for the formats.
ffmpeg -v error -y -i speech.wav -ar 16000 -ac 1 -t 2.5 -f s16le speech.s16
rm speech.wav
head -c 38400 speech.s16 > clip.s16
original="-f s16le -ar 16000 -ac 1 -i clip.s16 -flags +bitexact -map_metadata -1"

# At 16 kHz, mono: only the codec may change the samples.
mono() { # FILE ARGUMENTS…
    file=$1; shift
    # shellcheck disable=SC2086
    ffmpeg -v error -y $original "$@" "formats/$file"
}
mono pcm_u8.wav -c:a pcm_u8
mono pcm_s16le.wav -c:a pcm_s16le
mono pcm_s24le.wav -c:a pcm_s24le
mono pcm_s32le.wav -c:a pcm_s32le
mono pcm_f32le.wav -c:a pcm_f32le
mono pcm_f64le.wav -c:a pcm_f64le
mono pcm_alaw.wav -c:a pcm_alaw
mono pcm_mulaw.wav -c:a pcm_mulaw
mono adpcm_ms.wav -c:a adpcm_ms
mono adpcm_ima.wav -c:a adpcm_ima_wav
mono pcm_s16be.aiff -c:a pcm_s16be
mono pcm_s16.caf -c:a pcm_s16le
mono alac.caf -c:a alac
mono flac.flac -c:a flac
mono flac.mkv -c:a flac
mono flac.ogg -c:a flac
mono alac.m4a -c:a alac
# With the moov atom last, as recorders write it, and first, as servers do.
mono aac.m4a -c:a aac -b:a 64k
mono aac_faststart.m4a -c:a aac -b:a 64k -movflags +faststart
mono aac_22050.aac -c:a aac -b:a 64k -ar 22050
mono aac_44100_stereo.aac -c:a aac -b:a 64k -ar 44100 -ac 2

# Resampled and in stereo.
mono mp3_44100_stereo.mp3 -c:a libmp3lame -b:a 128k -ar 44100 -ac 2
mono mp3_vbr_tagged.mp3 -c:a libmp3lame -q:a 4 -ar 24000 -metadata title=Fox -id3v2_version 3 -write_id3v1 1
# As some recorders write it, without a header that states the length. The silence makes the first frames larger than average.
mono mp3_vbr_bare.mp3 -c:a libmp3lame -q:a 4 -ar 24000 -af apad=pad_dur=2 -write_xing 0 -id3v2_version 0
mono flac_48000_stereo.flac -c:a flac -ar 48000 -ac 2
mono vorbis_44100_stereo.ogg -c:a libvorbis -q:a 5 -ar 44100 -ac 2
mono vorbis.webm -c:a libvorbis -q:a 5
mono vorbis.mkv -c:a libvorbis -q:a 5
mono pcm_24000_quad.wav -c:a pcm_s16le -ar 24000 -ac 4

# Containers that are demultiplexed without symphonia, and files that it fails on.
mono pcm_s24be.mov -c:a pcm_s24be
mono pcm_mulaw.mov -c:a pcm_mulaw
mono ima4.mov -c:a adpcm_ima_qt
mono alac.mov -c:a alac
mono pcm_s16le.w64 -c:a pcm_s16le
mono pcm_mulaw.au -c:a pcm_mulaw
mono ima4.aiff -c:a adpcm_ima_qt
mono pcm_alaw.caf -c:a pcm_alaw
mono mp3.wav -c:a libmp3lame -b:a 32k
mono mp3.flv -c:a libmp3lame -b:a 32k -ar 22050
mono aac.flv -c:a aac -b:a 64k
mono mp3.avi -c:a libmp3lame -b:a 32k
mono mp3.ts -c:a libmp3lame -b:a 32k
mono aac.ts -c:a aac -b:a 64k
mono aac_44100_stereo.ts -c:a aac -b:a 64k -ar 44100 -ac 2
mono mp3.mpg -c:a libmp3lame -b:a 32k
mono mp2.mp2 -c:a mp2 -b:a 64k

# Codecs that symphonia lacks.
mono gsm.wav -c:a libgsm_ms -ar 8000 -b:a 13000
# Clipped, so that the arithmetic saturates; libgsm decodes it according to the recommendation, ffmpeg's own decoder does not.
mono gsm_loud.wav -af volume=40dB -c:a libgsm_ms -ar 8000 -b:a 13000
ffmpeg -v error -y -c:a libgsm_ms -i formats/gsm_loud.wav -f s16le gsm_loud.s16
mono g722.wav -c:a g722
mono adpcm_yamaha.wav -c:a adpcm_yamaha

# Two Ogg files joined: the second at another rate.
mono second.ogg -c:a libvorbis -q:a 5
cat formats/vorbis_44100_stereo.ogg formats/second.ogg > formats/vorbis_chained.ogg
rm formats/second.ogg

# To be rejected.
mono opus.ogg -c:a libopus -b:a 24k
mono opus.webm -c:a libopus -b:a 24k
mono ac3.mp4 -c:a ac3 -b:a 64k -ar 48000
ffmpeg -v error -y -f lavfi -i testsrc=size=64x64:duration=1 -frames:v 1 -flags +bitexact -pix_fmt rgb24 formats/picture.png
ffmpeg -v error -y -f lavfi -i testsrc=size=64x64:rate=5:duration=1 -flags +bitexact -c:v mpeg4 formats/silent_film.mp4
ffmpeg -v error -y -f lavfi -i anullsrc=r=16000:cl=mono -t 0 -flags +bitexact -c:a pcm_s16le formats/no_samples.wav
echo "The quick brown fox jumps over the lazy dog." > formats/text.txt
