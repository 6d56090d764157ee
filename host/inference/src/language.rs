//! Resolves a language from its code or English name, in any case, with or without a region.

use crate::Error;

/// All English names of the languages that Whisper supports, with their codes.
const NAMES: &[(&str, &str)] = &[
    ("afrikaans", "af"),
    ("albanian", "sq"),
    ("amharic", "am"),
    ("arabic", "ar"),
    ("armenian", "hy"),
    ("assamese", "as"),
    ("azerbaijani", "az"),
    ("bashkir", "ba"),
    ("basque", "eu"),
    ("belarusian", "be"),
    ("bengali", "bn"),
    ("bosnian", "bs"),
    ("breton", "br"),
    ("bulgarian", "bg"),
    ("burmese", "my"),
    ("cantonese", "yue"),
    ("castilian", "es"),
    ("catalan", "ca"),
    ("chinese", "zh"),
    ("croatian", "hr"),
    ("czech", "cs"),
    ("danish", "da"),
    ("dutch", "nl"),
    ("english", "en"),
    ("estonian", "et"),
    ("faroese", "fo"),
    ("finnish", "fi"),
    ("flemish", "nl"),
    ("french", "fr"),
    ("galician", "gl"),
    ("georgian", "ka"),
    ("german", "de"),
    ("greek", "el"),
    ("gujarati", "gu"),
    ("haitian", "ht"),
    ("haitian creole", "ht"),
    ("hausa", "ha"),
    ("hawaiian", "haw"),
    ("hebrew", "he"),
    ("hindi", "hi"),
    ("hungarian", "hu"),
    ("icelandic", "is"),
    ("indonesian", "id"),
    ("italian", "it"),
    ("japanese", "ja"),
    ("javanese", "jw"),
    ("kannada", "kn"),
    ("kazakh", "kk"),
    ("khmer", "km"),
    ("korean", "ko"),
    ("lao", "lo"),
    ("latin", "la"),
    ("latvian", "lv"),
    ("letzeburgesch", "lb"),
    ("lingala", "ln"),
    ("lithuanian", "lt"),
    ("luxembourgish", "lb"),
    ("macedonian", "mk"),
    ("malagasy", "mg"),
    ("malay", "ms"),
    ("malayalam", "ml"),
    ("maltese", "mt"),
    ("mandarin", "zh"),
    ("maori", "mi"),
    ("marathi", "mr"),
    ("moldavian", "ro"),
    ("moldovan", "ro"),
    ("mongolian", "mn"),
    ("myanmar", "my"),
    ("nepali", "ne"),
    ("norwegian", "no"),
    ("nynorsk", "nn"),
    ("occitan", "oc"),
    ("panjabi", "pa"),
    ("pashto", "ps"),
    ("persian", "fa"),
    ("polish", "pl"),
    ("portuguese", "pt"),
    ("punjabi", "pa"),
    ("pushto", "ps"),
    ("romanian", "ro"),
    ("russian", "ru"),
    ("sanskrit", "sa"),
    ("serbian", "sr"),
    ("shona", "sn"),
    ("sindhi", "sd"),
    ("sinhala", "si"),
    ("sinhalese", "si"),
    ("slovak", "sk"),
    ("slovenian", "sl"),
    ("somali", "so"),
    ("spanish", "es"),
    ("sundanese", "su"),
    ("swahili", "sw"),
    ("swedish", "sv"),
    ("tagalog", "tl"),
    ("tajik", "tg"),
    ("tamil", "ta"),
    ("tatar", "tt"),
    ("telugu", "te"),
    ("thai", "th"),
    ("tibetan", "bo"),
    ("turkish", "tr"),
    ("turkmen", "tk"),
    ("ukrainian", "uk"),
    ("urdu", "ur"),
    ("uzbek", "uz"),
    ("valencian", "ca"),
    ("vietnamese", "vi"),
    ("welsh", "cy"),
    ("yiddish", "yi"),
    ("yoruba", "yo"),
];

/// Resolves `language` to a code in `known`: the code itself, the language's English name, or either followed by a region or a
/// script (`en-US`, `pt_BR`, `zh-Hant-TW`), all in any case. Returns `None`, for detection, if it is `None`, empty or `auto`.
///
/// # Errors
/// [`Error::UnsupportedLanguage`] if it matches none of them.
pub(crate) fn resolve<'a>(
    language: Option<&str>,
    known: &'a [String],
) -> Result<Option<&'a str>, Error> {
    let asked = language.unwrap_or_default().trim();
    let lower = asked.to_lowercase().replace('_', "-");
    if lower.is_empty() || lower == "auto" {
        return Ok(None);
    }
    let primary = lower.split('-').next().unwrap_or_default();
    let spelled = lower.replace('-', " ");
    [lower.as_str(), spelled.as_str(), primary]
        .into_iter()
        .find_map(|name| {
            let code = NAMES
                .iter()
                .find_map(|&(known, code)| (known == name).then_some(code))
                .unwrap_or(name);
            known.iter().find(|known| *known == code)
        })
        .map(|code| Some(code.as_str()))
        .ok_or_else(|| {
            Error::UnsupportedLanguage(format!(
                "the model does not know the language `{asked}`; it knows: {}",
                known.join(", ")
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(language: &str) -> Option<String> {
        let known = ["de", "en", "haw", "ht", "pt", "zh"].map(str::to_owned);
        resolve(Some(language), &known).unwrap().map(str::to_owned)
    }

    #[test]
    fn languages_are_resolved_by_code_or_english_name_in_any_case_and_with_any_region() {
        for (language, code) in [
            ("en", "en"),
            ("EN", "en"),
            (" en ", "en"),
            ("en-US", "en"),
            ("pt_BR", "pt"),
            ("zh-Hant-TW", "zh"),
            ("German", "de"),
            ("GERMAN", "de"),
            ("german-AT", "de"),
            ("haw", "haw"),
            ("Haitian Creole", "ht"),
            ("haitian_creole", "ht"),
            ("Mandarin", "zh"),
        ] {
            assert_eq!(resolved(language).as_deref(), Some(code), "{language}");
        }
    }

    #[test]
    fn without_a_language_or_with_auto_it_is_detected() {
        for language in ["", " ", "auto", "Auto"] {
            assert_eq!(resolved(language), None, "{language}");
        }
        assert_eq!(resolve(None, &[]), Ok(None));
    }

    #[test]
    fn an_unsupported_language_is_refused_and_named_as_written() {
        let known = ["de".to_owned(), "en".to_owned()];
        for language in ["fr", "French", "Klingon", "english language", "-"] {
            assert!(
                matches!(resolve(Some(language), &known), Err(Error::UnsupportedLanguage(text))
                    if text.contains(&format!("`{language}`")) && text.contains("de, en")),
                "{language}"
            );
        }
    }

    #[test]
    fn names_are_lower_case_sorted_and_unique() {
        assert!(NAMES.is_sorted_by(|one, other| one.0 < other.0));
        assert!(NAMES.iter().all(|(name, _)| *name == name.to_lowercase()));
    }
}
