//! A whole set: where it goes, and the threads that make it.

use std::fs::{self, Permissions};
use std::io;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use serde::Serialize;
use tempfile::TempDir;

use super::config::{ConfigError, Split, WatermarkConfig};
use super::manifest::{Counts, MANIFEST_FILE, Manifest};
use super::photos::Photos;
use super::render::render;
use crate::SynthError;

/// What [`generate`] did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// True when a set made with the same settings was found, and nothing was done.
    pub already_there: bool,
    /// Folder of the set, absolute.
    pub output: PathBuf,
    /// The set's manifest: settings, counts, photos passed over.
    pub manifest: Manifest,
}

/// Makes a set in `output`: `train/images/train-000000.jpg`, `train/masks/train-000000.png` and so on, the same for
/// `val` and `test`, and [`MANIFEST_FILE`].
///
/// Images are JPEG of a quality from 50 to 95, masks are 8-bit gray PNG of 0 and 255. All cores take part; the
/// files are the same for any number of them. They are written to a hidden folder beside `output`, which takes
/// that name when all is done: of a process that is killed, only the hidden folder `.NAME.*.tmp` may remain.
/// (Nothing is synced to disk: after a power cut, make the set anew.) An empty folder at `output` is replaced.
/// Of two processes that make the same set at once, the second to finish finds it already there.
///
/// `on_progress` is called on this thread after each image, with the images done and the images in all, and may
/// end the work with `ControlFlow::Break`.
///
/// # Errors
/// When settings cannot work, `output` holds anything but this very set, photos are missing or unreadable, the
/// disk refuses, or `on_progress` ends the work. In each case nothing is left behind.
pub fn generate(
    config: &WatermarkConfig,
    output: &Path,
    on_progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Report, SynthError> {
    let n_threads = thread::available_parallelism().map_or(1, NonZero::get);
    generate_on(n_threads, config, output, on_progress)
}

fn generate_on(
    n_threads: usize,
    config: &WatermarkConfig,
    output: &Path,
    on_progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Report, SynthError> {
    config.check()?;
    let config = WatermarkConfig { photos: absolute_photos(config)?, ..config.clone() };
    let place = Place::find(output)?;
    let photos =
        config.photos.as_ref().map(|folder| Photos::list(folder, &place.path, &config)).transpose()?;
    let mut manifest = Manifest::new(config, photos.as_ref().map(Photos::found));
    if let Some(manifest) = place.holds(&manifest)? {
        return Ok(Report { already_there: true, output: place.path, manifest });
    }
    let draft = place.draft()?;
    manifest.clean = make_images(n_threads, &manifest.settings, photos.as_ref(), draft.path(), on_progress)?;
    manifest.skipped_photos = photos.as_ref().map(Photos::skipped).unwrap_or_default();
    let text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain text and numbers");
    write(&draft.path().join(MANIFEST_FILE), (text + "\n").as_bytes())?;
    place.publish(draft, manifest)
}

/// The folder of photos as the manifest keeps it: the same from wherever it is named.
fn absolute_photos(config: &WatermarkConfig) -> Result<Option<PathBuf>, SynthError> {
    let Some(folder) = &config.photos else { return Ok(None) };
    let path = fs::canonicalize(folder)
        .map_err(|source| SynthError::PhotosUnreadable { path: folder.clone(), source })?;
    if path.to_str().is_none() {
        let value = path.display().to_string();
        return Err(ConfigError { key: "photos", value, allowed: "paths in valid UTF-8".into() }.into());
    }
    Ok(Some(path))
}

/// Where a set goes.
struct Place {
    /// Its folder, absolute, which need not exist.
    path: PathBuf,
    /// The folder above, which need not exist either.
    parent: PathBuf,
}

impl Place {
    fn find(output: &Path) -> Result<Self, SynthError> {
        let failed = |source| write_error(output, source);
        let path = match fs::canonicalize(output) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::path::absolute(output).map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        match path.parent() {
            Some(parent) => Ok(Place { parent: parent.into(), path }),
            None => Err(SynthError::OutputExists { path, reason: "it is the root of all folders".into() }),
        }
    }

    /// The manifest of the set that lies there, if it was made as `wanted` says; `None` when nothing lies there.
    ///
    /// # Errors
    /// When anything else lies there.
    fn holds(&self, wanted: &Manifest) -> Result<Option<Manifest>, SynthError> {
        let taken = |reason: String| SynthError::OutputExists { path: self.path.clone(), reason };
        let failed = |source| write_error(&self.path, source);
        let mut entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) if self.path.is_file() => return Err(taken("it is a file".into())),
            Err(error) => return Err(failed(error)),
        };
        if entries.next().is_none() {
            return match std::env::current_dir().is_ok_and(|here| here == self.path) {
                true => Err(SynthError::OutputIsWorkingFolder { path: self.path.clone() }),
                false => Ok(None),
            };
        }
        let Some(there) = Manifest::read(&self.path).map_err(failed)? else {
            return Err(taken("it holds files that are no complete set of this kind".into()));
        };
        match wanted.difference(&there) {
            Some(difference) => Err(taken(format!("it holds a set made with other settings: {difference}"))),
            None => Ok(Some(there)),
        }
    }

    /// A new hidden folder beside the place, removed when dropped. Makes the folders above if they are missing.
    fn draft(&self) -> Result<TempDir, SynthError> {
        let failed = |source| write_error(&self.parent, source);
        fs::create_dir_all(&self.parent).map_err(failed)?;
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(self.path.file_name().unwrap_or_default());
        prefix.push(".");
        tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".tmp")
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(&self.parent)
            .map_err(failed)
    }

    /// Gives a finished draft its place, unless another process was first.
    fn publish(self, draft: TempDir, manifest: Manifest) -> Result<Report, SynthError> {
        let Err(source) = fs::rename(draft.path(), &self.path) else {
            // It is no longer where the handle would remove it.
            let _ = draft.keep();
            return Ok(Report { already_there: false, output: self.path, manifest });
        };
        match self.holds(&manifest)? {
            Some(manifest) => Ok(Report { already_there: true, output: self.path, manifest }),
            None => Err(write_error(&self.path, source)),
        }
    }
}

