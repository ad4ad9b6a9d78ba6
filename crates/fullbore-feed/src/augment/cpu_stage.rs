use std::sync::Arc;

use bytemuck::cast_slice_mut;
use fullbore_augment::cpu::{Augmenter, Layout, PixelsMut};
use fullbore_augment::{AugmentParams, Policy};
use fullbore_data::{PixelKind, SampleStage, StageWorker};
use fullbore_types::{SampleKey, Size};

/// The CPU twin as a stage of the loader: its workers augment what they have decoded.
#[derive(Debug)]
pub struct CpuStage {
    policy: Arc<Policy>,
    mean: Vec<f32>,
    std: Vec<f32>,
    kind: PixelKind,
}

impl CpuStage {
    /// With [`PixelKind::F32`] images come out normalised, so that nothing but a view is left to the device; with
    /// [`PixelKind::U8`] a quarter of the bytes travels, and the device normalises.
    pub fn new(policy: Arc<Policy>, mean: &[f32], std: &[f32], kind: PixelKind) -> Self {
        Self { policy, mean: mean.to_vec(), std: std.to_vec(), kind }
    }
}

impl SampleStage for CpuStage {
    fn size(&self) -> Size {
        self.policy.out()
    }

    fn kind(&self) -> PixelKind {
        self.kind
    }

    fn worker(&self) -> Box<dyn StageWorker> {
        let augmenter = Augmenter::new(&self.policy, &self.mean, &self.std);
        Box::new(Worker { policy: self.policy.clone(), augmenter, kind: self.kind, drawn: None })
    }
}

struct Worker {
    policy: Arc<Policy>,
    augmenter: Augmenter,
    kind: PixelKind,
    /// Image, mask and points of a sample come one after the other.
    drawn: Option<(SampleKey, AugmentParams)>,
}

impl Worker {
    fn params(&mut self, key: SampleKey) -> AugmentParams {
        match self.drawn {
            Some((of, params)) if of == key => params,
            _ => {
                let params = self.policy.draw(key);
                self.drawn = Some((key, params));
                params
            }
        }
    }
}

impl StageWorker for Worker {
    fn image(&mut self, key: SampleKey, canvas: &[u8], out: &mut [u8]) {
        let params = self.params(key);
        let out = match self.kind {
            PixelKind::U8 => PixelsMut::U8(out),
            PixelKind::F32 => PixelsMut::F32(cast_slice_mut(out)),
        };
        self.augmenter.image(&params, canvas, Layout::Interleaved, out);
    }

    fn mask(&mut self, key: SampleKey, canvas: &[u8], out: &mut [u8]) {
        let params = self.params(key);
        self.augmenter.mask(&params, canvas, out);
    }

    fn points(&mut self, key: SampleKey, places: &mut [[f32; 2]], visibility: &mut [u8]) {
        let params = self.params(key);
        self.augmenter.points(&params, places, visibility);
    }
}
