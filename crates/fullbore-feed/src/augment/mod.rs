//! The device twin of augmentation: the arithmetic of [`fullbore_augment::params`] on a whole batch, and heat-maps.
//!
//! Composed of tensor operations, so that it runs wherever libtorch does; on CUDA one kernel does the same in one pass.
//! What a batch needs is known on the host before anything starts: passes that no sample uses are left out, and the host
//! never waits for the device.

mod blur;
mod coordinates;
mod cpu_stage;
mod elastic;
mod heatmaps;
mod points;
mod tone;

use fullbore_augment::{AugmentParams, Border, Policy, ROW_LEN};
use fullbore_torch::{
    AugmentKernel, AugmentTensors, Autocast, Device, Error, KernelBorder, Kind, NoGrad, Tensor,
};
use fullbore_types::Size;

use coordinates::Coordinates;
pub use cpu_stage::CpuStage;
pub use heatmaps::heatmaps;
use tone::Tone;

type Result<T, E = Error> = std::result::Result<T, E>;

/// Applies [`AugmentParams`] to batches on a device: the twin of [`fullbore_augment::cpu::Augmenter`].
#[derive(Debug)]
pub struct DeviceTwin {
    frame: Frame,
    flip_pairs: Vec<[usize; 2]>,
    coordinates: Coordinates,
    tone: Tone,
    kind: Kind,
    kernel: Result<AugmentKernel, String>,
}

/// How a [`DeviceTwin`] computes images and masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Tensor operations, on any device.
    Operations,
    /// One kernel, on CUDA. On the CPU the kernel's code runs on one thread, to check it.
    Kernel,
}

/// The sizes and what lies outside, the same for every sample.
#[derive(Clone, Copy, Debug)]
struct Frame {
    canvas: Size,
    out: Size,
    border: Border,
    channels: usize,
    device: Device,
}

/// Landmarks of a batch.
#[derive(Clone, Debug)]
pub struct Points {
    /// f32 `[b, K, 2]`, x before y, in pixels.
    pub places: Tensor,
    /// u8 `[b, K]`, 0 where there is nothing to see.
    pub visibility: Tensor,
}

impl Points {
    /// Those of `n` samples from `start` on.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn narrow(&self, start: i64, n: i64) -> Result<Self> {
        self.map(|tensor| tensor.narrow(0, start, n))
    }

    /// The same done to both tensors.
    pub(crate) fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { places: f(&self.places)?, visibility: f(&self.visibility)? })
    }
}

/// A batch after augmentation.
#[derive(Debug)]
pub struct Augmented {
    /// `[b, C, h, w]`, channels_last, normalised, in the twin's element type.
    pub images: Tensor,
    /// u8 `[b, h, w]`, where masks came in.
    pub masks: Option<Tensor>,
    /// In output pixels, where points came in.
    pub points: Option<Points>,
}

/// Canvases of a batch, and what is made of them: `[n, h, w]`, or `[n, h, w, C]`.
struct Filled<'a> {
    canvases: &'a Tensor,
    finished: Tensor,
}

impl DeviceTwin {
    /// For the sizes, border and landmark pairs of `policy`. `mean` and `std` have one number per channel (1 or 3) where
    /// white is 1; `kind`: element type of the images that come out. On CUDA the kernel is used where it can be had; see
    /// [`DeviceTwin::without_kernel`].
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// When `mean` and `std` do not have 1 or 3 numbers each.
    pub fn new(policy: &Policy, mean: &[f32], std: &[f32], kind: Kind, device: Device) -> Result<Self> {
        let way = match device {
            Device::Cuda(_) => Way::Kernel,
            _ => Way::Operations,
        };
        Self::with_way(policy, mean, std, kind, device, way)
    }

    /// The same in a chosen way, to compare them.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// When `mean` and `std` do not have 1 or 3 numbers each.
    pub fn with_way(
        policy: &Policy,
        mean: &[f32],
        std: &[f32],
        kind: Kind,
        device: Device,
        way: Way,
    ) -> Result<Self> {
        let channels = mean.len();
        assert!((channels == 1 || channels == 3) && std.len() == channels, "one mean and std per channel");
        let frame =
            Frame { canvas: policy.canvas(), out: policy.out(), border: policy.border(), channels, device };
        Ok(Self {
            frame,
            flip_pairs: policy.flip_pairs().to_vec(),
            coordinates: Coordinates::new(frame)?,
            tone: Tone::new(frame, mean, std)?,
            kind,
            kernel: match way {
                Way::Kernel => AugmentKernel::new(device),
                Way::Operations => Err("tensor operations were asked for".into()),
            },
        })
    }