/// Renders and writes every image and mask below `folder`, and counts the clean ones.
fn make_images(
    n_threads: usize,
    config: &WatermarkConfig,
    photos: Option<&Photos>,
    folder: &Path,
    on_progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Counts, SynthError> {
    for split in Split::ALL.into_iter().filter(|&split| config.count(split) > 0) {
        for part in ["images", "masks"] {
            let path = folder.join(split.name()).join(part);
            fs::create_dir_all(&path).map_err(|source| write_error(&path, source))?;
        }
    }
    let total: u64 = Split::ALL.iter().map(|&split| u64::from(config.count(split))).sum();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let work = |sender: mpsc::Sender<Result<(Split, bool), SynthError>>| {
        while !stop.load(Ordering::Relaxed)
            && let Some((split, index)) = job(config, next.fetch_add(1, Ordering::Relaxed))
        {
            let made = make_image(config, photos, folder, split, index);
            if sender.send(made.map(|is_clean| (split, is_clean))).is_err() {
                break;
            }
        }
    };
    thread::scope(|scope| {
        let (sender, made) = mpsc::channel();
        for i in 0..n_threads.max(1) {
            let sender = sender.clone();
            let started =
                thread::Builder::new().name(format!("synth-{i}")).spawn_scoped(scope, || work(sender));
            match started {
                Ok(_) => {}
                // Fewer threads make the same set.
                Err(_) if i > 0 => break,
                Err(source) => return Err(SynthError::Thread { source }),
            }
        }
        drop(sender);
        let mut clean = Counts::default();
        let outcome = made.iter().zip(1..).try_for_each(|(made, done)| {
            let (split, is_clean) = made?;
            *clean.of_mut(split) += u32::from(is_clean);
            match on_progress(done, total) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(SynthError::Stopped),
            }
        });
        stop.store(true, Ordering::Relaxed);
        outcome.map(|()| clean)
    })
}

/// Split and index of the n-th image of the set; `None` when there are fewer.
fn job(config: &WatermarkConfig, mut n: u64) -> Option<(Split, u32)> {
    for split in Split::ALL {
        let count = u64::from(config.count(split));
        if n < count {
            return Some((split, n as u32));
        }
        n -= count;
    }
    None
}

/// Writes one image and its mask; true when the mask is empty.
fn make_image(
    config: &WatermarkConfig,
    photos: Option<&Photos>,
    folder: &Path,
    split: Split,
    index: u32,
) -> Result<bool, SynthError> {
    let rendered = render(config, photos, split, index)?;
    let folder = folder.join(split.name());
    let stem = format!("{}-{index:06}", split.name());
    write(&folder.join("images").join(format!("{stem}.jpg")), &rendered.jpeg)?;
    write(&folder.join("masks").join(format!("{stem}.png")), &rendered.png)?;
    Ok(rendered.is_clean)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), SynthError> {
    fs::write(path, bytes).map_err(|source| write_error(path, source))
}

