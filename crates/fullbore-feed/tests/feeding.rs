//! A buffered feed gives what a direct one gives: the same batches in the same order, to the end or to the fault.

use std::path::PathBuf;
use std::sync::Arc;

use fullbore_augment::{AugmentConfig, Preset};
use fullbore_data::{
    FaultPolicy, Loader, LoaderConfig, Part, Point, Source, SourceError, Target, TargetKind,
};
use fullbore_feed::{Buffer, Fed, FeedError, Finish, Landmarks, Normalize, OnDevice, Stage, StageConfig};
use fullbore_governor::buffer::BufferPlan;
use fullbore_torch::{Device, Tensor};
use fullbore_types::{Position, SampleId, Size};

const SIDE: u32 = 16;
const SIZE: Size = Size { width: SIDE, height: SIDE };
const MEAN: [f32; 3] = [0.5, 0.4, 0.3];
const STD: [f32; 3] = [0.25, 0.2, 0.3];

/// Pictures that are made when they are read, each with one point.
struct Made {
    points: Vec<[Point; 1]>,
    /// A picture that cannot be read.
    broken: Option<u32>,
}

impl Made {
    fn new(n: u32, broken: Option<u32>) -> Arc<Self> {
        let points = (0..n).map(|i| [Point::visible((i % SIDE) as f32, 7.0)]).collect();
        Arc::new(Self { points, broken })
    }
}

impl Source for Made {
    fn len(&self) -> usize {
        self.points.len()
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Points { k: 1 }
    }

    fn name(&self, id: SampleId) -> String {
        id.0.to_string()
    }

    fn file(&self, id: SampleId, _: Part) -> PathBuf {
        id.0.to_string().into()
    }

    fn read(&self, id: SampleId, _: Part, _: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        bytes.clear();
        if self.broken != Some(id.0) {
            // A bitmap: header, then rows from the bottom, blue before red.
            let pixels = 3 * SIDE * SIDE;
            bytes.extend(b"BM");
            let header = [54 + pixels, 0, 54, 40, SIDE, SIDE, 1 | 24 << 16, 0, pixels, 0, 0, 0, 0];
            bytes.extend(header.iter().flat_map(|word| word.to_le_bytes()));
            bytes.extend((0..pixels).map(|i| (i * 5 + 31 * id.0) as u8));
        }
        Ok(())
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        Target::Points(&self.points[id.0 as usize])
    }
}

fn loader(source: Arc<Made>) -> Loader {
    let config = LoaderConfig {
        epochs: 2,
        // Batches that wait hold the loader's own memory.
        prefetch: 8,
        faults: FaultPolicy { max_bad: 0, ..FaultPolicy::default() },
        ..LoaderConfig::new(3, SIZE, None)
    };
    Loader::start(source, config, Position::default()).unwrap()
}

fn config(hands_over: bool, preset: Preset) -> StageConfig {
    let policy = AugmentConfig { flip_pairs: Some(vec![]), ..AugmentConfig::of(preset) };
    let policy = Arc::new(policy.resolve(SIZE, SIZE, Some(1)).unwrap());
    let on = OnDevice { policy, seed: 3, mean: MEAN.to_vec(), std: STD.to_vec() };
    let augment = (preset != Preset::None).then_some(on);
    StageConfig { data: Device::Cpu, model: Device::Cpu, hands_over, augment }
}

fn finish(config: &StageConfig) -> Finish {
    let twin = config.augment.as_ref().map(|on| on.twin(Device::Cpu).unwrap());
    let landmarks = Landmarks::new(None, &[1.0], &[1.0], SIZE, SIZE, Device::Cpu).unwrap();
    Finish { normalize: Normalize::new(&MEAN, &STD, Device::Cpu).unwrap(), twin, landmarks: Some(landmarks) }
}

fn images(fed: &Fed, finish: &Finish) -> Tensor {
    fed.batch.finish(0..fed.batch.len(), finish).unwrap().images
}

fn buffer(source: Arc<Made>, config: StageConfig, size: usize) -> Buffer {
    Buffer::start(loader(source), config, BufferPlan { size, bytes: 1 << 30, cut: false }).unwrap()
}

#[test]
fn a_buffer_of_any_size_gives_what_the_stage_gives() {
    let (config, source) = (config(false, Preset::Strong), Made::new(8, None));
    let (stage, finish) = (Stage::new(&config).unwrap(), finish(&config));
    let direct: Vec<_> = loader(source.clone())
        .map(|batch| {
            let batch = Arc::new(batch.unwrap());
            (
                stage.bring(&batch).unwrap().finish(0..batch.len(), &finish).unwrap().images,
                batch.next_position(),
            )
        })
        .collect();
    assert_eq!(direct.len(), 6);
    for size in [1, 2, 50] {
        let mut buffer = buffer(source.clone(), config.clone(), size);
        for (expected, next) in &direct {
            let fed = buffer.next().unwrap().unwrap();
            assert!(images(&fed, &finish).equal(expected).unwrap(), "buffer of {size}");
            assert_eq!(fed.next, *next);
        }
        assert!(buffer.next().is_none());
    }
}

#[test]
fn a_buffer_fills_up_waits_and_ends_with_its_owner() {
    let mut buffer = buffer(Made::new(60, None), config(false, Preset::None), 4);
    let wait_full = |buffer: &Buffer| {
        while !buffer.level().full {
            std::thread::yield_now();
        }
        buffer.level().waiting
    };
    assert_eq!(wait_full(&buffer), 4);
    buffer.next().unwrap().unwrap();
    assert_eq!(wait_full(&buffer), 4);
    // The thread waits for room now, and dropping must free it.
    drop(buffer);
}

#[test]
fn a_fault_comes_after_the_batches_before_it_and_ends_the_feed() {
    let mut buffer = buffer(Made::new(30, Some(17)), config(false, Preset::None), 2);
    let mut good = 0;
    let fault = loop {
        match buffer.next().expect("the fault comes before the end") {
            Ok(_) => good += 1,
            Err(fault) => break fault,
        }
    };
    assert!(matches!(fault, FeedError::Data(_)), "{fault}");
    assert!(good < 20, "the bad one is in the first epoch");
    assert!(buffer.next().is_none());
}

#[test]
fn a_stage_that_fails_is_heard() {
    // The policy's pair names a landmark that the source does not have.
    let mut config = config(false, Preset::Minimal);
    let pairs = AugmentConfig { flip_pairs: Some(vec![[0, 1]]), ..AugmentConfig::of(Preset::Minimal) };
    config.augment.as_mut().unwrap().policy = Arc::new(pairs.resolve(SIZE, SIZE, Some(2)).unwrap());
    let mut buffer = buffer(Made::new(6, None), config, 2);
    assert!(matches!(buffer.next(), Some(Err(FeedError::Torch(_)))));
    assert!(buffer.next().is_none());
}

#[test]
fn what_is_handed_over_in_bytes_is_what_would_have_been_finished_here() {
    let source = Made::new(9, None);
    let (here, there) = (config(false, Preset::Strong), config(true, Preset::Strong));
    let (finish_here, finish_there) = (finish(&here), finish(&there));
    let (mut here, mut there) = (buffer(source.clone(), here, 2), buffer(source, there, 2));
    while let (Some(a), Some(b)) = (here.next(), there.next()) {
        let (a, b) = (a.unwrap(), b.unwrap());
        let difference = images(&a, &finish_here).sub(&images(&b, &finish_there)).unwrap().max_abs().unwrap();
        // Half a byte's step, seen through the smallest std.
        assert!(difference <= 0.501 / 255.0 / 0.2, "{difference}");
    }
}
