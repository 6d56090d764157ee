"""Tables of word errors, and whether the project's bars are met."""

from dataclasses import asdict, dataclass
from itertools import pairwise

from measure.section import Section, Table
from measure.systems import Heard

from . import noise
from .answers import WITH_TIMES
from .recordings import Recording
from .score import Comparison, Errors, compare, errors, normalised

#: How much worse than faster-whisper the host may be over all, in points of word errors.
BAR = 0.5
#: Sets that are large enough to be judged by themselves, and language by language.
JUDGED = ["prompts", "long", "after-noise", "half-hour"]
#: Seconds by which a segment may end after its recording: both round to hundredths, and frames have 20 ms.
SLACK = 0.03


@dataclass
class Run:
    """One model at one precision and width of beam, over some recordings."""

    model: str
    precision: str
    beam: int
    recordings: list[Recording]
    ours: list[Heard]
    theirs: list[Heard]

    @property
    def name(self) -> str:
        return f"{self.model} {self.precision}, beam {self.beam}"


def words(runs: list[Run]) -> tuple[Section, list[str]]:
    """Word errors by set and language, and the verdicts on them."""
    rows, figures, verdicts = [], [], []
    for run in runs:
        found: dict[tuple[str, str], tuple[list[Errors], list[Errors]]] = {}
        for recording, ours, theirs in zip(run.recordings, run.ours, run.theirs, strict=True):
            if recording.set == "noise":
                continue
            both = [errors(recording.texts, heard.text, recording.language) for heard in (ours, theirs)]
            for key in [(recording.set, recording.language), (recording.set, "all"), ("all", "all")]:
                for kept, more in zip(found.setdefault(key, ([], [])), both, strict=True):
                    kept.extend(more)
        single = {name for name, _ in found if len({language for other, language in found if other == name}) == 2}
        for (name, language), (ours, theirs) in sorted(found.items(), key=lambda item: order(*item[0])):
            if language == "all" and name in single:
                continue
            compared = compare(ours, theirs)
            rows.append([run.model, run.precision, str(run.beam), name, language, *cells(compared)])
            figures.append(
                {"model": run.model, "precision": run.precision, "beam": run.beam, "set": name, "language": language}
            )
            figures[-1] |= asdict(compared)
            verdicts += judge(run, name, language, compared, name in single)
    section = Section(
        "Word errors",
        {"words": figures},
        [
            Table(
                [
                    "model",
                    "precision",
                    "beam",
                    "set",
                    "language",
                    "words",
                    "faster-whisper",
                    "whisper-host",
                    "difference",
                    "95 % interval",
                    "inserted, theirs / ours",
                ],
                rows,
            )
        ],
        [
            "Word errors over words, after Whisper's own normalisation of text. The difference, in points, is the host's less "
            "faster-whisper's; its interval is of a bootstrap over texts, paired. Both are told the language, but in the set "
            "`after-noise`.",
        ],
    )
    return section, verdicts


def order(name: str, language: str) -> tuple:
    return (name == "all", name, language == "all", language)


def cells(compared: Comparison) -> list[str]:
    return [
        str(compared.words),
        f"{compared.theirs:.1%}",
        f"{compared.ours:.1%}",
        f"{100 * compared.difference:+.1f}",
        f"{100 * compared.low:+.1f} to {100 * compared.high:+.1f}",
        f"{compared.theirs_inserted} / {compared.ours_inserted}",
    ]


def judge(run: Run, name: str, language: str, compared: Comparison, single: bool) -> list[str]:
    """A whole set, and everything, may be a little worse; a language may be worse as far as chance explains it."""
    points = 100 * compared.difference
    found = []
    if name == "all" or (name in JUDGED and (language == "all" or single)):
        what = "over all" if name == "all" else f"set {name}"
        found.append(verdict(points <= BAR, f"{run.name}, {what}: {points:+.1f} points (at most +{BAR})"))
    if name in JUDGED and language != "all":
        low, high = 100 * compared.low, 100 * compared.high
        worse = f"{points:+.1f} points, interval {low:+.1f} to {high:+.1f} (must not lie above 0)"
        found.append(verdict(low <= 0, f"{run.name}, set {name}, {language}: {worse}"))
    return found


