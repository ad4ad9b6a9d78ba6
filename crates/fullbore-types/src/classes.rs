use serde::{Deserialize, Serialize};

/// Class index of pixels that take no part in losses and metrics: void labels and padding.
pub const IGNORE_INDEX: u8 = 255;

/// What the values in mask files mean: class `i` is called `names[i]` and stored as `values[i]`.
///
/// The order is the order in which the user wrote the classes; it fixes the model's output channels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// Names by class index, for reports.
    pub names: Vec<String>,
    /// Mask-file pixel value by class index.
    pub values: Vec<u8>,
    /// Mask-file pixel value that means "not labelled", if the data set has one.
    pub void_value: Option<u8>,
}

impl Classes {
    /// Number of classes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True when no class is declared; such a set cannot be trained on.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Table from mask-file value to class index. Undeclared values map to `None`, the void value to
    /// [`IGNORE_INDEX`].
    pub fn index_table(&self) -> [Option<u8>; 256] {
        let mut table = [None; 256];
        if let Some(void) = self.void_value {
            table[void as usize] = Some(IGNORE_INDEX);
        }
        for (index, &value) in self.values.iter().enumerate() {
            table[value as usize] = Some(index as u8);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_maps_values_to_indices_and_void_to_ignore() {
        let classes = Classes {
            names: vec!["membrane".into(), "cell".into()],
            values: vec![0, 255],
            void_value: Some(7),
        };
        let table = classes.index_table();
        assert_eq!(table[0], Some(0));
        assert_eq!(table[255], Some(1));
        assert_eq!(table[7], Some(IGNORE_INDEX));
        assert_eq!(table[1], None);
    }
}