    /// Why tensor operations do the work; `None` when the kernel does.
    pub fn without_kernel(&self) -> Option<&str> {
        self.kernel.as_ref().err().map(String::as_str)
    }

    /// Augments a batch, one row of parameters per sample. `images`: u8 `[b, H, W, C]` of the policy's canvas size;
    /// `masks`: u8 `[b, H, W]`; `points` in canvas pixels. All on the twin's device.
    ///
    /// No gradients are recorded, and a surrounding autocast region changes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for tensors of other shapes or types, and when memory runs out.
    pub fn apply(
        &self,
        images: &Tensor,
        masks: Option<&Tensor>,
        points: Option<&Points>,
        params: &[AugmentParams],
    ) -> Result<Augmented> {
        if let Some(points) = points {
            self.check_points(points, params.len())?;
        }
        let _no_grad = NoGrad::new();
        let _full_precision = Autocast::new(self.frame.device, None)?;
        let images = self.to_fill(images, params.len(), Some(self.frame.channels), self.kind)?;
        let masks = masks.map(|masks| self.to_fill(masks, params.len(), None, Kind::Uint8)).transpose()?;
        self.fill(Some(&images), masks.as_ref(), params)?;
        Ok(Augmented {
            // NHWC memory seen as NCHW is channels_last.
            images: images.finished.permute(&[0, 3, 1, 2])?,
            masks: masks.map(|masks| masks.finished),
            points: points.map(|p| points::transform(self.frame, &self.flip_pairs, p, params)).transpose()?,
        })
    }

