//! What a loader keeps of each sample: everything up to the last step that is the same in every epoch.

use fullbore_types::{Classes, Size};
use twox_hash::XxHash3_128;

use crate::config::Resize;

/// Part of every recipe's id. Add one whenever decoders or resampling give other pixels than before, so that no
/// cache on disk brings the old ones back.
const PIXELS_VERSION: u32 = 1;

/// What is kept of each sample, and all that decides its pixels but the files.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// How the image is kept.
    pub(crate) image: Form,
    /// How the mask is kept, as class indices; `None` when masks are left alone.
    pub(crate) mask: Option<Form>,
    channels: usize,
    /// The same for equal recipes, in every run.
    pub(crate) id: u128,
}

/// The shape in which pixels are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Resized and padded, as it stands in the batch.
    Canvas(Size),
    /// As decoded: windows are cut out of it, other ones in every epoch.
    Native,
}

impl Form {
    fn n_pixels(self, source: Size) -> u64 {
        match self {
            Form::Canvas(size) => size.area(),
            Form::Native => source.area(),
        }
    }
}

impl Recipe {
    /// For training: image and mask as they stand in the batch, or whole where random windows are cut.
    pub(crate) fn training(resize: Resize, size: Size, channels: u8, classes: Option<&Classes>) -> Self {
        let form = form(resize, size);
        Self::new(resize, form, channels, classes.map(|classes| (form, classes)))
    }

    /// For evaluation: the mask at its native size.
    pub(crate) fn evaluation(resize: Resize, size: Size, channels: u8, classes: Option<&Classes>) -> Self {
        Self::new(resize, form(resize, size), channels, classes.map(|classes| (Form::Native, classes)))
    }

    fn new(resize: Resize, image: Form, channels: u8, mask: Option<(Form, &Classes)>) -> Self {
        // Sources that draw their masks go by the names.
        let values =
            mask.map(|(form, Classes { names, values, void_value })| (form, names, values, void_value));
        let version = (PIXELS_VERSION, env!("CARGO_PKG_VERSION"));
        let text = format!("{version:?} {resize:?} {image:?} {channels} {values:?}");
        let id = XxHash3_128::oneshot(text.as_bytes());
        Recipe { image, mask: mask.map(|(form, _)| form), channels: usize::from(channels), id }
    }

    /// Bytes of the image of a source of that size; `None` when they cannot be counted.
    pub(crate) fn image_bytes(&self, source: Size) -> Option<usize> {
        usize::try_from(self.image.n_pixels(source)).ok()?.checked_mul(self.channels)
    }

    /// Pixels of its mask, none where masks are left alone.
    pub(crate) fn mask_pixels(&self, source: Size) -> Option<usize> {
        usize::try_from(self.mask.map_or(0, |form| form.n_pixels(source))).ok()
    }
}

fn form(resize: Resize, size: Size) -> Form {
    match resize {
        Resize::Stretch | Resize::Letterbox => Form::Canvas(size),
        Resize::Crop => Form::Native,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(values: &[u8], void_value: Option<u8>) -> Classes {
        Classes { names: vec!["a".into(), "b".into()], values: values.to_vec(), void_value }
    }

    #[test]
    fn whatever_changes_pixels_changes_the_id() {
        let size = Size::new(64, 32);
        let two = classes(&[0, 255], None);
        let ids = [
            Recipe::training(Resize::Stretch, size, 3, Some(&two)),
            Recipe::training(Resize::Letterbox, size, 3, Some(&two)),
            Recipe::training(Resize::Crop, size, 3, Some(&two)),
            Recipe::training(Resize::Stretch, Size::new(32, 64), 3, Some(&two)),
            Recipe::training(Resize::Stretch, size, 1, Some(&two)),
            Recipe::training(Resize::Stretch, size, 3, Some(&classes(&[255, 0], None))),
            Recipe::training(Resize::Stretch, size, 3, Some(&classes(&[0, 255], Some(7)))),
            Recipe::evaluation(Resize::Stretch, size, 3, Some(&two)),
            Recipe::evaluation(Resize::Stretch, size, 3, None),
        ]
        .map(|recipe| recipe.id);
        let distinct: std::collections::HashSet<_> = ids.into_iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn native_pixels_serve_every_canvas_and_evaluation() {
        let two = classes(&[0, 255], None);
        let a = Recipe::training(Resize::Crop, Size::new(64, 64), 3, Some(&two));
        let b = Recipe::training(Resize::Crop, Size::new(32, 32), 3, Some(&two));
        assert_eq!(a.id, b.id);
        assert_eq!(a.id, Recipe::evaluation(Resize::Crop, Size::new(9, 9), 3, Some(&two)).id);
        assert_eq!(a.image_bytes(Size::new(10, 20)), Some(600));
        assert_eq!(a.mask_pixels(Size::new(10, 20)), Some(200));
    }
}
