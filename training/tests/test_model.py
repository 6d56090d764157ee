"""The model against Hugging Face's, and its graphs against itself."""

import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import onnxruntime
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from whisper_maker import decoding, export, shards
from whisper_maker.augment import Augment
from whisper_maker.injection import BLURRED, NOISE, Injection
from whisper_maker.layout import Work
from whisper_maker.logmel import LogMel
from whisper_maker.merge import merge
from whisper_maker.model import Shape, Whisper
from whisper_maker.muon import orthogonal
from whisper_maker.tokens import CONTEXT, Specials
from whisper_maker.voices import Pronunciation
from whisper_maker.windows import Library, Windows, middles_of_runs

SHAPE = Shape(width=128, encoder_layers=2, decoder_layers=2, vocabulary=100)
IDS = Specials(end=50, start=51, english=52, transcribe=53, previous=54, no_speech=55, no_timestamps=56, first_timestamp=57)


def model() -> Whisper:
    torch.manual_seed(0)
    return Whisper(SHAPE).eval()


class Features(unittest.TestCase):
    def test_log_mel_is_whispers(self) -> None:
        samples = np.random.default_rng(0).standard_normal(160_000).astype(np.float32)
        theirs = WhisperFeatureExtractor(chunk_length=10)(samples, sampling_rate=16_000, return_tensors="np")
        ours = LogMel()(torch.from_numpy(samples)[None]).numpy()
        np.testing.assert_allclose(ours, theirs["input_features"], atol=1e-4)

    def test_augmentation_is_a_function_of_the_seed(self) -> None:
        samples = torch.randn(4, 32_000)
        one, other, third = (Augment(torch.Generator().manual_seed(seed))(samples) for seed in (1, 1, 2))
        self.assertTrue(torch.equal(one, other))
        self.assertFalse(torch.equal(one, third))
        self.assertTrue(bool(one.isfinite().all()))

    def test_other_voices_are_drawn_as_often_as_its_strength_says(self) -> None:
        mel = torch.randn(200, 80, 50)
        same = torch.equal(Augment(torch.Generator().manual_seed(1), 0.0).voice(mel), mel)
        self.assertTrue(same)
        changed = (Augment(torch.Generator().manual_seed(1)).voice(mel) != mel).flatten(1).any(1)
        self.assertAlmostEqual(changed.float().mean().item(), 1 - 0.3 * 0.75, delta=0.1)

    def test_a_scale_of_the_mel_axis_moves_a_tone(self) -> None:
        tone = torch.zeros(200, 80, 50)
        tone[:, 40] = 1
        peaks = Augment(torch.Generator().manual_seed(1)).voice(tone)[:, :, 25].argmax(1)
        self.assertGreaterEqual(peaks.min().item(), 35)  # 40 / 1.12 = 35.7
        self.assertLessEqual(peaks.max().item(), 46)  # 40 / 0.88 = 45.5
        self.assertGreater(peaks.max().item() - peaks.min().item(), 8)

    def test_the_scale_differs_between_the_ends_of_the_mel_axis(self) -> None:
        def scales(place: int) -> torch.Tensor:
            tone = torch.zeros(200, 80, 50)
            tone[:, place] = 1
            return Augment(torch.Generator().manual_seed(1)).voice(tone)[:, :, 25].argmax(1) / place

        slopes = scales(60) - scales(20)
        self.assertLess(slopes.min().item(), -0.04)
        self.assertGreater(slopes.max().item(), 0.04)


class Architecture(unittest.TestCase):
    @torch.no_grad()
    def test_logits_are_those_of_hugging_faces_whisper(self) -> None:
        ours = model()
        config = WhisperConfig(
            vocab_size=100,
            num_mel_bins=80,
            d_model=128,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=512,
            decoder_ffn_dim=512,
            max_source_positions=500,
            max_target_positions=CONTEXT,
            dropout=0.0,
            pad_token_id=50,
            bos_token_id=50,
            eos_token_id=50,
            decoder_start_token_id=51,
        )
        theirs = WhisperForConditionalGeneration(config).eval()
        weights = {name: value for name, value in ours.state_dict().items() if name.startswith("model.")}
        theirs.load_state_dict(weights | {"proj_out.weight": weights["model.decoder.embed_tokens.weight"]})
        mel, tokens = torch.randn(2, 80, 1000), torch.randint(0, 100, (2, 7))
        encoded, _ = ours.encoder(mel)
        written, attended = ours.decoder(tokens, encoded)
        logits = ours.decoder.logits(written)
        torch.testing.assert_close(logits, theirs(mel, decoder_input_ids=tokens).logits, atol=1e-3, rtol=1e-3)
        self.assertEqual(attended[0].shape, (2, 2, 7, 500))

    @torch.no_grad()
    def test_a_deeper_decoder_begins_as_the_one_it_is_made_of(self) -> None:
        shallow, deep = model(), Whisper(replace(SHAPE, decoder_layers=3)).eval()
        deep.load_state_dict(shallow.state_dict(), strict=False)
        deep.decoder.pass_through(SHAPE.decoder_layers)
        encoded, tokens = torch.randn(2, 50, 128), torch.randint(0, 100, (2, 7))
        torch.testing.assert_close(deep.decoder(tokens, encoded)[0], shallow.decoder(tokens, encoded)[0])

    def test_muon_makes_singular_values_one_about(self) -> None:
        values = torch.linalg.svdvals(orthogonal(torch.randn(3, 32, 64)))
        self.assertTrue(bool(((values > 0.5) & (values < 1.5)).all()))


