use fullbore_types::Size;

use super::recipe::Recipe;

/// How the bytes of a cached sample divide: the image, u8 and raw, then its mask, packed by runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Size of the source image, upright.
    pub(crate) source: Size,
    /// Bytes of the image.
    pub(crate) image_bytes: u32,
    /// Bytes of the packed mask, 0 without one.
    pub(crate) mask_bytes: u32,
}

impl Shape {
    /// Bytes in all.
    pub(crate) fn bytes(&self) -> usize {
        self.image_bytes as usize + self.mask_bytes as usize
    }

    /// True when a sample of this recipe can have this shape, and no more than `max_pixels` pixels.
    pub(crate) fn fits(&self, recipe: &Recipe, max_pixels: u64) -> bool {
        (1..=max_pixels).contains(&self.source.area())
            && recipe.image_bytes(self.source) == Some(self.image_bytes as usize)
            && recipe
                .mask_pixels(self.source)
                .is_some_and(|n| (self.mask_bytes as usize) <= n && (self.mask_bytes == 0) == (n == 0))
    }
}
