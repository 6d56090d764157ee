//! Text of others, made safe to be shown.

/// The text with all that would move a terminal's cursor, or turn the order of what is shown, written as `\u{…}`.
pub(crate) fn visible(text: &str) -> String {
    let hidden = |c: char| {
        // Marks that set the direction of text (Unicode Standard Annex 9), and separators of lines and paragraphs.
        let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        turns || (c.is_control() && c != '\t')
    };
    let plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
    if text.bytes().all(plain) || !text.contains(hidden) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match hidden(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn what_a_terminal_would_act_on_is_shown_as_text() {
        assert_eq!(visible("Grüße,\t世界"), "Grüße,\t世界");
        assert_eq!(visible("ok\rforged"), "ok\\u{d}forged");
        assert_eq!(
            visible("\x1b[2Ja\u{202e}b\u{2028}c"),
            "\\u{1b}[2Ja\\u{202e}b\\u{2028}c"
        );
    }
}
