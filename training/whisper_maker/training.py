"""The training step. It can be stopped at any time, and goes on from its last checkpoint.

The trunk runs at a constant rate for as long as it is given, so that more speech and more hours can follow; the model that
is used is the running mean of its weights, or, better, a cooldown: a branch off the trunk whose rate falls to nothing.
"""

import json
import math
import os
import signal
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType

import numpy as np
import torch
import torch.nn.functional as F

from . import decoding, errors, layout, shards, tokens
from .augment import Augment
from .injection import Injection
from .layout import SAMPLE_RATE, WINDOW, Work
from .logmel import LogMel
from .model import PHONEMES, Decoder, Shape, Whisper, is_matrix
from .muon import Muon
from .windows import IGNORE, Batch, Reading, Stream, Windows


@dataclass(frozen=True)
class Options:
    """What the command line decides."""

    hours: float
    """Hours of audio to process in all, counting those of earlier runs; a cooldown counts from where it branches off."""
    cooldown: bool = False
    device: str = "cpu"
    precision: str = "auto"
    threads: int = 2
    batch_seconds: float = 64.0
    read_seconds: float = 512.0
    """Of windows that are read in a step, beside those that are heard."""
    workers: int = 1
    seed: int = 1
    shape: Shape = field(default_factory=Shape)


ADAM_RATE, MUON_RATE = 1e-3, 4e-3
"""Rates of the trunk for batches of 64 s; larger batches take sqrt-scaled ones. They are constant, so they are lower than
the peak that a schedule with a fall would bear: with 2e-3 and 1.2e-2 all losses stood still from 18 to 24 hours on."""

WARMUP = 300
"""Steps."""

CTC, PHONEME, GUIDE = 0.4, 0.5, 0.3
"""Weights of the losses beside the decoder's own. CTC over letters and the phoneme of every frame teach the encoder to
hear before the decoder has learned to read it; the guide holds cross-attention to where a token is spoken."""

READ_AFTER = 30.0
"""Hours of audio until text is injected: by then the middle of the encoder tells phonemes apart."""

GUIDED_FOR, GUIDE_GONE = 60.0, 120.0
"""Hours of audio until the guide of what is heard begins to fade, and until it is gone. Later the decoder knows better.
What is read is always guided."""

NEAR = 12
"""Encoder positions (0.24 s) to either side of a token's middle in which attention counts as right."""

MILD, HARSH_AFTER = 0.3, 100.0
"""Augmentation begins with this strength and is full after so many hours: clean speech teaches the phonemes sooner."""

SMOOTHING = 0.05

MEAN_EVERY, MEAN_SHARE, COOLDOWN_SHARE = 10, 0.02, 0.1
"""The mean of the weights takes in so much of the present ones every so many steps; more while they improve quickly."""

SAVE_SECONDS, CHECK_SECONDS, LOG_STEPS = 180, 600, 50
DEV_CLIPS = 100


@dataclass
class Progress:
    """How far the run is."""

    step: int = 0
    audio_seconds: float = 0.0
    training_seconds: float = 0.0
    branch_seconds: float = 0.0
    """Where the cooldown began."""
    read_seconds: float = 0.0
    """Of speech, had it been spoken, in what was read."""
    warmed: int = 0
    """The step that the warm-up of the rate counts from."""


def fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies matrices of bf16 itself. A CPU that has to imitate it takes 100 times as long."""
    return device.type != "cpu" or any(
        torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")
    )


def phoneme_numbers(work: Work) -> dict[str, int]:
    """A number for each `engine:phoneme` of the first shards, kept once made: the head's outputs must not move."""
    path = work.run / "phonemes.json"
    if not path.exists():
        names: dict[str, int] = {}
        for shard in shards.finished(work.speech / "train")[:10]:
            for row in shards.read(shard).rows:
                engine = row["voice"].partition(":")[0]
                for _, name in row["phonemes"]:
                    names.setdefault(f"{engine}:{name}", len(names))
        path.parent.mkdir(parents=True, exist_ok=True)
        layout.write(path, json.dumps(dict(list(names.items())[:PHONEMES])))
    return json.loads(path.read_text(encoding="utf-8"))


