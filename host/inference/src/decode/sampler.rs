//! Selects tokens from logits.

use rand::Rng;
use rand::rngs::StdRng;

/// Computes `ln(sum(exp(x)))` stably; negative infinity if all logits are.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if largest == f32::NEG_INFINITY {
        return largest;
    }
    largest + logits.iter().map(|x| (x - largest).exp()).sum::<f32>().ln()
}

/// Returns the probability of `token` under the softmax of `logits`.
pub(crate) fn probability(logits: &[f32], token: u32) -> f32 {
    logits
        .get(token as usize)
        .map_or(0.0, |logit| (logit - log_sum_exp(logits)).exp())
}

/// Returns the likeliest token; of equal ones, the first.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// Returns up to `count` tokens, the likeliest first; of equal ones, the first. Forbidden tokens are never included.
pub(crate) fn top_k(logits: &[f32], count: usize) -> Vec<u32> {
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    let mut least = f32::NEG_INFINITY;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > least {
            let place = top.partition_point(|&(_, other)| other >= logit);
            top.insert(place, (token as u32, logit));
            top.truncate(count);
            if top.len() == count {
                least = top[count - 1].1;
            }
        }
    }
    top.into_iter().map(|(token, _)| token).collect()
}

/// Samples a token from the softmax of `logits / temperature`.
pub(crate) fn sample(logits: &[f32], temperature: f32, rng: &mut StdRng) -> u32 {
    let best = argmax(logits);
    let largest = logits[best as usize];
    let weight = |logit: f32| ((logit - largest) / temperature).exp();
    let total: f32 = logits.iter().map(|&logit| weight(logit)).sum();
    let mut rest = rng.random::<f32>() * total;
    for (token, &logit) in logits.iter().enumerate() {
        rest -= weight(logit);
        if rest < 0.0 {
            return token as u32;
        }
    }
    // Rounding can leave a remainder after the last token.
    best
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_top_tokens_are_in_order_and_none_is_forbidden() {
        let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY, 0.0, 1.0];
        assert_eq!(top_k(&logits, 3), [4, 1, 0]);
        assert_eq!(top_k(&logits, 9), [4, 1, 0, 3]);
    }

    #[test]
    fn sampling_follows_the_tempered_probabilities_and_never_takes_a_forbidden_token() {
        let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY];
        let mut rng = StdRng::seed_from_u64(1);
        let mut counts = [0; 3];
        for _ in 0..3000 {
            counts[sample(&logits, 0.5, &mut rng) as usize] += 1;
        }
        // At temperature 0.5 the odds of 1 to 2 become 1 to 4.
        assert!((500..700).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn the_same_seed_samples_the_same_tokens() {
        let logits = [0.1, 0.2, 0.3, 0.4];
        let sampled = |seed| -> Vec<u32> {
            let mut rng = StdRng::seed_from_u64(seed);
            (0..20).map(|_| sample(&logits, 1.0, &mut rng)).collect()
        };
        assert_eq!(sampled(7), sampled(7));
    }
}
