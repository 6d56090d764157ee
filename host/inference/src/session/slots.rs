//! The slots of each row's tokens, for a decoder that keeps the keys and values of the text in its operators.

/// The slots of all rows, which have the same number of tokens. Rows that continue the same text share its slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Slots of each row's tokens, in order.
    rows: Vec<Vec<i64>>,
    /// Slots that no row uses any more, the lowest last.
    free: Vec<i64>,
    /// Number of slots allocated so far.
    allocated: i64,
    /// Number of the decoder's batch that these belong to.
    pub batch: u64,
}

impl Slots {
    /// Creates rows without tokens.
    pub fn new(rows: usize, batch: u64) -> Self {
        Self {
            rows: vec![Vec::new(); rows],
            batch,
            ..Self::default()
        }
    }

    /// Returns the number of tokens of each row.
    pub fn length(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    /// Continues with these rows, in this order; rows may be repeated or left out.
    pub fn select(&mut self, rows: &[usize]) {
        self.rows = rows.iter().map(|&row| self.rows[row].clone()).collect();
        let mut used = vec![false; self.allocated as usize];
        for &slot in self.rows.iter().flatten() {
            used[slot as usize] = true;
        }
        let free = (0..self.allocated).rev();
        self.free = free.filter(|&slot| !used[slot as usize]).collect();
    }

    /// Allocates slots for `tokens` more tokens of each row. Returns the slots of all tokens, row by row.
    pub fn grow(&mut self, tokens: usize) -> Vec<i64> {
        for row in &mut self.rows {
            for _ in 0..tokens {
                row.push(self.free.pop().unwrap_or_else(|| {
                    self.allocated += 1;
                    self.allocated - 1
                }));
            }
        }
        self.rows.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    #[test]
    fn rows_share_the_slots_of_their_text_and_free_slots_are_reused() {
        let mut slots = Slots::new(2, 0);
        assert_eq!(slots.grow(2), [0, 1, 2, 3]);
        slots.select(&[0, 0, 1]);
        assert_eq!(slots.grow(1), [0, 1, 4, 0, 1, 5, 2, 3, 6]);
        assert_eq!(slots.length(), 3);
        // The second hypothesis of the first row and the other row end: 2, 3, 4 and 6 are free.
        slots.select(&[1, 1]);
        assert_eq!(slots.grow(1), [0, 1, 5, 2, 0, 1, 5, 3]);
        assert_eq!(slots.grow(2), [0, 1, 5, 2, 4, 6, 0, 1, 5, 3, 7, 8]);
    }
}
