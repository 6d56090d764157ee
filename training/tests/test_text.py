"""Sentences: what is kept, how it is cleaned, how it is counted."""

import unittest
from collections import Counter
from random import Random

from whisper_maker import errors, templates, text

SPELLING = set("a the old king's king said where is my crown don't well-known well known I it".split())


class Cleaning(unittest.TestCase):
    def test_typography_becomes_plain(self) -> None:
        self.assertEqual(text.clean("\u201cwhere is my crown?\u201d", SPELLING), "Where is my crown?")
        self.assertEqual(text.clean("The old king \u2014 the king", SPELLING), "The old king, the king.")

    def test_what_a_voice_would_guess_at_is_dropped(self) -> None:
        for sentence in ("The king is 40", "The xyzzy king", "The KING is old", "King"):
            self.assertIsNone(text.clean(sentence, SPELLING), sentence)

    def test_brackets_go_and_the_sentence_ends(self) -> None:
        self.assertEqual(text.clean("the king (of old) said it;", SPELLING), "The king said it.")

    def test_a_document_stays_in_its_part(self) -> None:
        self.assertEqual(text.split_of("one/two"), text.split_of("one/two"))
        parts = [text.split_of(str(number)) for number in range(5000)]
        self.assertAlmostEqual(parts.count("train") / 5000, 1 - text.DEV - text.TEST, delta=0.01)


class Templates(unittest.TestCase):
    def test_numbers_are_written_as_they_are_said(self) -> None:
        for value, words in {
            0: "zero",
            21: "twenty-one",
            340: "three hundred forty",
            70_005: "seventy thousand five",
        }.items():
            self.assertEqual(templates.number(value), words)

    def test_every_sentence_can_be_spoken_as_it_stands(self) -> None:
        r = Random(1)
        for _ in range(2000):
            sentence, _ = templates.sentence(r)
            self.assertRegex(sentence, r"^[A-Z][A-Za-z',.?\- ]*[.?]$")


class Lists(unittest.TestCase):
    def test_every_word_a_voice_reads_as_it_stands_is_in_them(self) -> None:
        made = text.lists(["crown", "Paris", "NATO", "king's", "Dr", "sky"], Random(1))
        counts = Counter(word for sentence in made for word in text.words(sentence))
        self.assertEqual(counts, {"crown": text.LISTS, "paris": text.LISTS, "sky": text.LISTS})
        for sentence in made:
            self.assertRegex(sentence, r"^[A-Z][A-Za-z ,]+\.$")


class Errors(unittest.TestCase):
    def test_case_and_punctuation_do_not_count(self) -> None:
        self.assertEqual(errors.word_error_rate([("Twenty-one, please!", "twenty one please")]), 0)

    def test_insertions_deletions_and_replacements_count_one_each(self) -> None:
        self.assertEqual(errors.distance("a b c d".split(), "a x c d e".split()), 2)
        self.assertEqual(errors.distance([], ["a"]), 1)

    def test_the_interval_holds_the_rate(self) -> None:
        pairs = [("a b c d", "a b c d"), ("a b c d", "a b x d"), ("a b", "x y")] * 20
        low, high = errors.interval(pairs)
        self.assertLess(low, errors.word_error_rate(pairs))
        self.assertGreater(high, errors.word_error_rate(pairs))


if __name__ == "__main__":
    unittest.main()
