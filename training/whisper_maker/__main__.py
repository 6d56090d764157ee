"""The command line: one step, or all of them in order. `python -m whisper_maker --help` lists them."""

import argparse
import os
from pathlib import Path

# Before anything loads OpenMP: threads that wait for each other spin for some microseconds before they sleep. Without it a
# step takes a quarter longer, and if they spin for long, all other work on the machine does.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

from . import card, evaluation, export, keeping, speech, text, tokens, training
from .layout import TRAINING, Work
from .model import Shape


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="whisper_maker", description="Make the bundled model. Each step resumes.")
    parser.add_argument("--work", type=Path, default=TRAINING / "work", help="folder of everything made on the way")
    parser.add_argument("--seed", type=int, default=1, help="of all randomness (default: %(default)s)")
    steps = parser.add_subparsers(dest="step", required=True)

    collect = steps.add_parser("text", help="collect the sentences")
    collect.add_argument(
        "--no-read", action="store_true", help="without those that are only read: enough to measure a model"
    )
    say = steps.add_parser("speech", help="speak them")
    say.add_argument(
        "--hours",
        type=float,
        default=16.0,
        help="of it for training; with 0 only dev and test (default: %(default)s)",
    )

    train = steps.add_parser("train", help="train the model")
    train.add_argument("--hours", type=float, default=400.0, help="of audio to process in all (default: %(default)s)")
    train.add_argument("--cooldown", action="store_true", help="branch off, and lower the rate to nothing over --hours")
    train.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    train.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto", help="bf16 where that is fast")
    train.add_argument("--threads", type=int, default=2, help="on the CPU (default: %(default)s)")
    train.add_argument(
        "--workers", type=int, default=1, help="processes that lay out windows, at least 1 (default: %(default)s)"
    )
    train.add_argument("--batch-seconds", type=float, default=64.0, help="of audio in a step (default: %(default)s)")
    train.add_argument("--read-seconds", type=float, default=512.0, help="of text in a step (default: %(default)s)")
    train.add_argument("--width", type=int, default=192, help="a multiple of 64 (default: %(default)s)")
    train.add_argument("--encoder-layers", type=int, default=4)
    train.add_argument("--decoder-layers", type=int, default=4, help="can be raised later (default: %(default)s)")

    write = steps.add_parser("export", help="write the model's folder")
    write.add_argument("--checkpoint", type=Path, help="(default: the cooldown if there is one, else the trunk)")

    judge = steps.add_parser("evaluate", help="measure a model's folder through the host")
    judge.add_argument("--model", type=Path, help="(default: the one exported)")
    judge.add_argument("--clips", type=int, help="of each set at most, for a first look (default: all)")

    steps.add_parser("card", help="write the model card from the evaluation")

    keep = steps.add_parser("keep", help="put the weights, in half precision, into training/checkpoint")
    keep.add_argument("--restore", action="store_true", help="the other way: begin a trunk from the kept weights")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    os.nice(19)  # whatever else runs on this machine comes first
    work = Work(given.work)
    match given.step:
        case "text":
            text.make(work, given.seed, not given.no_read)
        case "speech":
            speech.make_fixed(work, given.seed)
            if given.hours > 0:
                speech.make_read(work, given.seed)
                speech.make_train(work, given.hours, given.seed)
        case "train":
            tokens.make(work)
            vocabulary = tokens.load(work)[0].get_vocab_size()
            shape = Shape(given.width, given.encoder_layers, given.decoder_layers, vocabulary)
            options = training.Options(
                given.hours,
                given.cooldown,
                given.device,
                given.precision,
                given.threads,
                given.batch_seconds,
                given.read_seconds,
                given.workers,
                given.seed,
                shape,
            )
            training.train(work, options)
        case "export":
            export.export(work, given.checkpoint or export.newest(work))
        case "evaluate":
            evaluation.evaluate(work, (given.model or work.model).resolve(), given.clips)
        case "card":
            card.make(work)
        case "keep":
            keeping.restore(work) if given.restore else keeping.keep(work)


if __name__ == "__main__":
    main()
