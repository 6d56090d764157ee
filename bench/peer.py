"""faster-whisper as a process of its own, so that its memory and threads are its own.

`peer.py FOLDER COMPUTE-TYPE THREADS WORKERS`, as `WhisperModel(FOLDER, compute_type=…, cpu_threads=…, num_workers=…)`. Takes
commands as lines of JSON on standard input and answers each with one on standard output; the first line says that the
model is loaded. `transcribe` and `batched` are what its users call, with its defaults where nothing else is said.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import ctranslate2
import numpy
from faster_whisper import BatchedInferencePipeline, WhisperModel


class Peer:
    def __init__(self, folder: str, compute_type: str, threads: int, workers: int):
        self.model = WhisperModel(folder, device="cpu", compute_type=compute_type, cpu_threads=threads, num_workers=workers)
        self.batched_pipeline = BatchedInferencePipeline(self.model)

    def transcribe(self, files: list[str], at_once: int, **options) -> dict:
        """Files by a pool of threads, which is how its users serve several."""
        begun = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            heard = list(pool.map(lambda file: gathered(self.model.transcribe, file, options), files))
        return {"heard": heard, "seconds": time.perf_counter() - begun}

    def batched(self, file: str, **options) -> dict:
        return gathered(self.batched_pipeline.transcribe, file, options)

    def parts(self, prompt: list[int], rows: int, beam_size: int, few_tokens: int) -> dict:
        """Seconds of the encoder and of the decoder for one batch of random frames; and of the decoder when it is stopped
        after a few tokens."""
        model = self.model.model
        frames = numpy.random.default_rng(0).standard_normal((rows, model.n_mels, 3000)).astype(numpy.float32) * 0.3
        features = ctranslate2.StorageView.from_array(frames)
        begun = time.perf_counter()
        encoded = model.encode(features)
        seconds = {"encoder": time.perf_counter() - begun}
        # It says half of the maximum at most.
        for name, most in (("few", 2 * few_tokens), ("decoder", self.model.max_length)):
            begun = time.perf_counter()
            results = model.generate(encoded, [prompt] * rows, beam_size=beam_size, max_length=most)
            seconds[name] = time.perf_counter() - begun
        return {**seconds, "tokens": len(results[0].sequences_ids[0])}


def gathered(transcribe, file: str, options: dict) -> dict:
    """One file's text, its segments, and the seconds it took: the segments come as they are asked for."""
    begun = time.perf_counter()
    found, info = transcribe(file, **options)
    segments = [{"start": segment.start, "end": segment.end, "text": segment.text} for segment in found]
    return {
        "text": "".join(segment["text"] for segment in segments).strip(),
        "segments": segments,
        "language": info.language,
        "seconds": time.perf_counter() - begun,
    }


def main() -> None:
    folder, compute_type, threads, workers = sys.argv[1:]
    # The fallback to higher temperatures draws: the same way in each run.
    ctranslate2.set_random_seed(0)
    peer = Peer(folder, compute_type, int(threads), int(workers))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(getattr(peer, command.pop("do"))(**command)), flush=True)


if __name__ == "__main__":
    main()
