//! Escaping of untrusted text for display.

/// Escapes characters that would move a terminal's cursor or change the direction of text, as `\u{…}`.
pub(crate) fn escape_controls(text: &str) -> String {
    let escaped = |c: char| {
        // Directional formatting characters (Unicode Standard Annex 9), and line and paragraph separators.
        let bidi = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        bidi || (c.is_control() && c != '\t')
    };
    let plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
    if text.bytes().all(plain) || !text.contains(escaped) {
        return text.to_owned();
    }
    let mut output = String::with_capacity(text.len());
    for c in text.chars() {
        match escaped(c) {
            true => output.extend(c.escape_unicode()),
            false => output.push(c),
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::escape_controls;

    #[test]
    fn terminal_control_characters_are_escaped() {
        assert_eq!(escape_controls("Grüße,\t世界"), "Grüße,\t世界");
        assert_eq!(escape_controls("ok\rforged"), "ok\\u{d}forged");
        assert_eq!(
            escape_controls("\x1b[2Ja\u{202e}b\u{2028}c"),
            "\\u{1b}[2Ja\\u{202e}b\\u{2028}c"
        );
    }
}
