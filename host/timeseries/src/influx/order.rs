//! Quantiles of two sets of numbers, of which one is sorted elsewhere and only read where it matters.

/// A quantile of the numbers of the server and those of the spool.
pub(super) struct Ranks {
    /// Rank of the quantile in both sets together, from 0.
    rank: f64,
    local: Vec<f64>,
    offset: u64,
    limit: u64,
}

impl Ranks {
    /// `server` is the number of numbers of the server.
    pub fn new(share: f64, server: u64, local: Vec<f64>) -> Self {
        let all = server + local.len() as u64;
        let rank = share * all.saturating_sub(1) as f64;
        // Numbers of the spool shift the ranks of the server's at most by their number.
        let offset = (rank as u64).saturating_sub(local.len() as u64);
        let end = (rank as u64 + 2).min(server);
        Self {
            rank,
            local,
            offset,
            limit: end.saturating_sub(offset),
        }
    }

    /// The ranks that are needed of the server's numbers alone: the first, and how many.
    pub fn wanted(&self) -> (u64, u64) {
        (self.offset, self.limit)
    }

    /// The quantile, linearly interpolated, from the numbers at the [wanted](Self::wanted) ranks.
    pub fn quantile(self, fetched: Vec<f64>) -> Option<f64> {
        let mut numbers = self.local;
        numbers.extend(fetched);
        numbers.sort_unstable_by(f64::total_cmp);
        let index = self.rank as u64 - self.offset;
        let at = |index: u64| numbers.get(usize::try_from(index).ok()?).copied();
        let lower = at(index)?;
        match self.rank.fract() {
            0.0 => Some(lower),
            fraction => Some(lower + (at(index + 1)? - lower) * fraction),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ranks;

    /// Compared with the definition, over every way to divide a few numbers.
    #[test]
    fn any_division_of_the_numbers_has_the_same_quantiles() {
        let numbers = [0.5, 1.0, 1.0, 2.5, 4.0, 8.0, 9.5];
        for mask in 0..1_u32 << numbers.len() {
            let (mut local, mut server) = (Vec::new(), Vec::new());
            for (index, number) in numbers.into_iter().enumerate() {
                match mask >> index & 1 {
                    1 => local.push(number),
                    _ => server.push(number),
                }
            }
            for share in [0.0, 0.1, 0.5, 0.75, 0.95, 1.0] {
                let rank = share * (numbers.len() - 1) as f64;
                let (lower, upper) = (numbers[rank as usize], numbers[rank.ceil() as usize]);
                let expected = lower + (upper - lower) * rank.fract();
                let ranks = Ranks::new(share, server.len() as u64, local.clone());
                let (offset, limit) = ranks.wanted();
                let wanted = server.iter().skip(offset as usize).take(limit as usize);
                let wanted = wanted.copied().collect();
                assert_eq!(ranks.quantile(wanted), Some(expected), "{mask:b} {share}");
            }
        }
        assert_eq!(Ranks::new(0.5, 0, Vec::new()).quantile(Vec::new()), None);
    }
}
