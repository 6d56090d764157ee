//! Weight matrices, and the forms in which graphs use them.

use half::f16;

use super::view::{Element, View};

/// Number of columns that share a scale in the block forms.
pub(crate) const BLOCK: usize = 32;

/// A matrix `[rows, columns]`, stacked from the rows of one or more tensors.
#[derive(Clone)]
pub(crate) struct Matrix {
    parts: Vec<Part>,
    pub rows: usize,
    pub columns: usize,
}

#[derive(Clone)]
struct Part {
    view: View,
    /// Divisors of quantised elements: one per row, or one for all.
    scales: Option<Vec<f32>>,
}

/// The form in which a graph uses a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The numbers themselves.
    F32,
    /// The numbers in half precision.
    F16,
    /// `[rows, columns / BLOCK, BLOCK]` bytes: `round(x / scale) + 128`, where the scale maps a block's largest magnitude to
    /// 127. The input of ONNX Runtime's `MatMulNBits` and `GatherBlockQuantized`.
    BlockBytes,
    /// The scales of `BlockBytes`, `[rows, columns / BLOCK]`, f32.
    BlockScales,
    /// `[columns, rows]` signed bytes: `round(x / scale)`, with a scale for each row of the matrix. The input of ONNX Runtime's
    /// `MatMulIntegerToFloat`.
    ColumnBytes,
    /// The scales of `ColumnBytes`, `[rows]`, f32.
    ColumnScales,
}

impl Form {
    /// Returns the type of its elements.
    pub fn element(self) -> Element {
        match self {
            Form::F32 | Form::BlockScales | Form::ColumnScales => Element::F32,
            Form::F16 => Element::F16,
            Form::BlockBytes => Element::U8,
            Form::ColumnBytes => Element::I8,
        }
    }

    /// Returns whether it is quantised. This takes time, so the result is worth caching.
    pub fn is_quantised(self) -> bool {
        !matches!(self, Form::F32 | Form::F16)
    }
}

impl Matrix {
    /// A matrix of one tensor, with its scales if it is quantised.
    pub fn new(view: View, scales: Option<Vec<f32>>) -> Self {
        Self {
            rows: view.shape.first().copied().unwrap_or(1),
            columns: view.columns(),
            parts: vec![Part { view, scales }],
        }
    }

    /// Stacks matrices with the same number of columns.
    pub fn stack(matrices: Vec<Matrix>) -> Self {
        Self {
            rows: matrices.iter().map(|matrix| matrix.rows).sum(),
            columns: matrices.first().map_or(0, |matrix| matrix.columns),
            parts: matrices
                .into_iter()
                .flat_map(|matrix| matrix.parts)
                .collect(),
        }
    }

    /// Returns the rows `range`.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        let (mut parts, mut first) = (Vec::new(), 0);
        for part in &self.parts {
            let rows = part.view.shape.first().copied().unwrap_or(1);
            let (begin, end) = (range.start.max(first), range.end.min(first + rows));
            if begin < end {
                let place = begin - first..end - first;
                let scales = part.scales.as_ref().map(|scales| match scales.len() {
                    1 => scales.clone(),
                    _ => scales[place.clone()].to_vec(),
                });
                let view = part.view.rows(place);
                parts.push(Part { view, scales });
            }
            first += rows;
        }
        Self {
            parts,
            rows: range.len(),
            columns: self.columns,
        }
    }

    /// Returns its shape in `form`.
    pub fn shape(&self, form: Form) -> Vec<usize> {
        match form {
            Form::F32 | Form::F16 => vec![self.rows, self.columns],
            Form::BlockBytes => vec![self.rows, self.columns / BLOCK, BLOCK],
            Form::BlockScales => vec![self.rows, self.columns / BLOCK],
            Form::ColumnBytes => vec![self.columns, self.rows],
            Form::ColumnScales => vec![self.rows],
        }
    }

    /// Returns the mapped tensor, if it already has `form`.
    pub fn mapped(&self, form: Form) -> Option<&View> {
        match (self.parts.as_slice(), form) {
            ([Part { view, scales: None }], Form::F32 | Form::F16)
                if view.element == form.element() =>
            {
                Some(view)
            }
            _ => None,
        }
    }

    /// Writes row `index` as f32.
    fn row(&self, mut index: usize, out: &mut [f32]) {
        for part in &self.parts {
            let rows = part.view.shape.first().copied().unwrap_or(1);
            if index < rows {
                part.view.read(index * self.columns, out);
                if let Some(scales) = &part.scales {
                    let scale = scales.get(index).unwrap_or(&scales[0]);
                    out.iter_mut().for_each(|value| *value /= scale);
                }
                return;
            }
            index -= rows;
        }
    }

    /// Returns its bytes in `form`, little endian. The source's pages are released.
    pub fn fill(&self, form: Form) -> Vec<u8> {
        let bytes = self.filled(form);
        self.parts.iter().for_each(|part| part.view.release());
        bytes
    }

    fn filled(&self, form: Form) -> Vec<u8> {
        match form {
            Form::F32 => self.each_row(4 * self.columns, |row, out| {
                write(out, row, f32::to_le_bytes)
            }),
            Form::F16 => self.each_row(2 * self.columns, |row, out| {
                write(out, row, |x| f16::from_f32(x).to_le_bytes());
            }),
            Form::BlockBytes => self.each_row(self.columns, |row, out| {
                for (block, out) in row.chunks_exact(BLOCK).zip(out.chunks_exact_mut(BLOCK)) {
                    let scale = scale(block);
                    write(out, block, |x| [(quantise(x, scale) + 128) as u8]);
                }
            }),
            Form::BlockScales => self.each_row(4 * (self.columns / BLOCK), |row, out| {
                for (block, out) in row.chunks_exact(BLOCK).zip(out.chunks_exact_mut(4)) {
                    out.copy_from_slice(&scale(block).to_le_bytes());
                }
            }),
            Form::ColumnBytes => {
                let rows = self.each_row(self.columns, |row, out| {
                    let scale = scale(row);
                    write(out, row, |x| [quantise(x, scale) as u8]);
                });
                transpose(&rows, self.rows, self.columns)
            }
            Form::ColumnScales => self.each_row(4, |row, out| {
                out.copy_from_slice(&scale(row).to_le_bytes());
            }),
        }
    }

    /// Returns the bytes that `make` writes for each row, `length` per row. Uses a thread per core.
    fn each_row(&self, length: usize, make: impl Fn(&[f32], &mut [u8]) + Sync) -> Vec<u8> {
        let mut bytes = vec![0; self.rows * length];
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let piece = self.rows.div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            for (index, out) in bytes.chunks_mut((piece * length).max(1)).enumerate() {
                let make = &make;
                scope.spawn(move || {
                    let mut row = vec![0.0; self.columns];
                    for (offset, out) in out.chunks_exact_mut(length).enumerate() {
                        self.row(index * piece + offset, &mut row);
                        make(&row, out);
                    }
                });
            }
        });
        bytes
    }
}

