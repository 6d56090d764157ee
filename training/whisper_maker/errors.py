"""Word error rate, and how sure it is."""

import re
from random import Random


def words(text: str) -> list[str]:
    """Lower-cased words without punctuation; a hyphen parts words."""
    return re.sub(r"[^a-z' ]+", " ", text.lower().replace("-", " ")).split()


def distance(said: list[str], heard: list[str]) -> int:
    """Levenshtein distance: the fewest words to insert, delete or replace."""
    row = list(range(len(heard) + 1))
    for i, one in enumerate(said, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


def word_error_rate(pairs: list[tuple[str, str]]) -> float:
    """Of pairs of what was said and what was heard: wrong words for each word said."""
    wrong = sum(distance(words(said), words(heard)) for said, heard in pairs)
    return wrong / max(1, sum(len(words(said)) for said, _ in pairs))


def interval(pairs: list[tuple[str, str]], draws: int = 1000) -> tuple[float, float]:
    """The 95 % confidence interval, by drawing clips with replacement (Bisani and Ney, 2004)."""
    counts = [(distance(words(said), words(heard)), len(words(said))) for said, heard in pairs]
    r, rates = Random(0), []
    for _ in range(draws):
        drawn = r.choices(counts, k=len(counts))
        rates.append(sum(wrong for wrong, _ in drawn) / max(1, sum(total for _, total in drawn)))
    rates.sort()
    return rates[int(0.025 * draws)], rates[int(0.975 * draws)]
