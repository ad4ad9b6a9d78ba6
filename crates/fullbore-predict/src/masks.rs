use fullbore_types::Classes;

/// Class indices to the values that masks of the training set have for them.
#[derive(Clone, Debug)]
pub struct MaskValues([u8; 256]);

impl MaskValues {
    /// The table for a set of classes. Indices beyond them become 0.
    pub fn new(classes: &Classes) -> Self {
        let mut table = [0; 256];
        table[..classes.values.len()].copy_from_slice(&classes.values);
        Self(table)
    }

    /// Replaces indices by values, in place.
    pub fn apply(&self, mask: &mut [u8]) {
        mask.iter_mut().for_each(|pixel| *pixel = self.0[usize::from(*pixel)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_become_the_values_of_the_training_masks() {
        let classes = Classes {
            names: vec!["ground".into(), "roof".into(), "road".into()],
            values: vec![7, 255, 0],
            void_value: None,
        };
        let mut mask = [2, 0, 1, 1, 0];
        MaskValues::new(&classes).apply(&mut mask);
        assert_eq!(mask, [0, 7, 255, 255, 7]);
    }
}
