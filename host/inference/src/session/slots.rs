//! Where a decoder that keeps the keys and values of its text itself has those of each row's tokens.

/// The slots of all rows, which have as many tokens each. Rows that go on from the same text share its slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Of each row's tokens, in their order.
    rows: Vec<Vec<i64>>,
    /// Slots that no row has any more, the lowest last.
    free: Vec<i64>,
    /// How many slots have ever been taken.
    taken: i64,
    /// Of the decoder's batches, the one these are of.
    pub batch: u64,
}

impl Slots {
    /// Rows without tokens.
    pub fn new(rows: usize, batch: u64) -> Self {
        Self {
            rows: vec![Vec::new(); rows],
            batch,
            ..Self::default()
        }
    }

    /// The tokens of each row.
    pub fn length(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    /// Go on with these rows, in this order; a row may be taken several times, or not at all.
    pub fn select(&mut self, rows: &[usize]) {
        self.rows = rows.iter().map(|&row| self.rows[row].clone()).collect();
        let mut used = vec![false; self.taken as usize];
        for &slot in self.rows.iter().flatten() {
            used[slot as usize] = true;
        }
        let free = (0..self.taken).rev();
        self.free = free.filter(|&slot| !used[slot as usize]).collect();
    }

    /// Take slots for `tokens` more of each row. Gives those of all tokens of all rows, row by row.
    pub fn grow(&mut self, tokens: usize) -> Vec<i64> {
        for row in &mut self.rows {
            for _ in 0..tokens {
                row.push(self.free.pop().unwrap_or_else(|| {
                    self.taken += 1;
                    self.taken - 1
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
    fn rows_share_the_slots_of_their_text_and_slots_of_nobody_are_taken_again() {
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
