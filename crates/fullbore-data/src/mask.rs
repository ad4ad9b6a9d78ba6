//! Mask values to class indices.

use std::path::{Path, PathBuf};

use fullbore_types::{Classes, IGNORE_INDEX};

/// How far a value in a lossy mask may lie from the declared value it stands for.
pub const LOSSY_REACH: u8 = 32;

/// Translates raw mask values to class indices, and finds the values that no class declares.
#[derive(Clone, Debug)]
pub struct MaskValues {
    exact: IndexTable,
    lossy: Result<IndexTable, (u8, u8)>,
    declared: String,
}

/// Class index by mask value, for the values that stand for something.
#[derive(Clone, Debug)]
pub struct IndexTable {
    index: [u8; 256],
    declared: [bool; 256],
}

impl MaskValues {
    /// Prepares the tables for one set of classes.
    ///
    /// In lossless files a value must be declared exactly. In lossy files (JPEG, lossy WebP) it may lie up to
    /// [`LOSSY_REACH`] from a declared value; that needs declared values that lie more than twice as far apart.
    pub fn new(classes: &Classes) -> Self {
        let mut exact = IndexTable { index: [IGNORE_INDEX; 256], declared: [false; 256] };
        let mut declared = Vec::new();
        for (value, index) in (0..=255).zip(classes.index_table()) {
            if let Some(index) = index {
                exact.declare(value, index);
                declared.push(value);
            }
        }
        let close = declared.windows(2).find(|pair| pair[1] - pair[0] <= 2 * LOSSY_REACH);
        let lossy = match close {
            Some(pair) => Err((pair[0], pair[1])),
            None => {
                let mut near = exact.clone();
                for &v in &declared {
                    let reach = v.saturating_sub(LOSSY_REACH)..=v.saturating_add(LOSSY_REACH);
                    reach.for_each(|near_v| near.declare(near_v, exact.index(v)));
                }
                Ok(near)
            }
        };
        let mut named: Vec<String> =
            classes.names.iter().zip(&classes.values).map(|(name, v)| format!("{name} {v}")).collect();
        named.extend(classes.void_value.map(|v| format!("void {v}")));
        MaskValues { exact, lossy, declared: named.join(", ") }
    }

    /// The table for one mask, after checking that every value of it is in the table.
    ///
    /// `mask` holds raw values, `width` to a row; `file` only appears in messages.
    ///
    /// # Errors
    /// An undeclared value, with its place; or a lossy mask whose declared values lie too close together.
    pub fn table_for(
        &self,
        mask: &[u8],
        width: u32,
        lossy: bool,
        file: &Path,
    ) -> Result<&IndexTable, MaskError> {
        let table = match (lossy, &self.lossy) {
            (false, _) => &self.exact,
            (true, Ok(table)) => table,
            (true, Err((a, b))) => {
                return Err(MaskError::LossyAmbiguous { file: file.into(), values: (*a, *b) });
            }
        };
        match table.first_undeclared(mask) {
            None => Ok(table),
            Some(at) => Err(MaskError::UndeclaredValue {
                file: file.into(),
                value: mask[at],
                x: (at % width as usize) as u32,
                y: (at / width as usize) as u32,
                declared: self.declared.clone(),
            }),
        }
    }
}

impl IndexTable {
    /// For masks that hold class indices already.
    pub(crate) const IDENTITY: IndexTable = {
        let mut table = IndexTable { index: [0; 256], declared: [true; 256] };
        let mut i = 0;
        while i < 256 {
            table.index[i] = i as u8;
            i += 1;
        }
        table
    };

    fn declare(&mut self, value: u8, index: u8) {
        self.index[usize::from(value)] = index;
        self.declared[usize::from(value)] = true;
    }

    /// Class index of a value that [`MaskValues::table_for`] has checked.
    #[inline]
    pub fn index(&self, value: u8) -> u8 {
        self.index[usize::from(value)]
    }

    /// Position of the first value without an index.
    ///
    /// Masks are mostly flat, so runs of equal blocks are skipped whole.
    fn first_undeclared(&self, mask: &[u8]) -> Option<usize> {
        let undeclared = |v: &u8| !self.declared[usize::from(*v)];
        let (blocks, rest) = mask.as_chunks::<32>();
        let mut checked: Option<&[u8; 32]> = None;
        for (i, block) in blocks.iter().enumerate() {
            if checked == Some(block) {
                continue;
            }
            if let Some(at) = block.iter().position(undeclared) {
                return Some(i * 32 + at);
            }
            checked = Some(block);
        }
        rest.iter().position(undeclared).map(|at| blocks.len() * 32 + at)
    }
}