class Text(unittest.TestCase):
    @torch.no_grad()
    def setUp(self) -> None:
        """An injection that has heard three phonemes and silence, each with its number as the mean of all dimensions."""
        whisper = model()
        self.injection = Injection(whisper)
        places = 3 * whisper.encoder.embed_positions.weight
        self.g = torch.Generator().manual_seed(1)
        self.labels = torch.randint(-1, 3, (20, 500), generator=self.g)
        heard = torch.randn(20, 500, 128, generator=self.g) * 0.5 + self.labels[:, :, None] + places
        for _ in range(3):
            self.injection.observe(heard, self.labels)
        drawn = self.injection.draw(self.labels, torch.arange(500).repeat(20, 1), self.g)
        self.off = drawn - self.labels[:, :, None] - places

    def test_what_is_injected_has_the_mean_and_spread_of_what_was_heard(self) -> None:
        clear = self.off[self.off.mean(-1).abs() < 0.1]
        self.assertLess(clear.mean().abs().item(), 0.01)
        self.assertAlmostEqual(clear.std().item(), NOISE * 0.5, delta=0.05)  # the means of the places are noisy, too

    def test_some_phonemes_are_blurred_with_the_nearest_one_and_silence_never(self) -> None:
        off = self.off.mean(-1)
        share = (off[self.labels >= 0].abs() > 0.1).float().mean().item()
        self.assertAlmostEqual(share, BLURRED / 2, delta=0.03)  # each row's own is drawn up to it
        self.assertLess(off[self.labels < 0].abs().max().item(), 0.1)
        self.assertGreater(off[self.labels == 0].min().item(), -0.1)  # the nearest of 0 and 2 is 1
        self.assertLess(off[self.labels == 2].max().item(), 0.1)
        self.assertLess(off[self.labels == 1].abs().max().item(), 0.95)  # and never quite the other one

    def test_what_is_read_has_its_engines_phonemes_in_order(self) -> None:
        numbers = {"espeak:h": 0, "espeak:aI": 1, "espeak:_:": 2, "flite:hh": 3, "flite:ay": 4}
        with tempfile.TemporaryDirectory() as name:
            work = Work(Path(name))
            pronounced = [
                Pronunciation("Hi.", "espeak", ["h", "aI", "_:"]),
                Pronunciation("Hi.", "flite", ["hh", "ay", "?"]),
            ]
            shards.write_pronunciations(work.speech / "read" / "00000", pronounced)
            library = Library(work, numbers)
        spoken = library.draw(Random(1), "espeak")
        self.assertEqual((spoken.text, spoken.labels.tolist()), ("Hi.", [0, 1, 2]))
        self.assertEqual(spoken.audible.tolist(), [True, True, False])
        self.assertTrue(0 == spoken.times[0] < spoken.times[1] < spoken.times[2] < spoken.seconds)
        unknown = library.draw(Random(1), "flite")
        self.assertEqual((unknown.labels.tolist(), unknown.audible.tolist()), ([3, 4, -100], [True, True, False]))

    def test_each_stretch_of_one_phoneme_is_read_once(self) -> None:
        labels = np.array([-100, -100, -100, 7, 7, 3, -100])
        self.assertEqual(middles_of_runs(labels).tolist(), [1, 3, 5, 6])
        self.assertEqual(Windows.filled(Random(1), np.array([1, 3]), 5, 2).tolist(), [1, 3])
        filled = Windows.filled(Random(1), np.array([1, 3]), 5, 4).tolist()
        self.assertEqual(len(set(filled)), 4)
        self.assertTrue({1, 3} <= set(filled))
        self.assertEqual(filled, sorted(filled))


class Graphs(unittest.TestCase):
    @torch.no_grad()
    def test_the_merged_decoder_writes_what_the_model_writes(self) -> None:
        whisper = model()
        mel = torch.randn(1, 80, 1000)
        wanted = decoding.greedy(whisper, mel, IDS)[0]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            export.write_graphs(whisper, folder)
            merge(folder / "decoder_model.onnx", folder / "decoder_with_past_model.onnx", folder / "merged.onnx")
            encoder = onnxruntime.InferenceSession(folder / "encoder_model.onnx")
            decoder = onnxruntime.InferenceSession(folder / "merged.onnx")
        encoded = encoder.run(None, {"input_features": mel.numpy()})[0]
        outputs = [value.name for value in decoder.get_outputs()]
        past = {n.replace("present", "past_key_values"): np.zeros((1, 2, 0, 64), np.float32) for n in outputs[1:]}
        new, written, cached = [IDS.start, IDS.english, IDS.transcribe, IDS.no_timestamps], [], False
        while len(written) < decoding.LONGEST:
            given = {"input_ids": np.array([new]), "encoder_hidden_states": encoded, "use_cache_branch": np.array([cached])}
            answer = dict(zip(outputs, decoder.run(None, given | past), strict=True))
            past = {name.replace("present", "past_key_values"): value for name, value in answer.items() if name != "logits"}
            new, cached = [int(answer["logits"][0, -1, : IDS.end + 1].argmax())], True
            if new[0] == IDS.end:
                break
            written += new
        self.assertEqual(written, wanted)


if __name__ == "__main__":
    unittest.main()
