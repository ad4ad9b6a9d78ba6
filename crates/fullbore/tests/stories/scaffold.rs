//! A folder of its own for every story, toy pictures in it, and a way to run the command there.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use serde_json::Value;

/// Longer than any story takes, also on a busy machine: reaching it means that the command hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// A temporary folder; the command runs in it, so that its default `runs/` lands there too.
pub(crate) struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A scene with `n` pairs of blobs in `data/`.
    pub(crate) fn with_blobs(n: u32) -> Self {
        let scene = Self::new();
        for index in 0..n {
            scene.add_blob(index, 32, 32);
        }
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Folder of the run that [`train`](Self::train) names.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    pub(crate) fn image(&self, index: u32) -> PathBuf {
        self.path(&format!("data/images/{index:02}.png"))
    }

    pub(crate) fn mask(&self, index: u32) -> PathBuf {
        self.path(&format!("data/masks/{index:02}.png"))
    }

    /// Writes one pair to `data/`.
    pub(crate) fn add_blob(&self, index: u32, width: u32, height: u32) {
        for folder in ["data/images", "data/masks"] {
            fs::create_dir_all(self.path(folder)).unwrap();
        }
        let (image, mask) = blob(index, width, height);
        image.save_with_format(self.image(index), ImageFormat::Png).unwrap();
        mask.save_with_format(self.mask(index), ImageFormat::Png).unwrap();
    }

    /// `fullbore ARGS` in this folder.
    pub(crate) fn fullbore(&self, args: &[&str]) -> Outcome {
        self.start(args).finish()
    }

    /// `fullbore train` on `data/` into `run/` with a tiny network, and `sets` over that.
    pub(crate) fn train(&self, sets: &[&str]) -> Outcome {
        self.start_training(sets).finish()
    }

    pub(crate) fn start_training(&self, sets: &[&str]) -> Running {
        let all = settings(sets);
        let mut args = vec!["train", "--json"];
        args.extend(all.iter().flat_map(|set| ["--set", set]));
        self.start(&args)
    }

    /// `fullbore train --resume RUN`, under way.
    pub(crate) fn resume(&self, run: &str) -> Running {
        self.start(&["train", "--json", "--resume", run])
    }

    fn start(&self, args: &[&str]) -> Running {
        let child = Command::new(binary())
            .args(args)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running::watch(child)
    }
}

/// The settings of [`Scene::train`]: the toy task, then `sets`.
pub(crate) fn settings(sets: &[&str]) -> Vec<String> {
    let toy = [
        "data.train=data",
        "data.size=32",
        "run.dir=run",
        "run.epochs=2",
        "run.log_every=1",
        "model.base=4",
        "model.depth=2",
        "batch.size=4",
        "optimizer.lr=0.01",
        "schedule.warmup_steps=2",
    ];
    toy.into_iter().map(String::from).chain([device()]).chain(sets.iter().map(|s| s.to_string())).collect()
}

/// The setting that names the device of all stories.
pub(crate) fn device() -> String {
    format!("device={}", std::env::var("FULLBORE_TEST_DEVICE").as_deref().unwrap_or("cpu"))
}