/// A mask that decodes but does not fit the declared classes or its image.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum MaskError {
    /// A value that is no class and not void.
    #[error("mask {} holds {value} at pixel ({x}, {y}); declared are {declared}", file.display())]
    #[diagnostic(
        code(data::mask::undeclared_value),
        help(
            "name the value under data.classes or as data.void, or correct the mask (1-bit PNGs hold 0 and 1, \
             palette PNGs their indices)"
        )
    )]
    UndeclaredValue {
        /// The mask file.
        file: PathBuf,
        /// The first undeclared value.
        value: u8,
        /// Its column, upright.
        x: u32,
        /// Its row, upright.
        y: u32,
        /// Declared names and values.
        declared: String,
    },
    /// Compression noise would turn one class into another.
    #[error(
        "mask {} is stored with lossy compression, which cannot keep the declared values {} and {} apart",
        file.display(), values.0, values.1
    )]
    #[diagnostic(
        code(data::mask::lossy),
        help("save the masks as PNG; lossy masks work only with class values more than 64 apart")
    )]
    LossyAmbiguous {
        /// The mask file.
        file: PathBuf,
        /// Two declared values that lie too close together.
        values: (u8, u8),
    },
    /// Image and mask of different sizes.
    #[error(
        "mask {} is {mask_size} but its image {} is {image_size}",
        mask.display(), image.display()
    )]
    #[diagnostic(
        code(data::mask::size),
        help("make both the same size (sizes are width x height, after EXIF orientation)")
    )]
    SizeMismatch {
        /// The image file.
        image: PathBuf,
        /// Its upright size.
        image_size: fullbore_types::Size,
        /// The mask file.
        mask: PathBuf,
        /// Its upright size.
        mask_size: fullbore_types::Size,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn classes(values: &[u8], void_value: Option<u8>) -> Classes {
        let names = values.iter().map(|v| format!("c{v}")).collect();
        Classes { names, values: values.to_vec(), void_value }
    }

    fn table(values: &[u8], mask: &[u8], lossy: bool) -> Result<Vec<u8>, MaskError> {
        let values = MaskValues::new(&classes(values, None));
        let table = values.table_for(mask, 10, lossy, Path::new("m.png"))?;
        Ok(mask.iter().map(|&v| table.index(v)).collect())
    }

    #[test]
    fn values_become_indices_and_void_becomes_ignore() {
        let values = MaskValues::new(&classes(&[9, 0], Some(77)));
        let table = values.table_for(&[9, 0, 77], 3, false, Path::new("m.png")).unwrap();
        assert_eq!([table.index(9), table.index(0), table.index(77)], [0, 1, 255]);
    }

    #[test]
    fn lossy_values_snap_to_the_nearest_declared_one() {
        assert_eq!(table(&[0, 255], &[0, 32, 223, 255], true).unwrap(), [0, 0, 1, 1]);
        assert!(matches!(
            table(&[0, 255], &[33], true),
            Err(MaskError::UndeclaredValue { value: 33, x: 0, y: 0, .. })
        ));
        assert!(matches!(table(&[0, 1], &[0], true), Err(MaskError::LossyAmbiguous { values: (0, 1), .. })));
        assert!(table(&[0, 1], &[0], false).is_ok());
    }

    #[test]
    fn the_message_says_where_and_what_is_declared() {
        let mut mask = vec![0; 100];
        mask[73] = 4;
        let message = table(&[0, 255], &mask, false).unwrap_err().to_string();
        assert_eq!(message, "mask m.png holds 4 at pixel (3, 7); declared are c0 0, c255 255");
    }

    proptest! {
        #[test]
        fn the_first_undeclared_value_is_found_wherever_it_is(
            mut mask in prop::collection::vec(prop::sample::select(vec![0u8, 255]), 1..300),
            bad in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        ) {
            for at in &bad {
                let at = at.index(mask.len());
                mask[at] = 100;
            }
            let expected = mask.iter().position(|&v| v == 100);
            let table = MaskValues::new(&classes(&[0, 255], None)).exact;
            prop_assert_eq!(table.first_undeclared(&mask), expected);
        }
    }
}