    /// The masks of a batch alone, u8 `[b, h, w]`; losses count them before images are made.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn masks(&self, masks: &Tensor, params: &[AugmentParams]) -> Result<Tensor> {
        let _no_grad = NoGrad::new();
        let _full_precision = Autocast::new(self.frame.device, None)?;
        let masks = self.to_fill(masks, params.len(), None, Kind::Uint8)?;
        self.fill(None, Some(&masks), params)?;
        Ok(masks.finished)
    }

    /// The landmarks of a batch alone, in output pixels.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn points(&self, points: &Points, params: &[AugmentParams]) -> Result<Points> {
        self.check_points(points, params.len())?;
        let _no_grad = NoGrad::new();
        let _full_precision = Autocast::new(self.frame.device, None)?;
        points::transform(self.frame, &self.flip_pairs, points, params)
    }

    /// Room for what is made of canvases u8 `[n, H, W]`, or `[n, H, W, C]`.
    fn to_fill<'a>(
        &self,
        canvases: &'a Tensor,
        n: usize,
        channels: Option<usize>,
        kind: Kind,
    ) -> Result<Filled<'a>> {
        let size = |Size { width, height }: Size| -> Vec<i64> {
            let sizes = [n as i64, height.into(), width.into()];
            sizes.into_iter().chain(channels.map(|c| c as i64)).collect()
        };
        let name = if channels.is_some() { "images" } else { "masks" };
        expect(name, canvases, Kind::Uint8, &size(self.frame.canvas))?;
        Ok(Filled { canvases, finished: Tensor::empty(&size(self.frame.out), kind, self.frame.device)? })
    }

    /// One pass over the output.
    fn fill(
        &self,
        images: Option<&Filled<'_>>,
        masks: Option<&Filled<'_>>,
        params: &[AugmentParams],
    ) -> Result<()> {
        match &self.kernel {
            Ok(kernel) => self.launch(kernel, images, masks, params),
            Err(_) => self.operate(images, masks, params),
        }
    }

    /// The pass by the kernel; blur comes before, sample by sample.
    fn launch(
        &self,
        kernel: &AugmentKernel,
        images: Option<&Filled<'_>>,
        masks: Option<&Filled<'_>>,
        params: &[AugmentParams],
    ) -> Result<()> {
        let rows = of_each(params, AugmentParams::to_row);
        let rows = upload(&rows, &[params.len() as i64, ROW_LEN as i64], self.frame.device)?;
        let blurred = match images {
            Some(images) if params.iter().any(|p| p.blur_sigma > 0.0) => {
                let canvases = images.canvases.copy()?;
                blur::blur(&canvases.permute(&[0, 3, 1, 2])?, params)?;
                Some(canvases)
            }
            _ => None,
        };
        kernel.launch(AugmentTensors {
            rows: &rows,
            images: images.map(|images| (blurred.as_ref().unwrap_or(images.canvases), &images.finished)),
            masks: masks.map(|masks| (masks.canvases, &masks.finished)),
            border: match self.frame.border {
                Border::Constant => KernelBorder::Constant,
                Border::Reflect => KernelBorder::Reflect,
                Border::Edge => KernelBorder::Edge,
            },
            scale: &self.tone.scale,
            summand: &self.tone.summand,
        })
    }

    /// The pass by tensor operations.
    fn operate(
        &self,
        images: Option<&Filled<'_>>,
        masks: Option<&Filled<'_>>,
        params: &[AugmentParams],
    ) -> Result<()> {
        // On the CPU what lies between the operations should stay in the caches.
        let at_once = match self.frame.device {
            Device::Cpu => 1,
            _ => params.len().max(1),
        };
        let mut start = 0;
        for params in params.chunks(at_once) {
            let n = params.len() as i64;
            let of = |t: &Tensor| t.narrow(0, start, n);
            let source = self.coordinates.source(params)?;
            if let Some(images) = images {
                let image = self.image(&source, &of(images.canvases)?, params)?;
                of(&images.finished)?.permute(&[0, 3, 1, 2])?.copy_(&image)?;
            }
            if let Some(masks) = masks {
                let nearest = self.coordinates.nearest(&source, &of(masks.canvases)?)?;
                of(&masks.finished)?.copy_(&nearest)?;
            }
            start += n;
        }
        Ok(())
    }

    /// Finished images f32 `[n, C, h, w]` from canvases u8 `[n, H, W, C]`.
    fn image(&self, source: &Tensor, canvas: &Tensor, params: &[AugmentParams]) -> Result<Tensor> {
        let canvas = canvas.permute(&[0, 3, 1, 2])?.to_kind(Kind::Float)?;
        blur::blur(&canvas, params)?;
        let samples = self.coordinates.sample(source, &canvas)?;
        let image = self.tone.finish(samples, params)?;
        if let Some(share) = self.coordinates.share(source, params)? {
            image.mul_(&share)?;
        }
        Ok(image)
    }

    fn check_points(&self, Points { places, visibility }: &Points, n: usize) -> Result<()> {
        let (n, k) = (n as i64, visibility.size().get(1).copied().unwrap_or(0));
        expect("points", places, Kind::Float, &[n, k, 2])?;
        expect("visibility", visibility, Kind::Uint8, &[n, k])?;
        match self.flip_pairs.iter().flatten().max() {
            Some(&most) if most as i64 >= k => {
                Err(refused(format!("{k} points, but pairs up to {most} change places")))
            }
            _ => Ok(()),
        }
    }
}

fn expect(name: &str, tensor: &Tensor, kind: Kind, size: &[i64]) -> Result<()> {
    match tensor.kind() == kind && tensor.size() == size {
        true => Ok(()),
        false => {
            let (found, of) = (tensor.kind(), tensor.size());
            Err(refused(format!("{name} are {found:?} {of:?}, expected {kind:?} {size:?}")))
        }
    }
}

fn refused(message: String) -> Error {
    Error::Invalid { op: "augment".into(), message }
}

/// `N` numbers of every sample, one after the other.
fn of_each<T, const N: usize>(
    params: &[AugmentParams],
    numbers: impl Fn(&AugmentParams) -> [T; N],
) -> Vec<T> {
    params.iter().flat_map(numbers).collect()
}

/// Host numbers as a tensor of a shape on the device.
fn upload(numbers: &[f32], size: &[i64], device: Device) -> Result<Tensor> {
    Tensor::from_slice(numbers)?.reshape(size)?.send_to(device)
}
