//! MPEG transport streams (`.ts`, `.m2ts`; ISO/IEC 13818-1, 2.4): the first audio stream that can be decoded.

use std::ops::Range;
use std::sync::Arc;

use super::content::{Coding, Content, no_audio};
use super::{adts, pes};
use crate::error::unsupported;
use crate::payload::{Piece, Pieces};
use crate::{Bytes, Error};

/// Sync byte, the first byte of every packet.
const SYNC: u8 = 0x47;

/// Bytes per packet.
const PACKET: u64 = 188;

/// Bytes before a packet, and between packet starts: plain; with timestamps, as on Blu-ray discs; with error correction, as
/// from receivers.
const LAYOUTS: [(u64, u64); 3] = [(0, 188), (4, 192), (0, 204)];

/// Consecutive packets required to identify a stream.
const MIN_PACKETS: u64 = 5;

/// The same for a whole file, which may be short.
const SHORT: u64 = 2;

/// Maximum bytes of a table section.
const MAX_TABLE: usize = 1024;

/// The layout of the transport stream at `offset`, if there is one of at least this many packets.
fn layout_at(bytes: &Bytes, offset: u64, packets: u64) -> Option<(u64, u64)> {
    LAYOUTS.into_iter().find(|(lead, step)| {
        let synced = |index| match bytes.array_at(offset + lead + index * step) {
            Some([byte]) => byte == SYNC,
            None => index >= packets,
        };
        (0..MIN_PACKETS).all(synced)
    })
}

/// Whether a transport stream starts at `offset`.
pub(crate) fn is_at(bytes: &Bytes, offset: u64) -> bool {
    layout_at(bytes, offset, SHORT).is_some()
}

/// Whether a transport stream of at least [`MIN_PACKETS`] starts at `offset`.
pub(crate) fn is_long_at(bytes: &Bytes, offset: u64) -> bool {
    layout_at(bytes, offset, MIN_PACKETS).is_some()
}

/// The audio of the file.
pub(crate) fn open(bytes: &Arc<Bytes>, range: Range<u64>) -> Result<Content, Error> {
    let (lead, step) = layout_at(bytes, range.start, SHORT).unwrap_or(LAYOUTS[0]);
    let packets = || Packets {
        bytes: bytes.clone(),
        offset: range.start + lead,
        end: range.end,
        step,
        lost: false,
    };
    let streams = streams(bytes, packets());
    let chosen = streams
        .iter()
        .find_map(|stream| Some((stream.pid, stream.coding.clone().ok()?)))
        .or_else(|| {
            // An excerpt may lack the tables.
            streams.is_empty().then(|| first_audio(bytes, packets()))?
        });
    let Some((pid, coding)) = chosen else {
        return Err(match streams.first() {
            Some(Stream {
                coding: Err(name), ..
            }) => unsupported(&format!("the codec {name} in mpegts")),
            _ => no_audio("mpegts"),
        });
    };
    Ok(Content {
        container: "mpegts",
        coding,
        len: None,
        pieces: Box::new(Elementary {
            packets: packets(),
            pid,
            started: false,
        }),
    })
}

/// An audio stream in the program map, with the name of its codec if unsupported.
struct Stream {
    pid: u16,
    coding: Result<Coding, &'static str>,
}

/// The audio streams of the first program.
fn streams(bytes: &Bytes, packets: Packets) -> Vec<Stream> {
    let mut map_pid = None;
    let mut table = Table::default();
    for packet in packets {
        let wanted = map_pid.unwrap_or(0);
        if packet.pid != wanted || !table.add(bytes, &packet) {
            continue;
        }
        let content = std::mem::take(&mut table.content);
        // Between the 8-byte header and the 4-byte CRC.
        let body = content
            .get(8..content.len().saturating_sub(4))
            .unwrap_or(&[]);
        if map_pid.is_some() {
            return audio_streams(body);
        }
        // Program 0 is the network PID.
        map_pid = body
            .chunks_exact(4)
            .find(|entry| entry[..2] != [0, 0])
            .map(|entry| u16::from_be_bytes([entry[2] & 0x1f, entry[3]]));
    }
    Vec::new()
}

/// The audio streams in a program map.
fn audio_streams(map: &[u8]) -> Vec<Stream> {
    let len = |at: usize| match map.get(at..at + 2) {
        Some([high, low]) => usize::from(high & 0x0f) << 8 | usize::from(*low),
        _ => 0,
    };
    let mut found = Vec::new();
    let mut at = 4 + len(2);
    while let Some([kind, high, low]) = map.get(at..at + 3) {
        let descriptors = map.get(at + 5..).unwrap_or(&[]);
        let descriptors = &descriptors[..len(at + 3).min(descriptors.len())];
        if let Some(coding) = coding(*kind, descriptors) {
            found.push(Stream {
                pid: u16::from_be_bytes([high & 0x1f, *low]),
                coding,
            });
        }
        at += 5 + len(at + 3);
    }
    found
}

