//! Whole images through a network, one answer for each: what validation and prediction share.

use fullbore_data::{DataError, EvalSample};
use fullbore_governor::{Change, Outcome};
use fullbore_torch::{Device, Error, Kind, NoGrad, Result, Tensor};

use crate::PassPlan;

/// What became of one image, or of the way images are grouped.
pub enum Answer<T> {
    /// The image, and what was made of its part of the network's output.
    Ready(EvalSample, T),
    /// The image could not be loaded; its number in the stream.
    Unreadable(usize, DataError),
    /// The image does not fit into memory even alone. Holds the allocator's words.
    TooLarge(EvalSample, Error),
    /// Another number of images at once from now on; with the allocator's words when memory ran out. No image is lost.
    Resized(Change, Option<Error>),
}

/// The two halves of answering an image.
pub trait Answerer {
    /// What is known of an image at last.
    type Answer;

    /// Images of one canvas size, in bytes u8 `[n, height, width, C]` on the device, to n rows of anything. Changes
    /// nothing when it fails: it may be asked again with fewer images.
    fn network(&mut self, samples: &[EvalSample], images: &Tensor) -> Result<Tensor>;

    /// The answer for one image from its row, `[1, ...]`.
    fn finish(&mut self, sample: &EvalSample, row: &Tensor) -> Result<Self::Answer>;
}

