//! Data passed from the encoder to the decoder, and from step to step.

use half::f16;
use ort::value::DynValue;

use super::slots::Slots;
use crate::Error;

/// The encoder's output for a batch, in the memory from which the decoder reads it: states, `[batch, positions, width]`, or the keys
/// and values that every decoder layer derives from them, `[batch, heads, positions, head_dim]` each, or packed.
pub(crate) struct States {
    pub(in crate::session) values: Vec<DynValue>,
    /// The window of each row of the tensors, in ascending order.
    pub(in crate::session) windows: Vec<usize>,
}

/// The decoder's state for one batch from step to step.
pub(crate) struct Cache<'a> {
    pub(in crate::session) states: &'a mut States,
    /// A row of states for each row of the cache, if the graph needs it and rows have been selected.
    pub(in crate::session) selected: Option<DynValue>,
    /// The window of each row.
    pub(in crate::session) windows: Vec<usize>,
    /// Keys and values, `[rows, heads, tokens, head_dim]` each, if they are inputs and outputs of the graph.
    pub(in crate::session) tensors: Vec<DynValue>,
    /// Their slots, if the graph keeps them.
    pub(in crate::session) slots: Slots,
    /// Reads of windows that were no longer needed, since the last compaction.
    pub(in crate::session) idle: usize,
}

/// Logits of one step, for every row at some positions, in host memory.
pub(crate) struct Logits {
    pub(in crate::session) value: DynValue,
    pub(in crate::session) positions: Vec<usize>,
}

impl States {
    pub(in crate::session) fn new(values: Vec<DynValue>, batch: usize) -> Self {
        Self {
            values,
            windows: (0..batch).collect(),
        }
    }

    /// Returns the number of windows.
    pub fn batch(&self) -> usize {
        self.windows.len()
    }

    /// Removes all but these windows. `take` returns rows of a tensor.
    pub(in crate::session) fn retain(
        &mut self,
        windows: &[usize],
        mut take: impl FnMut(&DynValue, &[usize]) -> ort::Result<DynValue>,
    ) -> Result<(), Error> {
        let rows: Vec<usize> = (0..self.windows.len())
            .filter(|&row| windows.contains(&self.windows[row]))
            .collect();
        if rows.len() != windows.len() {
            return Err(Error::Internal(
                "the states of a window have been removed".into(),
            ));
        }
        if rows.len() < self.windows.len() {
            // One by one, so that only one of these large tensors is in memory twice at a time.
            for value in &mut self.values {
                *value = take(value, &rows)?;
            }
            self.windows = rows.iter().map(|&row| self.windows[row]).collect();
        }
        Ok(())
    }
}

impl Logits {
    /// `value` is `[rows * positions, vocabulary]`, possibly with the first dimension split.
    pub(in crate::session) fn new(value: DynValue, positions: Vec<usize>) -> Self {
        Self { value, positions }
    }

    /// Copies the logits of `row` at `position` to `out`, as f32.
    pub fn read(&self, row: usize, position: usize, out: &mut Vec<f32>) -> Result<(), Error> {
        out.clear();
        if let Ok((shape, data)) = self.value.try_extract_tensor::<f32>() {
            out.extend_from_slice(&data[self.place(shape, row, position)?]);
        } else {
            let (shape, data) = self.value.try_extract_tensor::<f16>()?;
            let place = self.place(shape, row, position)?;
            out.extend(data[place].iter().map(|value| value.to_f32()));
        }
        Ok(())
    }

    fn place(
        &self,
        shape: &[i64],
        row: usize,
        position: usize,
    ) -> Result<std::ops::Range<usize>, Error> {
        let vocabulary = shape.last().map_or(0, |&size| size as usize);
        let count: i64 = shape.iter().product();
        let missing = || {
            Error::Internal(format!(
                "the logits have the shape {shape:?}, without row {row} at position {position}"
            ))
        };
        let index = self
            .positions
            .iter()
            .position(|&other| other == position)
            .ok_or_else(missing)?;
        let start = (row * self.positions.len() + index) * vocabulary;
        if start + vocabulary > count as usize {
            return Err(missing());
        }
        Ok(start..start + vocabulary)
    }
}
