//! The augmentation kernel: kernels/augment.cu on a GPU, or the same arithmetic on the host.

use std::ffi::c_void;
use std::sync::OnceLock;

use crate::cuda::Kernel;
use crate::error::{Error, Result};
use crate::ffi::{self, AugmentFrame};
use crate::tensor::Tensor;
use crate::{Device, Kind};

const SOURCE: &str = include_str!("../kernels/augment.cu");

/// Threads of a block: columns, rows, samples.
const BLOCK: [u32; 3] = [32, 8, 1];
/// Most layers of a grid: CUDA's limit.
const MAX_SAMPLES: i64 = 65_535;
/// Longest side in pixels. Below it, numbers of pixels fit 32 bits and coordinates f32.
const MAX_SIDE: i64 = 1 << 15;

/// What lies outside the canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelBorder {
    /// Zeros after normalisation, 255 in masks.
    Constant,
    /// The canvas mirrored about its outer pixel edges.
    Reflect,
    /// The outermost pixels repeated.
    Edge,
}

/// Augments a batch in one pass over the output: sampling, colour, gamma, noise, normalisation, erased boxes and masks. Its
/// arithmetic is that of `fullbore_augment::params`, blur and points aside.
#[derive(Clone, Copy, Debug)]
pub struct AugmentKernel {
    /// `None`: on the host.
    kernel: Option<Kernel>,
}

/// One launch: contiguous tensors on one device, and what is the same for all samples.
#[derive(Clone, Copy, Debug)]
pub struct AugmentTensors<'a> {
    /// f32 `[b, 48]`, one row of `AugmentParams` per sample.
    pub rows: &'a Tensor,
    /// u8 `[b, H, W, C]` with 1 or 3 channels, and f32, bf16 or f16 `[b, h, w, C]`, which is written.
    pub images: Option<(&'a Tensor, &'a Tensor)>,
    /// u8 `[b, H, W]`, and `[b, h, w]`, which is written.
    pub masks: Option<(&'a Tensor, &'a Tensor)>,
    /// What lies outside the canvas.
    pub border: KernelBorder,
    /// The normalisation, `scale r + summand` of `r` in 0..1: one number per channel.
    pub scale: &'a [f32],
    /// See `scale`.
    pub summand: &'a [f32],
}

impl AugmentKernel {
    /// For a device: compiled once per process for GPUs; for the CPU the same code on one thread, to check it.
    ///
    /// # Errors
    /// Why there is no kernel: NVRTC or the plug-in is missing, or the kernel does not load.
    pub fn new(device: Device) -> std::result::Result<Self, String> {
        static COMPILED: OnceLock<std::result::Result<Kernel, String>> = OnceLock::new();
        match device {
            Device::Cpu => Ok(Self { kernel: None }),
            Device::Cuda(_) => COMPILED
                .get_or_init(|| Kernel::compile(SOURCE, c"fullbore_augment"))
                .clone()
                .map(|kernel| Self { kernel: Some(kernel) }),
            other => Err(format!("there is no kernel for {other:?}")),
        }
    }

    /// Starts the pass; on a GPU nobody waits for it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for tensors of other shapes, types or devices; [`Error::Device`] when the kernel does not start.
    pub fn launch(&self, tensors: AugmentTensors<'_>) -> Result<()> {
        let Some(frame) = tensors.frame()? else {
            return Ok(());
        };
        let rows = tensors.rows.0.data_ptr();
        let addresses = |pair: Option<(&Tensor, &Tensor)>| {
            pair.map_or([std::ptr::null_mut(); 2], |(from, to)| [from.0.data_ptr(), to.0.data_ptr()])
        };
        let ([images, out], [masks, out_masks]) = (addresses(tensors.images), addresses(tensors.masks));
        match (self.kernel, tensors.rows.device()) {
            (None, Device::Cpu) => {
                // SAFETY: `frame` was read off these very tensors, which are contiguous, on the CPU and live on; the
                // kernel stays inside them whatever the rows hold, and leaves null pointers alone.
                unsafe { ffi::fb_augment_on_host(&frame, rows, images, masks, out, out_masks) };
                Ok(())
            }
            (Some(kernel), Device::Cuda(device)) => {
                let blocks = |n: i32, block: u32| (n as u32).div_ceil(block);
                let grid = [
                    blocks(frame.out_w, BLOCK[0]),
                    blocks(frame.out_h, BLOCK[1]),
                    blocks(frame.samples, BLOCK[2]),
                ];
                let mut values = [rows, images, masks, out, out_masks];
                let mut arguments = vec![(&raw const frame).cast_mut().cast::<c_void>()];
                arguments.extend(values.iter_mut().map(|value| (&raw mut *value).cast::<c_void>()));
                // SAFETY: the frame and five pointers, as the kernel declares. They are contiguous tensors on this
                // device of the sizes in `frame`; libtorch reuses their memory only in the order of the stream.
                unsafe { kernel.launch(device, grid, BLOCK, &mut arguments) }
            }
            (_, device) => Err(refused(format!("tensors on {device:?}, the kernel is for another device"))),
        }
    }
}