class Losses:
    """The decoder's loss and the three that help it."""

    def __init__(self, phonemes: dict[str, int], device: torch.device) -> None:
        engines = sorted({name.partition(":")[0] for name in phonemes})
        self.foreign = torch.ones(PHONEMES, PHONEMES, dtype=torch.bool, device=device)
        """`[true phoneme, other]`: whether the other belongs to another engine. The engines' alphabets overlap in
        sound, so neither is to be told that the other's names for a sound are wrong."""
        for engine in engines:
            own = [number for name, number in phonemes.items() if name.startswith(f"{engine}:")]
            for number in own:
                self.foreign[number, own] = False

    def __call__(
        self, model: Whisper, mel: torch.Tensor, batch: Batch, guide: float
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The losses by name, `all` being their sum, and the middle layer's output."""
        encoded, middle = model.encoder(mel)
        written, attended = model.decoder(batch.inputs, encoded)
        parts = {
            "text": self.text(model.decoder, written, batch.targets),
            "letters": self.letters(model.ctc(encoded), batch),
            "phonemes": self.phonemes(model.phonemes(middle), batch.phonemes),
        }
        if guide > 0:
            places = torch.arange(encoded.shape[1], device=encoded.device).expand(len(encoded), -1)
            parts["guide"] = self.guide(attended, batch.centres, places)
        weights = {"text": 1.0, "letters": CTC, "phonemes": PHONEME, "guide": guide}
        parts["all"] = sum(weights[name] * part for name, part in parts.items())
        return parts, middle

    @staticmethod
    def text(decoder: Decoder, written: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        known = targets != IGNORE  # the logits of the padding would be a third of them
        return F.cross_entropy(decoder.logits(written[known]).float(), targets[known], label_smoothing=SMOOTHING)

    def letters(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        scores = logits.float().log_softmax(-1).transpose(0, 1)
        counts = batch.character_counts
        lengths = torch.full_like(counts, len(scores))
        losses = F.ctc_loss(scores, batch.characters, lengths, counts, zero_infinity=True, reduction="none")
        return (losses * (counts > 0)).sum() / counts.sum().clamp(min=1)

    def phonemes(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        known = labels >= 0
        labels = labels[known]
        scores = logits[known].float().masked_fill(self.foreign[labels], -1e4)
        return F.cross_entropy(scores, labels, reduction="sum") / max(1, len(labels))  # a batch may have none

    def guide(self, attended: list[torch.Tensor], centres: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """The negative logarithm of the attention's share near each token, over two heads of each layer. `places`
        `[rows, n]` are the positions that are attended to."""
        near = ((places[:, None] - centres[:, :, None]).abs() <= NEAR).float()[:, None]
        spoken = (centres >= 0)[:, None]
        heads = [weights[:, :2] for weights in attended]
        share = torch.stack([((weights * near).sum(-1) + 1e-4).log() * spoken for weights in heads])
        return -share.sum() / (spoken.sum().clamp(min=1) * share.shape[0] * share.shape[2])


class Run:
    """A training run: model, optimizers, mean of the weights, progress."""

    def __init__(self, work: Work, options: Options) -> None:
        self.work, self.options = work, options
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        self.device = torch.device(options.device)
        self.bf16 = options.precision == "bf16" or (options.precision == "auto" and fast_bf16(self.device))
        self.tokenizer, self.ids = tokens.load(work)
        self.phonemes = phoneme_numbers(work)
        self.model = Whisper(options.shape).to(self.device)
        self.injection = Injection(self.model).to(self.device)
        self.logmel = LogMel().to(self.device)
        matrices = [p for n, p in self.model.named_parameters() if is_matrix(n, p) and p.requires_grad]
        others = [p for n, p in self.model.named_parameters() if not is_matrix(n, p) and p.requires_grad]
        scale = math.sqrt(options.batch_seconds / 64)
        self.rates = [ADAM_RATE * scale, MUON_RATE * scale]
        self.optimizers = [
            torch.optim.AdamW(others, lr=self.rates[0], betas=(0.9, 0.98), weight_decay=0.01),
            Muon(matrices, self.rates[1], torch.bfloat16 if self.bf16 else torch.float32),
        ]
        self.progress = Progress()
        self.mean = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
        self.losses = Losses(self.phonemes, self.device)

    @property
    def checkpoint(self) -> Path:
        return self.work.run / ("cooldown.pt" if self.options.cooldown else "trunk.pt")

    def resume(self) -> None:
        """Takes up the checkpoint. A cooldown without one, or whose trunk has gone on since, branches off the trunk."""
        path, trunk = self.checkpoint, self.work.run / "trunk.pt"
        states = {p: torch.load(p, map_location=self.device, weights_only=True) for p in {path, trunk} if p.exists()}
        if self.options.cooldown and trunk in states:
            branched = states[path]["progress"]["branch_seconds"] if path in states else -1.0
            if states[trunk]["progress"]["audio_seconds"] > branched:
                path = trunk
        if path not in states:
            print("train: from nothing", flush=True)
            return
        state = states[path]
        saved, wanted = Shape(**state["shape"]), self.options.shape
        deeper = saved.decoder_layers < wanted.decoder_layers
        if saved != replace(wanted, decoder_layers=saved.decoder_layers) or saved.decoder_layers > wanted.decoder_layers:
            raise SystemExit(
                f"error: {path} has the shape {state['shape']}; give the same or a deeper decoder, or another work folder"
            )
        self.model.load_state_dict(state["model"], strict=not deeper)
        self.model.decoder.pass_through(saved.decoder_layers)
        self.mean = {n: state["mean"].get(n, p.detach().clone()) for n, p in self.model.named_parameters()}
        if "injection" in state:
            self.injection.load_state_dict(state["injection"])
        if state["optimizers"] and not deeper:
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        else:  # from kept weights, or with new layers: the rate rises from nothing, so that the optimizers find their feet
            state["progress"]["warmed"] = state["progress"]["step"]
        self.progress = Progress(**state["progress"])
        if path != self.checkpoint:
            self.progress.branch_seconds = self.progress.audio_seconds
        print(f"train: from {path.name}: step {self.progress.step}, {self.progress.audio_seconds / 3600:.1f} h", flush=True)

    def save(self) -> None:
        """Replaces the checkpoint in one step: an interruption leaves the old one."""
        state = {
            "shape": asdict(self.options.shape),
            "model": self.model.state_dict(),
            "mean": self.mean,
            "injection": self.injection.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": asdict(self.progress),
        }
        unfinished = self.checkpoint.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(self.checkpoint)

    @property
    def goal(self) -> float:
        """Seconds of audio at which the run ends."""
        return self.progress.branch_seconds * self.options.cooldown + self.options.hours * 3600

    def rate(self) -> float:
        """The share of the peak rate at this step."""
        warm = min(1.0, (self.progress.step - self.progress.warmed + 1) / WARMUP)
        if self.options.cooldown:
            return warm * max(0.0, (self.goal - self.progress.audio_seconds) / (self.options.hours * 3600))
        return warm

    def precision(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def features(self, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        hours = self.progress.audio_seconds / 3600
        augment = Augment(generator, min(1.0, MILD + (1 - MILD) * hours / HARSH_AFTER))
        return augment.mask(augment.voice(self.logmel(augment(batch.samples))))

    def read(self, reading: Reading, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """The decoder's loss on what is read, and the guide's."""
        middle = self.injection.draw(reading.phonemes, reading.positions, generator)
        if self.bf16:
            middle = middle.bfloat16()
        written, attended = self.model.decoder(reading.inputs, self.model.encoder.upper(middle))
        guide = self.losses.guide(attended, reading.centres, reading.positions)
        return self.losses.text(self.model.decoder, written, reading.targets), guide

    def take_step(self, batch: Batch, reading: Reading | None) -> dict[str, torch.Tensor]:
        progress = self.progress
        hours = progress.audio_seconds / 3600
        guide = GUIDE * min(1.0, max(0.0, (GUIDE_GONE - hours) / (GUIDE_GONE - GUIDED_FOR)))
        generator = torch.Generator(self.device).manual_seed(self.options.seed * 1_000_003 + progress.step)
        batch = batch.to(self.device)
        with torch.no_grad():
            mel = self.features(batch, generator)
        with self.precision():
            parts, middle = self.losses(self.model, mel, batch, guide)
        parts["all"].backward()
        self.injection.observe(middle, batch.phonemes)
        if reading is not None and hours >= READ_AFTER:
            with self.precision():
                parts["read"], parts["read_guide"] = self.read(reading.to(self.device), generator)
            (parts["read"] + GUIDE * parts["read_guide"]).backward()
            progress.read_seconds += self.options.read_seconds
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        for optimizer, peak in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * self.rate()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.audio_seconds += batch.samples.numel() / SAMPLE_RATE
        if progress.step % MEAN_EVERY == 0:
            share = max(COOLDOWN_SHARE if self.options.cooldown else MEAN_SHARE, 1 / (1 + progress.step / MEAN_EVERY))
            for name, parameter in self.model.named_parameters():
                self.mean[name].lerp_(parameter.detach(), share)
        return {name: part.detach() for name, part in parts.items()}

    def use_mean(self) -> dict[str, torch.Tensor]:
        """Puts the mean of the weights into the model, and returns those that were there."""
        present = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
        self.model.load_state_dict(self.mean, strict=False)
        return present

    def dev(self) -> dict[str, float]:
        """Word error rates on the dev clips, with the weights' mean."""
        present = self.use_mean()
        rates = {}
        for path in shards.finished(self.work.speech / "dev"):
            shard = shards.read(path)
            pairs = []
            for first in range(0, min(DEV_CLIPS, len(shard.rows)), 25):
                clips = [shard.utterance(index) for index in range(first, min(first + 25, DEV_CLIPS, len(shard.rows)))]
                samples = np.zeros((len(clips), round(WINDOW * SAMPLE_RATE)), np.float32)
                for row, clip in zip(samples, clips, strict=True):
                    row[: len(clip.samples)] = clip.samples.astype(np.float32) / 32768
                with self.precision():
                    heard = decoding.greedy(self.model, self.logmel(torch.from_numpy(samples).to(self.device)), self.ids)
                pairs += [(c.text, self.tokenizer.decode(h)) for c, h in zip(clips, heard, strict=True)]
            rates[path.name] = errors.word_error_rate(pairs)
            said, got = pairs[0]
            print(f"train: dev: {path.name}: WER {rates[path.name]:.1%} | {said} |{got}", flush=True)
        self.model.load_state_dict(present, strict=False)
        return rates

    def note(self, **figures: float) -> None:
        """Adds a line to the run's log."""
        with (self.work.run / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({**asdict(self.progress), **figures}) + "\n")


class Stop:
    """True once the process has been asked to end, by SIGTERM or Ctrl-C: the step under way is finished and saved."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.ask)

    def ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def __bool__(self) -> bool:
        return self.asked


def check(losses: dict[str, torch.Tensor], step: int) -> None:
    """Ends the run, before anything is saved, if a loss is no number."""
    bad = {name: float(value) for name, value in losses.items() if not math.isfinite(value)}
    if bad:
        raise SystemExit(f"error: a loss is no number at step {step}: {bad}")


def leave_group(worker: int) -> None:
    """A worker in a process group of its own is not hit by what is meant to stop the run: the run ends it, when it has
    saved."""
    os.setsid()


def train(work: Work, options: Options) -> None:
    """Runs until so many hours of audio have been processed."""
    for folder, needed in (("train", True), ("read", options.read_seconds > 0)):
        if needed and not shards.finished(work.speech / folder):
            raise SystemExit(f"error: there is nothing in speech/{folder} yet: run the step `speech` first")
    run = Run(work, options)
    run.resume()
    windows = Windows(work, run.tokenizer, run.ids, run.phonemes, options.seed)
    stream = Stream(windows, run.progress.step, options.batch_seconds, options.read_seconds)
    loader = torch.utils.data.DataLoader(
        stream, batch_size=None, num_workers=options.workers, prefetch_factor=4, worker_init_fn=leave_group
    )
    progress, sums, saved, checked, begun = run.progress, {}, time.time(), time.time(), time.time()
    earlier, first_audio, waited = progress.training_seconds, progress.audio_seconds, 0.0
    batches, summed, stopped = iter(loader), 0, Stop()
    print(f"train: in {'bf16' if run.bf16 else 'fp32'} on {options.device}", flush=True)
    while progress.audio_seconds < run.goal and not stopped:
        asked = time.time()
        batch, reading = next(batches)
        waited += time.time() - asked
        for name, part in run.take_step(batch, reading).items():
            sums[name] = sums.get(name, 0.0) + part
        summed += 1
        progress.training_seconds = earlier + time.time() - begun
        if progress.step % LOG_STEPS == 0:
            check(sums, progress.step)
            means = {name: float(value) / summed for name, value in sums.items()}
            sums, summed = {}, 0
            speed = (progress.audio_seconds - first_audio) / (time.time() - begun)
            shown = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            print(
                f"train: step {progress.step}, {progress.audio_seconds / 3600:.1f} h, {shown}, {speed:.0f}x real time, "
                f"{waited / (time.time() - begun):.0%} waiting",
                flush=True,
            )
            run.note(**means)
            if time.time() - saved > SAVE_SECONDS:  # only what was found finite
                run.save()
                saved = time.time()
        if time.time() - checked > CHECK_SECONDS:
            run.note(**{f"dev_{name}": rate for name, rate in run.dev().items()})
            checked = time.time()
    check(sums, progress.step)
    run.save()
    if stopped:
        raise SystemExit(f"train: stopped at step {progress.step}; the same command goes on")
    run.note(**{f"dev_{name}": rate for name, rate in run.dev().items()})
