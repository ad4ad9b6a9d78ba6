//! Work on samples between their canvas and their place in the batch, done by the loader's workers.

use fullbore_types::{SampleKey, Size};

use crate::ring::PixelKind;

/// What happens to every training sample once it lies on its canvas: augmentation on the CPU, for one. The loader
/// knows nothing of it but the shape of what comes out.
pub trait SampleStage: Send + Sync {
    /// Size of what comes out, the same for every sample.
    fn size(&self) -> Size;

    /// What its images are made of.
    fn kind(&self) -> PixelKind;

    /// The stage with the memory it works in, for one thread.
    fn worker(&self) -> Box<dyn StageWorker>;
}

/// A [`SampleStage`] in one thread. The result is a pure function of the key and the canvas.
pub trait StageWorker: Send {
    /// Makes an image: `canvas` is u8 `[height, width, channels]` of the loader's canvas, `out` has the bytes of one
    /// image of the stage's size and kind, aligned for that kind.
    fn image(&mut self, key: SampleKey, canvas: &[u8], out: &mut [u8]);

    /// Makes its mask: class indices u8 `[height, width]`.
    fn mask(&mut self, key: SampleKey, canvas: &[u8], out: &mut [u8]);

    /// Moves its points, `[x, y]` in pixels of the canvas, to pixels of what comes out. `visibility` as in
    /// [`crate::points::Visibility`].
    fn points(&mut self, key: SampleKey, places: &mut [[f32; 2]], visibility: &mut [u8]);
}