/// Sends whole images through a network in the order they come, and hands every answer to `take`. Images of one
/// canvas size share a forward pass, as many as `plan` says. No gradients are recorded.
///
/// # Errors
/// What `take` returns, and any failure of `answerer` but running out of memory.
pub fn answer_whole_images<A: Answerer, E: From<Error>>(
    samples: impl Iterator<Item = std::result::Result<EvalSample, DataError>>,
    plan: &mut PassPlan,
    device: Device,
    answerer: &mut A,
    mut take: impl FnMut(Answer<A::Answer>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let _no_grad = NoGrad::new();
    let mut group: Vec<EvalSample> = Vec::new();
    for (index, sample) in samples.enumerate() {
        match sample {
            Ok(sample) => {
                let other = group.first().is_some_and(|first| first.canvas != sample.canvas);
                if other || group.len() >= plan.images(sample.image.len() as u64) {
                    answer_group(&mut group, plan, device, answerer, &mut take)?;
                }
                group.push(sample);
            }
            Err(error) => take(Answer::Unreadable(index, error))?,
        }
    }
    answer_group(&mut group, plan, device, answerer, &mut take)
}

/// Answers images of one canvas size and leaves the group empty.
fn answer_group<A: Answerer, E: From<Error>>(
    group: &mut Vec<EvalSample>,
    plan: &mut PassPlan,
    device: Device,
    answerer: &mut A,
    take: &mut impl FnMut(Answer<A::Answer>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    while let Some(first) = group.first() {
        let bytes = first.image.len() as u64;
        let n = plan.images(bytes).clamp(1, group.len());
        plan.begin(device)?;
        match upload(&group[..n], device).and_then(|images| answerer.network(&group[..n], &images)) {
            Ok(rows) => {
                for (i, sample) in group.drain(..n).enumerate() {
                    let row = rows.narrow(0, i as i64, 1)?;
                    take(match answerer.finish(&sample, &row) {
                        Ok(answer) => Answer::Ready(sample, answer),
                        Err(error) if error.is_out_of_memory() => Answer::TooLarge(sample, error),
                        Err(error) => return Err(error.into()),
                    })?;
                }
                if let Some(change) = plan.end(n, bytes, Outcome::Done, device)? {
                    take(Answer::Resized(change, None))?;
                }
            }
            Err(error) if error.is_out_of_memory() => {
                take(match plan.end(n, bytes, Outcome::OutOfMemory, device)? {
                    Some(change) => Answer::Resized(change, Some(error)),
                    None => Answer::TooLarge(group.remove(0), error),
                })?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Canvases of one size as bytes u8 `[n, height, width, C]` on the device.
fn upload(samples: &[EvalSample], device: Device) -> Result<Tensor> {
    let canvas = samples[0].canvas;
    let (n, h, w) = (samples.len() as i64, i64::from(canvas.height), i64::from(canvas.width));
    let bytes: Vec<u8> = samples.iter().flat_map(|s| s.image.iter().copied()).collect();
    let channels = bytes.len() as i64 / (n * h * w);
    Tensor::from_owner(bytes, &[n, h, w, channels], Kind::Uint8)?.to_device(device)
}

/// One canvas's logits `[1, C, H, W]` at the size of its source image, `[1, C, height, width]`, upright: padding cut
/// off, bilinear.
///
/// # Errors
/// When memory runs out.
pub fn on_native_grid(logits: &Tensor, sample: &EvalSample) -> Result<Tensor> {
    let (content, source) = (sample.valid, sample.frame.source_size);
    let shown = logits.narrow(2, i64::from(content.y), i64::from(content.size.height))?.narrow(
        3,
        i64::from(content.x),
        i64::from(content.size.width),
    )?;
    match content.size == source {
        true => Ok(shown),
        false => shown.upsample_bilinear(i64::from(source.height), i64::from(source.width), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fullbore_data::canvas::Rect;
    use fullbore_governor::{Bounds, MemoryConfig};
    use fullbore_torch::{Kind, cpu_memory, set_cpu_budget};
    use fullbore_types::{Affine, Frame, SampleId, Size};

    /// A square image of one value that fills its canvas.
    fn sample(id: u32, side: u32, value: u8) -> EvalSample {
        let size = Size::new(side, side);
        EvalSample {
            id: SampleId(id),
            name: id.to_string(),
            image: vec![value; size.area() as usize],
            canvas: size,
            frame: Frame { source_size: size, canvas_from_source: Affine::IDENTITY, mm_per_px: None },
            valid: Rect { x: 0, y: 0, size },
            mask: Vec::new(),
            points: Vec::new(),
            native: Vec::new(),
        }
    }

    /// A network that gives its input back, and fits so many pixels at most.
    struct Echo(i64);

    impl Answerer for Echo {
        type Answer = Tensor;

        fn network(&mut self, _: &[EvalSample], images: &Tensor) -> Result<Tensor> {
            match images.numel() as i64 > self.0 {
                true => Err(Error::OutOfMemory { message: "full".into() }),
                false => images.permute(&[0, 3, 1, 2])?.to_kind(Kind::Float),
            }
        }

        fn finish(&mut self, sample: &EvalSample, row: &Tensor) -> Result<Tensor> {
            on_native_grid(row, sample)
        }
    }

    fn plan(batch: usize) -> PassPlan {
        PassPlan::new(MemoryConfig::default(), Bounds::whole(batch), None)
    }

    #[test]
    fn running_out_of_memory_halves_the_batch_and_loses_no_image() {
        let samples = (0..10).map(|i| Ok(sample(i, if i == 6 { 9 } else { 4 }, i as u8)));
        let (mut plan, mut told) = (plan(8), Vec::new());
        answer_whole_images::<_, Error>(samples, &mut plan, Device::Cpu, &mut Echo(40), |answer| {
            told.push(match answer {
                Answer::Ready(sample, logits) => {
                    assert_eq!(logits.size(), [1, 1, 4, 4]);
                    assert!(logits.to_vec_f32()?.iter().all(|&v| v == sample.id.0 as f32));
                    format!("{}", sample.id.0)
                }
                Answer::TooLarge(sample, _) => format!("{} is too large", sample.id.0),
                Answer::Resized(Change { from, to, .. }, _) => format!("{from} -> {to}"),
                Answer::Unreadable(..) => unreachable!("all can be read"),
            });
            Ok(())
        })
        .unwrap();
        // 40 pixels are two small images; one that is too large by itself says nothing about them.
        let expected = "6 -> 4, 4 -> 2, 0, 1, 2, 3, 4, 5, 6 is too large, 7, 8, 9";
        assert_eq!((told.join(", ").as_str(), plan.images(16)), (expected, 2));
    }

    #[test]
    fn more_images_share_a_pass_when_there_is_room_again() {
        let roomy = cpu_memory().in_use + 100_000_000;
        set_cpu_budget(Some(roomy));
        let mut plan = plan(8);
        let mut changes = Vec::new();
        let mut answer = |n: u32, fits| {
            let samples = (0..n).map(|i| Ok(sample(i, 4, 0)));
            answer_whole_images::<_, Error>(samples, &mut plan, Device::Cpu, &mut Echo(fits), |answer| {
                if let Answer::Resized(change, error) = answer {
                    changes.push((change.from, change.to, error.is_some()));
                }
                Ok(())
            })
            .unwrap();
        };
        answer(16, 64);
        // As much room as at the failure is none; half as much more is some.
        answer(200, 128);
        set_cpu_budget(Some(roomy + 50_000_000));
        answer(200, 128);
        set_cpu_budget(None);
        assert_eq!(changes, [(8, 4, true), (4, 8, false)]);
    }

    #[test]
    fn padding_is_cut_off_and_logits_are_brought_to_the_image() {
        let mut padded = sample(0, 4, 0);
        padded.image = (0..16).collect();
        padded.valid = Rect { x: 1, y: 2, size: Size::new(2, 1) };
        padded.frame.source_size = Size::new(4, 1);
        let mut seen = Vec::new();
        answer_whole_images::<_, Error>(
            [Ok(padded)].into_iter(),
            &mut plan(1),
            Device::Cpu,
            &mut Echo(16),
            |answer| {
                if let Answer::Ready(_, logits) = answer {
                    assert_eq!(logits.size(), [1, 1, 1, 4]);
                    seen = logits.to_vec_f32()?;
                }
                Ok(())
            },
        )
        .unwrap();
        // Pixel values 9 and 10, twice as wide with half-pixel centres.
        assert_eq!(seen, [9.0, 9.25, 9.75, 10.0]);
    }
}
