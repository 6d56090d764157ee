"""Synthesizers: what is read against what is heard."""

import unittest

SENTENCES = ["But nothing was caught in the hut.", "Who cut the cot?", "Which whale, and when?"]

try:
    from whisper_maker.espeak import Espeak
    from whisper_maker.flite import Flite

    espeak, flite = Espeak(), Flite()
except OSError as missing:
    raise unittest.SkipTest(f"the synthesizers are not installed: {missing}") from missing


class Pronunciation(unittest.TestCase):
    """What is read has the phonemes of what is heard."""

    def test_flite_has_those_of_the_recorded_voices(self) -> None:
        for sentence in SENTENCES:
            spoken = [name for _, name in flite.speak(sentence, "slt", 1.0, 170)[1]]
            self.assertEqual(flite.pronounce(sentence), spoken)
        self.assertNotEqual(flite.pronounce("cut"), flite.pronounce("cot"))

    def test_espeak_has_those_of_the_accent(self) -> None:
        for accent in ("en-us", "en-gb-scotland"):
            for sentence in SENTENCES:
                spoken = [name for _, name in espeak.speak(sentence, accent, 175, 50, 50)[1]]
                self.assertEqual(espeak.pronounce(sentence, accent), spoken)


if __name__ == "__main__":
    unittest.main()
