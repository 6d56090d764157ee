//! One token from logits.

use rand::Rng;
use rand::rngs::StdRng;

/// `ln(sum(exp(x)))`, stable; negative infinity for nothing but negative infinities.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if largest == f32::NEG_INFINITY {
        return largest;
    }
    largest + logits.iter().map(|x| (x - largest).exp()).sum::<f32>().ln()
}

/// Probability of `token` under the softmax of `logits`.
pub(crate) fn probability(logits: &[f32], token: u32) -> f32 {
    logits
        .get(token as usize)
        .map_or(0.0, |logit| (logit - log_sum_exp(logits)).exp())
}

/// The likeliest token; of equal ones, the first.
pub(crate) fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// Choose a token and give its log probability at temperature 1. Temperature 0.0 takes the likeliest; above, a token
/// is drawn from the softmax of `logits / temperature`.
pub(crate) fn choose(logits: &[f32], temperature: f32, rng: &mut StdRng) -> (u32, f32) {
    let token = if temperature > 0.0 {
        draw(logits, temperature, rng)
    } else {
        likeliest(logits)
    };
    (token, logits[token as usize] - log_sum_exp(logits))
}

fn draw(logits: &[f32], temperature: f32, rng: &mut StdRng) -> u32 {
    let best = likeliest(logits);
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
    // Rounding can leave a rest after the last token.
    best
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn greedy_takes_the_likeliest_with_its_log_probability() {
        let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY, 0.0];
        let (token, logprob) = choose(&logits, 0.0, &mut StdRng::seed_from_u64(0));
        assert_eq!(token, 1);
        assert!((logprob - 0.5f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn drawing_follows_the_tempered_probabilities_and_never_takes_a_forbidden_token() {
        let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY];
        let mut rng = StdRng::seed_from_u64(1);
        let mut counts = [0; 3];
        for _ in 0..3000 {
            counts[choose(&logits, 0.5, &mut rng).0 as usize] += 1;
        }
        // At temperature 0.5 the odds of 1 to 2 become 1 to 4.
        assert!((500..700).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let logits = [0.1, 0.2, 0.3, 0.4];
        let drawn = |seed| -> Vec<u32> {
            let mut rng = StdRng::seed_from_u64(seed);
            (0..20).map(|_| choose(&logits, 1.0, &mut rng).0).collect()
        };
        assert_eq!(drawn(7), drawn(7));
    }
}