fn binary() -> PathBuf {
    let other = std::env::var_os("FULLBORE_BIN").filter(|path| !path.is_empty());
    let path = PathBuf::from(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_fullbore").into()));
    // The command runs in another folder.
    fs::canonicalize(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A bright disc on a dark, noisy ground, and its mask of 0 and 255.
pub(crate) fn blob(index: u32, width: u32, height: u32) -> (RgbImage, GrayImage) {
    let mut state = u64::from(index) * 977 + 5;
    let mut next = |range: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % range
    };
    let short = width.min(height);
    let radius = short / 8 + next(short / 6);
    let (cx, cy) = (radius + next(width - 2 * radius), radius + next(height - 2 * radius));
    let inside = |x: u32, y: u32| x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) <= radius.pow(2);
    let mask = GrayImage::from_fn(width, height, |x, y| Luma([if inside(x, y) { 255 } else { 0 }]));
    let image = RgbImage::from_fn(width, height, |x, y| {
        let ground: u8 = if inside(x, y) { 190 } else { 40 };
        Rgb([0, 10, 20].map(|tint| ground + tint + next(30) as u8))
    });
    (image, mask)
}

/// A command under way. Its standard error is read all the time, so that it never waits for this process.
pub(crate) struct Running {
    pid: u32,
    lines: mpsc::Receiver<String>,
    end: mpsc::Receiver<(Option<i32>, String)>,
    seen: Vec<String>,
}

impl Running {
    fn watch(mut child: Child) -> Self {
        let pid = child.id();
        let (mut stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            for text in BufReader::new(stderr).lines() {
                // The story may be over already.
                let _ = line.send(text.unwrap());
            }
        });
        let (ended, end) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            let code = child.wait().unwrap().code();
            let _ = ended.send((code, text));
        });
        Self { pid, lines, end, seen: Vec::new() }
    }

    /// Waits until a line of standard error starts with `start`.
    pub(crate) fn wait_for(&mut self, start: &str) {
        while !self.seen.last().is_some_and(|line| line.starts_with(start)) {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(_) => self.give_up(&format!("no line `{start}...` came")),
            }
        }
    }

    /// Sends a signal by name: `INT`, `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.pid);
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Outcome {
        let Ok((code, stdout)) = self.end.recv_timeout(PATIENCE) else { self.give_up("no end came") };
        // The other end is closed, so this ends as well.
        self.seen.extend(self.lines.iter());
        Outcome { code, stdout, stderr: self.seen.join("\n") }
    }

    fn give_up(&mut self, what: &str) -> ! {
        self.signal("KILL");
        panic!("{what} within {PATIENCE:?}; so far: {:#?}", self.seen)
    }
}

/// What came out of a command.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// This outcome, after a check that the command succeeded.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// The machine-readable summary, the last line of standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Checks that the command ended with `code` and told it in `error:` and `next:` lines which hold all of `words`,
    /// without the machinery showing through.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self}");
        assert_eq!(self.stdout, "", "{self}");
        let at = self.stderr.lines().position(|line| line.starts_with("error: "));
        let lines: Vec<&str> = self.stderr.lines().skip(at.expect("no error line")).collect();
        let told = lines.join("\n");
        assert!(lines.last().is_some_and(|line| line.starts_with("  next: ")), "nothing to do next: {self}");
        for word in words {
            assert!(told.contains(word), "`{word}` is not told: {self}");
        }
        for noise in ["panicked", "RUST_BACKTRACE", "stack backtrace", "frame #", "Os {", "Some("] {
            assert!(!self.stderr.contains(noise), "`{noise}`: {self}");
        }
    }

    /// [`failed`](Self::failed), and refused so early that `scene` holds no run folder.
    #[track_caller]
    pub(crate) fn refused(&self, scene: &Scene, code: i32, words: &[&str]) {
        self.failed(code, words);
        for folder in ["run", "runs"] {
            assert!(!scene.path(folder).exists(), "{folder} is left behind: {self}");
        }
        assert_eq!(self.stderr.lines().filter(|line| !line.starts_with("  ")).count(), 1, "{self}");
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// Every event of a run, in order.
pub(crate) fn events(run_dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run_dir.join("events.jsonl")).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The events of one kind.
pub(crate) fn events_of(run_dir: &Path, kind: &str) -> Vec<Value> {
    events(run_dir).into_iter().filter(|event| event["event"] == kind).collect()
}

/// The losses of all steps with their step number, exactly as written.
pub(crate) fn losses(run_dir: &Path) -> Vec<(u64, String)> {
    let steps = events_of(run_dir, "step");
    steps.iter().map(|step| (step["step"].as_u64().unwrap(), step["loss"].to_string())).collect()
}

/// All tensors of a checkpoint of a run, by name.
pub(crate) fn tensors(run_dir: &Path, which: &str) -> impl Iterator<Item = (String, Vec<u8>)> + use<> {
    let path = run_dir.join(format!("checkpoints/{which}.safetensors"));
    let checkpoint = fullbore_checkpoint::read(&path).unwrap();
    checkpoint.tensors.into_iter().map(|(name, tensor)| (name, tensor.bytes.into_owned()))
}