/// Coding of a stream by its type and descriptors (ISO/IEC 13818-1, 2.4.4; ATSC A/53; ETSI EN 300 468); `None` if it is not audio.
fn coding(kind: u8, descriptors: &[u8]) -> Option<Result<Coding, &'static str>> {
    Some(match kind {
        0x03 | 0x04 => Ok(Coding::MpegAudio),
        0x0f => Ok(Coding::Adts),
        0x11 => Err("AAC in LATM"),
        0x1c => Err("AAC without ADTS headers"),
        0x80 => Err("Blu-ray PCM"),
        0x81 => Err("AC-3"),
        0x82 | 0x85 | 0x86 | 0x8a => Err("DTS"),
        0x83 => Err("Dolby TrueHD"),
        0x84 | 0x87 | 0xa1 => Err("Enhanced AC-3"),
        0x2d | 0x2e => Err("MPEG-H"),
        0x06 => {
            let mut at = 0;
            while let Some([tag, len]) = descriptors.get(at..at + 2) {
                let content = descriptors.get(at + 2..).unwrap_or(&[]);
                let name = match (*tag, content.get(..4)) {
                    (0x6a, _) => "AC-3",
                    (0x7a, _) => "Enhanced AC-3",
                    (0x7b, _) => "DTS",
                    (0x7c, _) => "AAC in LATM",
                    (0x05, Some(b"Opus")) => "Opus",
                    (0x05, Some(b"AC-3")) => "AC-3",
                    (0x05, Some(b"EAC3")) => "Enhanced AC-3",
                    (0x05, Some(b"BSSD")) => "SMPTE 302M",
                    (0x05, Some(b"DTS1" | b"DTS2" | b"DTS3")) => "DTS",
                    _ => {
                        at += 2 + usize::from(*len);
                        continue;
                    }
                };
                return Some(Err(name));
            }
            return None;
        }
        _ => return None,
    })
}

/// The first audio stream, by the stream IDs of PES packets.
fn first_audio(bytes: &Bytes, packets: Packets) -> Option<(u16, Coding)> {
    for packet in packets {
        let start = packet.content.start;
        if packet.starts
            && let Some([0, 0, 1, code]) = bytes.array_at(start)
            && pes::AUDIO.contains(&code)
            && let Some(header) = pes::header_len(bytes, start)
        {
            let coding = if adts::is_adts(bytes, start + header) {
                Coding::Adts
            } else {
                Coding::MpegAudio
            };
            return Some((packet.pid, coding));
        }
    }
    None
}

struct Packet {
    pid: u16,
    /// `payload_unit_start_indicator`: whether a section or a PES packet starts in it.
    starts: bool,
    content: Range<u64>,
}

/// The packets with a payload.
struct Packets {
    bytes: Arc<Bytes>,
    offset: u64,
    end: u64,
    step: u64,
    /// Whether synchronisation was lost, and the next packet must be searched for.
    lost: bool,
}

impl Packets {
    /// Whether another packet follows the potential one at the current offset.
    fn is_followed(&self) -> bool {
        match self.bytes.array_at(self.offset + self.step) {
            Some([byte]) => byte == SYNC,
            None => true,
        }
    }
}

impl Iterator for Packets {
    type Item = Packet;

    fn next(&mut self) -> Option<Packet> {
        while self.offset < self.end {
            let start = self.offset;
            let [sync, high, low, flags] = self.bytes.array_at(start)?;
            if sync != SYNC || self.lost && !self.is_followed() {
                self.lost = true;
                self.offset += 1;
                continue;
            }
            self.lost = false;
            self.offset += self.step;
            // Corrupted, scrambled, or without a payload.
            if high & 0x80 != 0 || flags & 0xc0 != 0 || flags & 0x10 == 0 {
                continue;
            }
            let skipped = if flags & 0x20 == 0 {
                0
            } else {
                let [len] = self.bytes.array_at(start + 4)?;
                1 + u64::from(len)
            };
            let end = (start + PACKET).min(self.end);
            return Some(Packet {
                pid: u16::from_be_bytes([high & 0x1f, low]),
                starts: high & 0x40 != 0,
                content: (start + 4 + skipped).min(end)..end,
            });
        }
        None
    }
}

/// Reassembles a table section.
#[derive(Default)]
struct Table {
    content: Vec<u8>,
}

impl Table {
    /// Appends the payload of a packet. Returns whether the section is complete.
    fn add(&mut self, bytes: &Bytes, packet: &Packet) -> bool {
        let mut content = bytes.slice(packet.content.clone());
        if packet.starts {
            // `pointer_field`: offset of the section.
            let skipped = 1 + content.first().map_or(0, |pointer| usize::from(*pointer));
            content.drain(..skipped.min(content.len()));
            self.content.clear();
        } else if self.content.is_empty() {
            return false;
        }
        self.content.append(&mut content);
        let Some([_, high, low]) = self.content.first_chunk() else {
            return false;
        };
        let len = 3 + (usize::from(high & 0x0f) << 8 | usize::from(*low));
        let is_complete = self.content.len() >= len && len <= MAX_TABLE;
        if is_complete {
            self.content.truncate(len);
        } else if self.content.len() > MAX_TABLE {
            self.content.clear();
        }
        is_complete
    }
}

/// The content of one stream.
struct Elementary {
    packets: Packets,
    pid: u16,
    /// Whether the first PES packet has started. Data before it belongs to a truncated packet.
    started: bool,
}

impl Pieces for Elementary {
    fn next(&mut self) -> Option<Piece> {
        loop {
            let packet = self.packets.next()?;
            if packet.pid != self.pid {
                continue;
            }
            let start = packet.content.start;
            if packet.starts {
                let Some(header) = pes::header_len(&self.packets.bytes, start) else {
                    continue;
                };
                self.started = true;
                return Some(Piece::File(
                    (start + header).min(packet.content.end)..packet.content.end,
                ));
            }
            if self.started {
                return Some(Piece::File(packet.content));
            }
        }
    }
}