fn write_error(path: &Path, source: io::Error) -> SynthError {
    let path = path.into();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SynthError::DiskFull { path, source },
        _ => SynthError::Write { path, source },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;
    use std::sync::Barrier;

    use fullbore_data::decode::{DecodeScratch, Picture, Wanted};
    use fullbore_data::source::{PairFolders, Part, Source};
    use fullbore_data::{CanvasSize, DecodeLimits};
    use fullbore_types::{SampleId, Size};
    use miette::Diagnostic;
    use proptest::prelude::*;

    use super::super::config::{Blend, Style};
    use super::*;

    fn small() -> WatermarkConfig {
        let size = CanvasSize { height: 48, width: 64 };
        WatermarkConfig { seed: 4, train: 7, val: 3, test: 2, size, clean: 0.3, ..WatermarkConfig::default() }
    }

    fn make(n_threads: usize, config: &WatermarkConfig, output: &Path) -> Result<Report, SynthError> {
        generate_on(n_threads, config, output, &mut |_, _| ControlFlow::Continue(()))
    }

    /// Every file below a folder by its path within it.
    fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => {
                        let name = path.strip_prefix(folder).unwrap().to_path_buf();
                        files.insert(name, fs::read(path).unwrap());
                    }
                }
            }
        }
        files
    }

    fn is_image(name: &Path) -> bool {
        name.extension().is_some_and(|ending| ending == "jpg")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn decode(bytes: &[u8], file: &Path, wanted: Wanted) -> (Size, Vec<u8>) {
        let picture = Picture::open(bytes, file, wanted, &DecodeLimits::default()).unwrap();
        let size = picture.size();
        let mut pixels = vec![0; picture.n_bytes()];
        picture.read(&mut pixels, &mut DecodeScratch::default()).unwrap();
        (size, pixels)
    }

    #[test]
    fn the_files_are_the_same_for_any_number_of_threads_and_differ_by_seed_split_and_index() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        let one = make(1, &small(), &a).unwrap();
        let three = make(3, &small(), &b).unwrap();
        assert_eq!(one.manifest, three.manifest);
        let (one, three) = (files(&a), files(&b));
        assert_eq!(one.len(), 2 * 12 + 1);
        assert!(one == three);

        make(2, &WatermarkConfig { seed: 5, ..small() }, &c).unwrap();
        let other = files(&c);
        let images: Vec<_> = one.iter().filter(|(name, _)| is_image(name)).collect();
        assert_eq!(images.len(), 12);
        assert!(images.iter().all(|(name, bytes)| other[*name] != **bytes));
        assert!((0..12).all(|i| (0..i).all(|j| images[i].1 != images[j].1)));
    }

    #[test]
    fn a_training_set_can_be_read_as_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("set");
        let report = make(2, &small(), &output).unwrap();
        assert!(!report.already_there);
        for (split, count, clean) in [
            ("train", 7, report.manifest.clean.train),
            ("val", 3, report.manifest.clean.val),
            ("test", 2, report.manifest.clean.test),
        ] {
            let source = PairFolders::open(&output.join(split)).unwrap();
            assert_eq!(source.len(), count);
            let mut empty = 0;
            for id in (0..count as u32).map(SampleId) {
                let read = |part, wanted| {
                    let mut bytes = Vec::new();
                    source.read(id, part, 1 << 20, &mut bytes).unwrap();
                    decode(&bytes, &source.file(id, part), wanted)
                };
                let (image, mask) = (read(Part::Image, Wanted::Rgb), read(Part::Target, Wanted::Mask));
                assert_eq!((image.0, mask.0), (Size::new(64, 48), Size::new(64, 48)));
                assert!(mask.1.iter().all(|value| [0, 255].contains(value)));
                empty += u32::from(mask.1.iter().all(|value| *value == 0));
            }
            assert_eq!(empty, clean, "{split}");
        }
        let text = fs::read_to_string(output.join(MANIFEST_FILE)).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), report.manifest);
        let mode = fs::metadata(&output).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, fs::metadata(output.join("val")).unwrap().permissions().mode() & 0o777);
    }

    #[test]
    fn splits_without_images_have_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("a/b/set");
        make(1, &WatermarkConfig { val: 1, train: 0, test: 0, ..small() }, &output).unwrap();
        assert_eq!(names(&output), ["manifest.json", "val"]);
    }

    #[test]
    fn the_same_set_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("set");
        make(1, &small(), &output).unwrap();
        let made = fs::metadata(output.join(MANIFEST_FILE)).unwrap().modified().unwrap();
        let mut calls = 0;
        let again = generate(&small(), &output, &mut |_, _| {
            calls += 1;
            ControlFlow::Continue(())
        });
        assert!(again.unwrap().already_there);
        assert_eq!(calls, 0);
        assert_eq!(fs::metadata(output.join(MANIFEST_FILE)).unwrap().modified().unwrap(), made);
    }

    #[test]
    fn an_empty_folder_is_replaced_and_anything_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let reason = |config: &WatermarkConfig, output: &Path| {
            let before = files(folder.path());
            let error = make(1, config, output).unwrap_err();
            assert_eq!(error.code().unwrap().to_string(), "config::synth::output_exists");
            assert!(error.help().unwrap().to_string().contains("rm -r"));
            assert!(before == files(folder.path()));
            error.to_string().rsplit_once(" is taken: ").unwrap().1.to_owned()
        };
        let empty = folder.path().join("empty");
        fs::create_dir(&empty).unwrap();
        make(1, &small(), &empty).unwrap();
        let other = WatermarkConfig { clean: 0.25, ..small() };
        assert_eq!(
            reason(&other, &empty),
            "it holds a set made with other settings: clean is 0.3 there and 0.25 here"
        );
        fs::remove_file(empty.join(MANIFEST_FILE)).unwrap();
        assert_eq!(reason(&small(), &empty), "it holds files that are no complete set of this kind");
        fs::write(empty.join(MANIFEST_FILE), "{}").unwrap();
        assert_eq!(reason(&small(), &empty), "it holds files that are no complete set of this kind");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(reason(&small(), &file), "it is a file");
    }

    #[test]
    fn two_that_make_the_same_set_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("set");
        let start = Barrier::new(2);
        // Both are past the look at `output` before either has finished.
        let run = || {
            let mut first = true;
            generate_on(1, &small(), &output, &mut |_, _| {
                if std::mem::take(&mut first) {
                    start.wait();
                }
                ControlFlow::Continue(())
            })
        };
        let reports = thread::scope(|scope| {
            [scope.spawn(run), scope.spawn(run)].map(|thread| thread.join().unwrap().unwrap())
        });
        assert_eq!(reports.iter().filter(|report| report.already_there).count(), 1);
        assert_eq!(reports[0].manifest, reports[1].manifest);
        assert_eq!(names(folder.path()), ["set"]);
    }

    #[test]
    fn stopping_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        let error = generate(&small(), &folder.path().join("set"), &mut |done, total| {
            seen.push((done, total));
            if done == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(error, Err(SynthError::Stopped)));
        assert_eq!(seen, [(1, 12), (2, 12), (3, 12)]);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_parent_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = make(1, &small(), &folder.path().join("file/set")).unwrap_err();
        assert_eq!(error.code().unwrap().to_string(), "output::synth");
        assert!(error.to_string().contains("file"), "{error}");

        fs::set_permissions(folder.path(), Permissions::from_mode(0o555)).unwrap();
        let error = make(1, &small(), &folder.path().join("set"));
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        match error {
            Ok(_) => eprintln!("SKIPPED: this user may write everywhere (root)"),
            Err(error) => assert!(error.to_string().contains("Permission denied"), "{error}"),
        }
    }

    #[test]
    fn a_full_disk_leaves_nothing_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let on_disk = |action: &str, options: &[&str]| {
            Command::new(action).args(options).arg(folder.path()).output().is_ok_and(|o| o.status.success())
        };
        if !on_disk("mount", &["-t", "tmpfs", "-o", "size=48k", "tmpfs"]) {
            eprintln!("SKIPPED: mounting a tiny disk needs root");
            return;
        }
        let result = make(2, &WatermarkConfig { train: 100, ..small() }, &folder.path().join("set"));
        let left = names(folder.path());
        on_disk("umount", &[]);
        let error = result.unwrap_err();
        assert_eq!(error.code().unwrap().to_string(), "limit::disk");
        assert!(error.to_string().contains(".set."), "{error}");
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn photos_lie_under_the_marks_and_none_is_in_two_splits() {
        let folder = tempfile::tempdir().unwrap();
        let photos = folder.path().join("photos");
        fs::create_dir_all(photos.join("deeper")).unwrap();
        // Plain grays: what an image shows tells which photo it is of.
        for i in 0..8u8 {
            let name = if i % 2 == 0 { format!("deeper/{i}.png") } else { format!("{i}.png") };
            let mut encoder = png::Encoder::new(fs::File::create(photos.join(name)).unwrap(), 40, 30);
            encoder.set_color(png::ColorType::Grayscale);
            encoder.write_header().unwrap().write_image_data(&[i * 30 + 10; 1200]).unwrap();
        }
        fs::write(photos.join("broken.jpg"), "no photo").unwrap();
        fs::write(photos.join(".hidden.jpg"), "no photo").unwrap();
        fs::write(photos.join("notes.txt"), "no photo").unwrap();
        // The set lies among the photos, and is none.
        let output = photos.join("set");
        let config = WatermarkConfig {
            photos: Some(photos.clone()),
            clean: 1.0,
            train: 16,
            val: 8,
            test: 8,
            ..small()
        };
        let report = make(2, &config, &output).unwrap();
        assert_eq!(report.manifest.photos_found, Some(9));
        let skipped = &report.manifest.skipped_photos;
        assert!(skipped.len() == 1 && skipped[0].contains("broken.jpg is not an image"), "{skipped:?}");
        let mut seen: BTreeMap<u8, String> = BTreeMap::new();
        for (name, bytes) in files(&output).into_iter().filter(|(name, _)| is_image(name)) {
            let photo = decode(&bytes, &name, Wanted::Gray).1[0] / 30;
            let split = name.iter().next().unwrap().to_str().unwrap();
            assert_eq!(seen.entry(photo).or_insert(split.into()), split, "photo {photo}");
        }
        assert_eq!(seen.len(), 8);
        assert!(make(1, &config, &output).unwrap().already_there);
        fs::remove_file(photos.join("1.png")).unwrap();
        let error = make(1, &config, &output).unwrap_err().to_string();
        assert!(error.ends_with("number of photos is 9 there and 8 here"), "{error}");
    }

    #[test]
    fn folders_without_usable_photos_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let photos = folder.path().join("photos");
        let config = WatermarkConfig { photos: Some(photos.clone()), ..small() };
        let refused = || {
            let error = make(1, &config, &folder.path().join("set")).unwrap_err();
            assert!(names(folder.path()).len() <= 1);
            error.code().unwrap().to_string()
        };
        assert_eq!(refused(), "data::synth::photos");
        fs::create_dir(&photos).unwrap();
        assert_eq!(refused(), "data::synth::no_photos");
        fs::write(photos.join("a.jpg"), "").unwrap();
        fs::write(photos.join("b.jpg"), "").unwrap();
        assert_eq!(refused(), "data::synth::few_photos");
        fs::write(photos.join("c.jpg"), "").unwrap();
        assert_eq!(refused(), "data::synth::no_readable_photo");
    }

    #[test]
    fn real_photos_make_a_set() {
        let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
        let data = std::env::var_os("FULLBORE_TEST_DATA").map_or(beside, PathBuf::from);
        let photos = data.join("faces");
        if !photos.is_dir() {
            eprintln!("SKIPPED: no {}", photos.display());
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = WatermarkConfig { photos: Some(photos), ..small() };
        let report = make(2, &config, &folder.path().join("set")).unwrap();
        assert!(report.manifest.photos_found.unwrap() > 10);
        assert!(report.manifest.skipped_photos.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_allowed_setting_makes_a_picture(
            seed: u64,
            height in 32u32..140,
            width in 32u32..140,
            opacity in (0.01..1.0, 0.01..1.0),
            letters in (0.001..1.0, 0.001..1.0),
            style in 0usize..4,
            blend in 0usize..3,
            split in 0usize..3,
            index: u32,
        ) {
            let sorted = |(a, b): (f64, f64)| [a.min(b), a.max(b)];
            let config = WatermarkConfig {
                seed,
                size: CanvasSize { height, width },
                clean: 0.0,
                opacity: sorted(opacity),
                height: sorted(letters),
                styles: vec![[Style::Single, Style::Corner, Style::Diagonal, Style::Tiled][style]],
                blends: vec![[Blend::Normal, Blend::Multiply, Blend::Overlay][blend]],
                ..WatermarkConfig::default()
            };
            config.check().unwrap();
            let rendered = render(&config, None, Split::ALL[split], index).unwrap();
            let image = decode(&rendered.jpeg, Path::new("x"), Wanted::Rgb);
            prop_assert_eq!(image.0, Size::new(width, height));
            let mask = decode(&rendered.png, Path::new("x"), Wanted::Mask).1;
            prop_assert_eq!(rendered.is_clean, mask.iter().all(|value| *value == 0));
        }
    }
}
