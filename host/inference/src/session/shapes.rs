//! Tests with the shape of the largest published models: their width, heads and mel bins, with random weights and fewer layers. As in
//! turbo and the distilled models, the encoder has more layers than the decoder.

use std::collections::HashMap;
use std::path::Path;

use half::f16;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::tests::{divergence, greedy, load_with, logits, tiny};
use crate::model::Precision;

const WIDTH: usize = 1280;
const HEADS: usize = 20;
const MELS: usize = 128;
const POSITIONS: usize = 1500;
const TEXT: usize = 448;
const ENCODER_LAYERS: usize = 2;
const DECODER_LAYERS: usize = 1;
/// That of `tiny.en`, whose tokenizer is used.
const VOCABULARY: usize = 51_864;

/// Tensors with the names of transformers.
struct Tensors {
    rng: StdRng,
    named: HashMap<String, (Vec<usize>, Vec<u8>)>,
}

impl Tensors {
    /// Adds a tensor of random numbers within `spread` of `mean`.
    fn add(&mut self, name: &str, shape: &[usize], mean: f32, spread: f32) {
        let numbers = (0..shape.iter().product()).flat_map(|_| {
            let number = mean + spread * self.rng.random_range(-1.0..1.0f32);
            f16::from_f32(number).to_le_bytes()
        });
        let numbers = numbers.collect();
        self.named
            .insert(name.to_owned(), (shape.to_vec(), numbers));
    }

    fn linear(&mut self, name: &str, rows: usize, columns: usize, bias: bool) {
        let spread = 2.0 / (columns as f32).sqrt();
        self.add(&format!("{name}.weight"), &[rows, columns], 0.0, spread);
        if bias {
            self.add(&format!("{name}.bias"), &[rows], 0.0, 0.1);
        }
    }

    fn norm(&mut self, name: &str) {
        self.add(&format!("{name}.weight"), &[WIDTH], 1.0, 0.5);
        self.add(&format!("{name}.bias"), &[WIDTH], 0.0, 0.1);
    }

    fn attention(&mut self, name: &str) {
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            self.linear(&format!("{name}.{part}"), WIDTH, WIDTH, part != "k_proj");
        }
        self.norm(&format!("{name}_layer_norm"));
    }

    fn layers(&mut self, side: &str, count: usize, attentions: &[&str]) {
        for layer in 0..count {
            let prefix = format!("model.{side}.layers.{layer}");
            for attention in attentions {
                self.attention(&format!("{prefix}.{attention}"));
            }
            self.linear(&format!("{prefix}.fc1"), 4 * WIDTH, WIDTH, true);
            self.linear(&format!("{prefix}.fc2"), WIDTH, 4 * WIDTH, true);
            self.norm(&format!("{prefix}.final_layer_norm"));
        }
        self.norm(&format!("model.{side}.layer_norm"));
    }
}

fn write(folder: &Path) {
    let mut tensors = Tensors {
        rng: StdRng::seed_from_u64(0),
        named: HashMap::new(),
    };
    for (name, channels) in [("conv1", MELS), ("conv2", WIDTH)] {
        let name = format!("model.encoder.{name}");
        let spread = 1.0 / (channels as f32).sqrt();
        tensors.add(
            &format!("{name}.weight"),
            &[WIDTH, channels, 3],
            0.0,
            spread,
        );
        tensors.add(&format!("{name}.bias"), &[WIDTH], 0.0, 0.1);
    }
    for (name, rows) in [
        ("encoder.embed_positions", POSITIONS),
        ("decoder.embed_positions", TEXT),
        ("decoder.embed_tokens", VOCABULARY),
    ] {
        tensors.add(&format!("model.{name}.weight"), &[rows, WIDTH], 0.0, 0.2);
    }
    tensors.layers("encoder", ENCODER_LAYERS, &["self_attn"]);
    tensors.layers("decoder", DECODER_LAYERS, &["self_attn", "encoder_attn"]);
    let views = tensors.named.iter().map(|(name, (shape, bytes))| {
        (
            name,
            TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap(),
        )
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    let config = serde_json::json!({
        "model_type": "whisper",
        "d_model": WIDTH,
        "encoder_layers": ENCODER_LAYERS,
        "decoder_layers": DECODER_LAYERS,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "vocab_size": VOCABULARY,
        "num_mel_bins": MELS,
        "max_source_positions": POSITIONS,
        "max_target_positions": TEXT,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::copy(tiny().join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
}

#[test]
fn the_width_of_large_v3_works_in_fp32_and_int8() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let (mut exact, contents) = load_with(folder.path(), Precision::Fp32, None).unwrap();
    let dimensions = &contents.dimensions;
    assert_eq!(
        (
            dimensions.n_mels,
            dimensions.heads,
            dimensions.head_dim,
            dimensions.layers
        ),
        (MELS, HEADS, 64, DECODER_LAYERS)
    );
    let mut rng = StdRng::seed_from_u64(1);
    let windows: Vec<Vec<f32>> = [3000, 700]
        .map(|frames| {
            (0..frames * MELS)
                .map(|_| rng.random_range(-8.0..0.0))
                .collect()
        })
        .into();
    let tokens = [50_257, 50_362, 11, 220, 1_000, 50_000];
    let expected = logits(&mut exact, &windows[0], &tokens, 3);
    let other = logits(&mut exact, &windows[1], &tokens, 3);
    drop(exact);
    let (mut int8, _) = load_with(folder.path(), Precision::Int8, None).unwrap();
    let found = logits(&mut int8, &windows[0], &tokens, 3);
    for position in 0..tokens.len() {
        let [expected, other, found] = [&expected, &other, &found]
            .map(|logits| &logits[position * VOCABULARY..][..VOCABULARY]);
        let rounding = divergence(expected, found);
        // The divergence between two windows is the scale for comparison.
        let reference = divergence(expected, other);
        assert!(rounding < 0.02 * reference, "{rounding}, {reference}");
    }
    let windows: Vec<&[f32]> = windows.iter().map(Vec::as_slice).collect();
    let together = greedy(&mut int8, &windows, &tokens[..2], 4);
    for (window, together) in windows.iter().zip(together) {
        assert_eq!(greedy(&mut int8, &[window], &tokens[..2], 4), [together]);
    }
}