impl AugmentTensors<'_> {
    /// Checks everything that the kernel relies on; `None` when there is nothing to do.
    fn frame(&self) -> Result<Option<AugmentFrame>> {
        let Some((from, to)) = self.images.or(self.masks) else {
            return Ok(None);
        };
        let (from, to) = (from.size(), to.size());
        let (&[n, canvas_h, canvas_w, ..], &[_, out_h, out_w, ..]) = (&from[..], &to[..]) else {
            return Err(refused(format!("canvases {from:?} to {to:?}, expected [b, height, width, ..]")));
        };
        let sides = [canvas_h, canvas_w, out_h, out_w];
        let channels = self.scale.len() as i64;
        if !(sides.iter().all(|&side| (1..=MAX_SIDE).contains(&side)) && n <= MAX_SAMPLES) {
            return Err(refused(format!("{from:?} to {to:?} is more than the kernel takes at once")));
        }
        if !(channels == 1 || channels == 3) || self.summand.len() != self.scale.len() {
            return Err(refused(format!("normalisation of {channels} channels, expected 1 or 3")));
        }
        let number = match self.images.map_or(Kind::Float, |(_, out)| out.kind()) {
            Kind::Float => 0,
            Kind::BFloat16 => 1,
            Kind::Half => 2,
            other => return Err(refused(format!("output in {other:?}, expected f32, bf16 or f16"))),
        };
        let device = self.rows.device();
        let expect = |name: &str, t: &Tensor, kind: Kind, size: &[i64]| match t.kind() == kind
            && t.size() == size
            && t.device() == device
            && t.0.is_contiguous()
        {
            true => Ok(()),
            false => {
                let (found, of, on) = (t.kind(), t.size(), t.device());
                Err(refused(format!(
                    "{name} are {found:?} {of:?} on {on:?}, expected {kind:?} {size:?} on {device:?}, contiguous"
                )))
            }
        };
        expect("rows", self.rows, Kind::Float, &[n, ROW_LEN])?;
        if let Some((images, out)) = self.images {
            expect("images", images, Kind::Uint8, &[n, canvas_h, canvas_w, channels])?;
            expect("finished images", out, out.kind(), &[n, out_h, out_w, channels])?;
        }
        if let Some((masks, out)) = self.masks {
            expect("masks", masks, Kind::Uint8, &[n, canvas_h, canvas_w])?;
            expect("finished masks", out, Kind::Uint8, &[n, out_h, out_w])?;
        }
        let per_channel = |numbers: &[f32]| std::array::from_fn(|c| numbers[c % numbers.len()]);
        let [canvas_h, canvas_w, out_h, out_w] = sides.map(|side| side as i32);
        Ok((n > 0).then_some(AugmentFrame {
            canvas_w,
            canvas_h,
            out_w,
            out_h,
            samples: n as i32,
            channels: channels as i32,
            border: self.border as i32,
            number,
            scale: per_channel(self.scale),
            summand: per_channel(self.summand),
        }))
    }
}

/// Numbers of a row of parameters.
const ROW_LEN: i64 = 48;

fn refused(message: String) -> Error {
    Error::Invalid { op: "augment kernel".into(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvrtc_takes_the_kernel_where_it_is_there() {
        match crate::cuda::ptx(SOURCE) {
            Ok(ptx) => assert!(ptx.contains(".entry fullbore_augment("), "{ptx}"),
            Err(reason) if reason.contains("is not there") => eprintln!("skipped: {reason}"),
            Err(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn without_a_gpu_the_reason_is_told() {
        if let crate::CudaState::NoDriver = crate::start().cuda {
            let reason = AugmentKernel::new(Device::Cuda(0)).unwrap_err();
            assert!(reason.contains("CUDA is not loaded"), "{reason}");
        }
    }
}