/// Transposes `[rows, columns]` to `[columns, rows]`, in tiles that fit the cache.
fn transpose(bytes: &[u8], rows: usize, columns: usize) -> Vec<u8> {
    const TILE: usize = 64;
    let mut out = vec![0; bytes.len()];
    for row in (0..rows).step_by(TILE) {
        for column in (0..columns).step_by(TILE) {
            for r in row..rows.min(row + TILE) {
                for c in column..columns.min(column + TILE) {
                    out[c * rows + r] = bytes[r * columns + c];
                }
            }
        }
    }
    out
}

fn write<const N: usize>(bytes: &mut [u8], values: &[f32], convert: impl Fn(f32) -> [u8; N]) {
    let (elements, _) = bytes.as_chunks_mut::<N>();
    for (element, &value) in elements.iter_mut().zip(values) {
        *element = convert(value);
    }
}

/// Returns the scale that maps the largest magnitude to 127; 1 if all values are zero.
fn scale(values: &[f32]) -> f32 {
    let largest = values.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    if largest == 0.0 { 1.0 } else { largest / 127.0 }
}

fn quantise(value: f32, scale: f32) -> i32 {
    (value / scale).round_ties_even().clamp(-127.0, 127.0) as i32
}

#[cfg(test)]
mod tests {
    use super::super::view_of;
    use super::*;

    fn matrix(values: &[f32], columns: usize) -> Matrix {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Matrix::new(
            view_of(&bytes, Element::F32, &[values.len() / columns, columns]),
            None,
        )
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&x| f32::from_le_bytes(x))
            .collect()
    }

    #[test]
    fn stacked_matrices_keep_their_order() {
        let stacked = Matrix::stack(vec![
            matrix(&[1.0, 2.0], 2),
            matrix(&[3.0, 4.0, 5.0, 6.0], 2),
        ]);
        assert_eq!((stacked.rows, stacked.columns), (3, 2));
        assert_eq!(
            floats(&stacked.fill(Form::F32)),
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        );
    }

    #[test]
    fn a_slice_spans_several_parts() {
        let stacked = Matrix::stack(vec![matrix(&[1.0, 2.0], 1), matrix(&[3.0, 4.0, 5.0], 1)]);
        assert_eq!(
            floats(&stacked.slice(1..4).fill(Form::F32)),
            [2.0, 3.0, 4.0]
        );
        assert!(stacked.slice(3..5).mapped(Form::F32).is_some());
    }

    #[test]
    fn quantised_weights_are_divided_by_the_scale_of_their_row() {
        let view = view_of(&[10, 20, 30, 0xF6], Element::I8, &[2, 2]);
        let matrix = Matrix::new(view, Some(vec![10.0, 100.0]));
        assert_eq!(floats(&matrix.fill(Form::F32)), [1.0, 2.0, 0.3, -0.1]);
    }

    #[test]
    fn each_block_of_a_row_has_its_own_scale() {
        let mut values = [0.0; 2 * BLOCK];
        (values[0], values[1], values[BLOCK]) = (127.0, -1.0, 0.5);
        let matrix = matrix(&values, 2 * BLOCK);
        assert_eq!(floats(&matrix.fill(Form::BlockScales)), [1.0, 0.5 / 127.0]);
        let bytes = matrix.fill(Form::BlockBytes);
        assert_eq!(
            (bytes[0], bytes[1], bytes[2], bytes[BLOCK]),
            (255, 127, 128, 255)
        );
    }

    #[test]
    fn column_bytes_are_transposed() {
        let matrix = matrix(&[127.0, -3.0, 254.0, 2.0], 2);
        assert_eq!(floats(&matrix.fill(Form::ColumnScales)), [1.0, 2.0]);
        assert_eq!(matrix.fill(Form::ColumnBytes), [127, 127, 0xFD, 1]);
    }

    #[test]
    fn a_tensor_of_the_requested_type_is_used_as_mapped() {
        let one = matrix(&[1.0, 2.0], 2);
        assert!(one.mapped(Form::F32).is_some());
        assert!(one.mapped(Form::F16).is_none());
        assert!(one.mapped(Form::BlockBytes).is_none());
        assert!(
            Matrix::stack(vec![one.clone(), one])
                .mapped(Form::F32)
                .is_none()
        );
    }
}