def verdict(met: bool, what: str) -> str:
    return f"{'met   ' if met else 'MISSED'}  {what}"


def invented(runs: list[Run]) -> tuple[Section, list[str]] | None:
    """Words where nobody speaks."""
    rows, figures, verdicts = [], [], []
    for run in runs:
        clips = [entry for entry in zip(run.recordings, run.ours, run.theirs, strict=True) if entry[0].set == "noise"]
        if not clips:
            continue
        counts = {
            clip.language: {"ours": count(ours), "theirs": count(theirs), "heard": ours.text} for clip, ours, theirs in clips
        }
        figures.append({"model": run.model, "precision": run.precision, "beam": run.beam, "clips": counts})
        clips_ours, clips_theirs = (sum(row[who] > 0 for row in counts.values()) for who in ("ours", "theirs"))
        rows += [
            [run.model, run.precision, str(run.beam), name, str(row["theirs"]), str(row["ours"]), shortened(row["heard"])]
            for name, row in counts.items()
            if row["ours"] or row["theirs"]
        ]
        what = f"{clips_ours} of {len(clips)} clips of noise have invented words, faster-whisper's {clips_theirs}"
        verdicts.append(verdict(clips_ours <= clips_theirs, f"{run.name}: {what}"))
    if not figures:
        return None
    head = ["model", "precision", "beam", "clip", "words of faster-whisper", "words of whisper-host", "of whisper-host"]
    note = (
        f"A minute each of sounds in which nobody speaks, and {noise.SILENCE_SECONDS / 60:.0f} minutes of silence with one bit of "
        "dither; neither is told a language. Clips in which both found no word are left out."
    )
    return Section("Invented words", {"noise": figures}, [Table(head, rows)] if rows else [], [note]), verdicts


def count(heard: Heard) -> int:
    # Whatever the language, as it may be any.
    return len(normalised(heard.text, "en").split())


def shortened(text: str) -> str:
    return (text if len(text) <= 60 else text[:57] + "…").replace("|", "\\|")


def times(runs: list[Run]) -> tuple[Section, list[str]] | None:
    """Segments out of order or past the end, in the sets of long recordings."""
    rows, figures, verdicts = [], [], []
    for run in runs:
        for name in WITH_TIMES:
            entries = [entry for entry in zip(run.recordings, run.ours, run.theirs, strict=True) if entry[0].set == name]
            if not entries:
                continue
            wrong = {
                "ours": [misplaced(ours, recording.seconds) for recording, ours, _ in entries],
                "theirs": [misplaced(theirs, recording.seconds) for recording, _, theirs in entries],
            }
            total = {who: tuple(map(sum, zip(*values, strict=True))) for who, values in wrong.items()}
            figures.append({"model": run.model, "precision": run.precision, "beam": run.beam, "set": name, **total})
            shown = [" / ".join(map(str, total[who])) for who in ("theirs", "ours")]
            rows.append([run.model, run.precision, str(run.beam), name, *shown])
            verdicts.append(
                verdict(total["ours"][1:] == (0, 0), f"{run.name}, set {name}: no segment out of order or past the end")
            )
    if not figures:
        return None
    head = ["model", "precision", "beam", "set", "faster-whisper", "whisper-host"]
    note = "Segments / of them before the one before, or with an end before their start / past the end of the recording."
    return Section("Times of segments", {"times": figures}, [Table(head, rows)], [note]), verdicts


def misplaced(heard: Heard, seconds: float) -> tuple[int, int, int]:
    """How many segments there are, how many are out of order, and how many end after the recording."""
    backwards = sum(segment["end"] < segment["start"] for segment in heard.segments)
    before = sum(later["start"] < sooner["start"] for sooner, later in pairwise(heard.segments))
    past = sum(segment["end"] > seconds + SLACK for segment in heard.segments)
    return len(heard.segments), backwards + before, past
