//! What the user sees while a run goes on: one live line on a terminal, plain lines elsewhere. Standard output
//! stays free for the result.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, SystemTime},
};

use fullbore_events::{CheckpointKind, Event, OutOfMemoryAt, PerClass, Record, RunStatus, Sink};
use unicode_width::UnicodeWidthChar;

use crate::render::printable;
use crate::weights_line::weights_line;

/// How steps are shown. Everything else is a line that stays, in both.
#[derive(Clone, Copy, Debug)]
pub enum View {
    /// One line that is rewritten, cut to the terminal's width.
    Live {
        /// Looks up the terminal's width in columns.
        columns: fn() -> usize,
    },
    /// A line now and then.
    Plain,
}

impl View {
    /// Shortest time between two lines for steps.
    fn interval(self) -> Duration {
        match self {
            View::Live { .. } => Duration::from_millis(100),
            View::Plain => Duration::from_secs(10),
        }
    }
}

/// A sink that shows events to a person. What cannot be written is dropped: a closed terminal stops no run.
///
/// The live line is erased when the run finishes or the value is dropped, so that what is printed next starts
/// on a clean line.
#[derive(Debug)]
pub struct Progress<W: Write> {
    out: W,
    view: View,
    live_line: bool,
    totals: Totals,
    shown_at: Option<SystemTime>,
    /// Time and number of the first step seen, to tell the pace.
    first_step: Option<(SystemTime, u64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    epochs: u64,
    steps: u64,
    n_val: u64,
}

impl Totals {
    /// How much of the validation set was scored, when that is not all of it.
    fn part_of_val(&self, images: u64) -> String {
        let part = (1..self.n_val).contains(&images);
        if part { format!(" on {images} of {} images", self.n_val) } else { String::new() }
    }
}

impl Progress<std::io::Stderr> {
    /// Shows progress on standard error, live when that is a terminal that can rewrite a line.
    pub fn on_stderr() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let live = std::io::stderr().is_terminal() && !dumb;
        Self::new(std::io::stderr(), if live { View::Live { columns: stderr_columns } } else { View::Plain })
    }
}

impl<W: Write> Progress<W> {
    /// Shows progress on `out`.
    pub fn new(out: W, view: View) -> Self {
        Self { out, view, live_line: false, totals: Totals::default(), shown_at: None, first_step: None }
    }

    /// Writes a line that stays.
    fn line(&mut self, text: &str) {
        self.erase_live_line();
        self.write(&format!("{}\n", printable(text)));
    }

    fn erase_live_line(&mut self) {
        if std::mem::take(&mut self.live_line) {
            self.write("\r\x1b[2K");
        }
    }

    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    fn step(&mut self, record: &Record, step: u64, text: impl FnOnce(&Totals, &str) -> String) {
        let &mut (first_time, first_step) = self.first_step.get_or_insert((record.time, step));
        if self.shown_at.is_some_and(|shown| record.since(shown) < self.view.interval()) {
            return;
        }
        self.shown_at = Some(record.time);
        let steps_seen = step.saturating_sub(first_step);
        let eta = match steps_seen {
            0 => "--:--".into(),
            _ => {
                let seconds_per_step = record.since(first_time).as_secs_f64() / steps_seen as f64;
                clock(seconds_per_step * self.totals.steps.saturating_sub(step) as f64)
            }
        };
        let text = text(&self.totals, &eta);
        match self.view {
            View::Plain => self.line(&text),
            View::Live { columns } => {
                // The last column stays free: writing there moves some terminals to the next line.
                let text = fit(&printable(&text), columns().saturating_sub(1));
                self.write(&format!("\r\x1b[2K{text}"));
                self.live_line = true;
            }
        }
    }
}

impl<W: Write> Drop for Progress<W> {
    fn drop(&mut self) {
        self.erase_live_line();
    }
}

impl<W: Write + Send> Sink for Progress<W> {
    fn emit(&mut self, record: &Record) {
        match &record.event {
            Event::RunStarted {
                run_dir,
                device,
                precision,
                step_mode,
                threads,
                workers,
                n_train,
                n_val,
                parameters,
                epochs,
                steps_total,
                ..
            } => {
                self.totals = Totals { epochs: *epochs, steps: *steps_total, n_val: *n_val };
                self.line(&format!("run folder: {run_dir}"));
                self.line(&format!(
                    "{device}, {precision}, {}, {}; {} and {n_val} for validation; {} parameters",
                    counted(*threads, "thread"),
                    counted(*workers, "loader worker"),
                    counted(*n_train, "training sample"),
                    short(*parameters),
                ));
                self.line(&format!("step: {step_mode}"));
            }
            Event::FineTuning { checkpoint, step, kept, anew, changed } => {
                let changed = if changed.is_empty() { "nothing".into() } else { changed.join(", ") };
                self.line(&format!("fine-tuning {checkpoint} (step {step})"));
                self.line(&format!("kept: {kept}; anew: {anew}; changed: {changed}"));
            }
            Event::WeightsLoaded(loaded) => self.line(&weights_line(loaded)),
            Event::EpochStarted { .. } => {}
            &Event::Step { epoch, step, loss, samples_per_s, data_wait, .. } => {
                self.step(record, step, |totals, eta| {
                    format!(
                        "epoch {}/{}  step {step}/{}  {} samples/s  data wait {}  loss {loss:.4}  eta {eta}",
                        epoch + 1,
                        totals.epochs,
                        totals.steps,
                        rate(samples_per_s),
                        percent(data_wait),
                    )
                });
            }
            Event::Evaluated { epoch, images, loss, dice, dice_per_class, seconds, .. } => {
                let (classes, of) = (scores(dice_per_class), self.totals.part_of_val(*images));
                self.line(&format!(
                    "epoch {} evaluated{of}: dice {dice:.4}{classes}, loss {loss:.4}, {seconds:.1} s",
                    epoch + 1
                ));
            }
            Event::LandmarksEvaluated {
                epoch,
                images,
                loss,
                nme,
                mre_px,
                mre_mm,
                failure_rate,
                seconds,
                ..
            } => {
                let percent_of =
                    |value: &Option<f64>| value.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
                let mre = match (mre_mm, mre_px) {
                    (Some(mm), _) => format!("{mm:.3} mm"),
                    (None, Some(px)) => format!("{px:.2} px"),
                    (None, None) => "-".into(),
                };
                self.line(&format!(
                    "epoch {} evaluated{}: nme {}, mean radial error {mre}, failures {}, loss {loss:.4}, {seconds:.1} s",
                    epoch + 1,
                    self.totals.part_of_val(*images),
                    percent_of(nme),
                    percent_of(failure_rate),
                ));
            }
            Event::PhaseStarted { phase, phases, epoch, size: [width, height] } => {
                let (phase, epoch) = (phase + 1, epoch + 1);
                self.line(&format!("phase {phase} of {phases} from epoch {epoch}: {width}x{height} pixels"));
            }
            Event::Feeding { mode, .. } => self.line(mode),
            Event::BufferWarm { batches, seconds } => {
                self.line(&format!("{} wait ready after {seconds:.1} s", counted_batches(*batches)));
            }
            Event::CheckpointSaved { kind, path, step } => {
                let kind = match kind {
                    CheckpointKind::Last => "last",
                    CheckpointKind::Best => "best",
                };
                self.line(&format!("saved {kind} at step {step}: {path}"));
            }
            Event::MemoryPlanned { lines, .. } => lines.iter().for_each(|line| self.line(line)),
            Event::MicroBatchChanged { step, from, to, reason } => {
                self.line(&format!("micro-batch {from} -> {to} after step {step}: {reason}"));
            }
            Event::EvalBatchChanged { from, to, reason, .. } => {
                self.line(&format!("evaluation: {from} -> {to} images at once: {reason}"));
            }
            Event::OutOfMemory { step, at, micro_batch, message } => {
                let at = match at {
                    OutOfMemoryAt::Forward => "the forward pass",
                    OutOfMemoryAt::Backward => "the backward pass",
                    OutOfMemoryAt::Eval => "evaluation",
                };
                self.line(&format!(
                    "out of memory in {at} with micro-batch {micro_batch} after step {step}: {message}"
                ));
            }
            Event::NonFinite { step, what, skipped, .. } => {
                let skipped = counted(*skipped, "step");
                self.line(&format!(
                    "warning: {what} is not finite after step {step}: {skipped} changed nothing"
                ));
            }
            Event::RolledBack { from, to, lr_factor } => self.line(&format!(
                "rolled back from step {from} to step {to}: the learning rate is {lr_factor} of the schedule's from now on"
            )),
            Event::EarlyStopped { reason, .. } => self.line(reason),
            Event::BadSample { name, reason, replaced_by, .. } => {
                let instead =
                    replaced_by.as_ref().map_or(String::new(), |by| format!("; `{by}` takes its place"));
                self.line(&format!("warning: bad sample `{name}`: {reason}{instead}"));
            }
            Event::CacheDecided { reason, .. } => self.line(reason),
            Event::Augmentation { operations, .. } if operations.is_empty() => {
                self.line("augmentation: off");
            }
            Event::Augmentation { side, reason, operations } => {
                let operations = operations.join(", ");
                self.line(&format!(
                    "augmentation enabled on the {side} ({reason}), training only: {operations}"
                ));
            }
            Event::WorkersChanged { from, to, reason } => {
                self.line(&format!("loader workers {from} -> {to}: {reason}"));
            }
            Event::Rearranged { step, what, reason } => {
                self.line(&format!("{what} after step {step}: {reason}"));
            }
            Event::Warning { message } => self.line(&format!("warning: {message}")),
            Event::StepModeChanged { step, mode } => self.line(&format!("step: {mode}, after step {step}")),
            Event::RunFinished {
                status,
                steps,
                seconds,
                first_step_s,
                samples_per_s,
                data_wait,
                best,
                message,
            } => {
                let mut text = match status {
                    RunStatus::Completed => "completed",
                    RunStatus::Interrupted => "interrupted",
                    RunStatus::Failed => "failed",
                }
                .to_string();
                text.push_str(&format!(
                    ": {} in {}{}, {} samples/s, data wait {}",
                    counted(*steps, "step"),
                    clock(*seconds),
                    first_step_s.map_or(String::new(), |s| format!(", the first after {s:.1} s")),
                    rate(*samples_per_s),
                    percent(*data_wait),
                ));
                if let Some(best) = best {
                    text.push_str(&format!(
                        ", best {} {:.4} in epoch {}",
                        best.metric,
                        best.value,
                        best.epoch + 1
                    ));
                }
                if let Some(message) = message {
                    text.push_str(&format!("; {message}"));
                }
                self.line(&text);
            }
        }
    }
}

fn stderr_columns() -> usize {
    terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(columns, _)| usize::from(columns.0))
}

/// `text` cut to at most `columns` terminal columns.
fn fit(text: &str, columns: usize) -> String {
    let mut used = 0;
    text.chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

fn counted_batches(count: u64) -> String {
    format!("{count} batch{}", if count == 1 { "" } else { "es" })
}

fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// 1234567 as `1.2 M`.
fn short(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{:.1} k", count as f64 / 1e3),
        1_000_000.. => format!("{:.1} M", count as f64 / 1e6),
    }
}

fn rate(per_second: f64) -> String {
    if per_second >= 100.0 { format!("{per_second:.0}") } else { format!("{per_second:.1}") }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// Seconds as `3:07` or `1:02:03`.
fn clock(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "--:--".into();
    }
    let seconds = seconds.max(0.0).round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Scores by class, as ` (membrane 0.79, cell 0.93)`.
fn scores(per_class: &PerClass) -> String {
    if per_class.is_empty() {
        return String::new();
    }
    let scores: Vec<String> = per_class.iter().map(|(class, score)| format!("{class} {score:.4}")).collect();
    format!(" ({})", scores.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use fullbore_events::BestScore;

    use super::*;

    const WIDE: View = View::Live { columns: || 200 };
    const NARROW: View = View::Live { columns: || 20 };

    fn started() -> Event {
        Event::RunStarted {
            run_dir: "runs/a".into(),
            version: "0.1.0".into(),
            device: "cpu".into(),
            precision: "bf16".into(),
            step_mode: "eager (as asked)".into(),
            threads: 2,
            workers: 1,
            n_train: 24,
            n_val: 6,
            parameters: 1_944_049,
            epochs: 20,
            steps_per_epoch: 3,
            steps_total: 60,
            plan: None,
        }
    }

    fn step(step: u64) -> Event {
        Event::Step {
            epoch: (step - 1) / 3,
            step,
            loss: 0.5,
            lr: 1e-3,
            grad_norm: None,
            samples_per_s: 31.25,
            data_wait: 0.024,
            micro_batch: 8,
        }
    }

    fn evaluated() -> Event {
        let dice: PerClass = [("membrane", 0.79), ("cell\r", f64::NAN)].into_iter().collect();
        Event::Evaluated {
            epoch: 0,
            step: 3,
            images: 6,
            loss: 0.4,
            dice: 0.79,
            dice_per_class: dice.clone(),
            iou_per_class: dice.clone(),
            precision_per_class: dice.clone(),
            recall_per_class: dice,
            seconds: 2.04,
        }
    }

    /// What is written for `events`, given with their time in seconds.
    fn shown(view: View, events: Vec<(f64, Event)>) -> String {
        let mut text = Vec::new();
        let mut progress = Progress::new(&mut text, view);
        for (seconds, event) in events {
            progress.emit(&Record { time: UNIX_EPOCH + Duration::from_secs_f64(seconds), event });
        }
        drop(progress);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn plain_lines_come_once_per_interval_and_for_all_that_matters() {
        let events = vec![
            (0.0, started()),
            (0.0, Event::EpochStarted { epoch: 0 }),
            (1.0, step(1)),
            (2.0, step(2)),
            (10.9, step(3)),
            (11.0, step(11)),
            (12.0, evaluated()),
            (
                12.0,
                Event::CheckpointSaved { kind: CheckpointKind::Best, path: "runs/a/best".into(), step: 11 },
            ),
        ];
        let expected = "\
run folder: runs/a
cpu, bf16, 2 threads, 1 loader worker; 24 training samples and 6 for validation; 1.9 M parameters
step: eager (as asked)
epoch 1/20  step 1/60  31.2 samples/s  data wait 2 %  loss 0.5000  eta --:--
epoch 4/20  step 11/60  31.2 samples/s  data wait 2 %  loss 0.5000  eta 0:49
epoch 1 evaluated: dice 0.7900 (membrane 0.7900, cell\\r NaN), loss 0.4000, 2.0 s
saved best at step 11: runs/a/best
";
        assert_eq!(shown(View::Plain, events), expected);
    }

    #[test]
    fn the_live_line_is_rewritten_and_gives_way_to_lines_that_stay() {
        let events = vec![
            (0.0, step(1)),
            (0.05, step(2)),
            (0.2, step(3)),
            (0.3, Event::Warning { message: "w".into() }),
        ];
        let line = |text: &str| format!("\r\x1b[2K{text}");
        let expected = [
            line("epoch 1/0  step 1/0  31.2 samples/s  data wait 2 %  loss 0.5000  eta --:--"),
            line("epoch 1/0  step 3/0  31.2 samples/s  data wait 2 %  loss 0.5000  eta 0:00"),
            line("warning: w\n"),
        ];
        assert_eq!(shown(WIDE, events), expected.concat());
    }

    #[test]
    fn the_live_line_never_wraps_and_is_erased_at_the_end() {
        assert_eq!(shown(NARROW, vec![(0.0, step(1))]), "\r\x1b[2Kepoch 1/0  step 1/0\r\x1b[2K");
        assert_eq!(fit("a漢字b", 4), "a漢");
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn every_event_has_its_words() {
        let finish = |status, message: Option<&str>| Event::RunFinished {
            status,
            steps: 60,
            seconds: 3723.0,
            first_step_s: (status == RunStatus::Completed).then_some(2.25),
            samples_per_s: 312.4,
            data_wait: 0.0,
            best: Some(BestScore { metric: "dice".into(), value: 0.8, epoch: 11, step: 36 }),
            message: message.map(Into::into),
        };
        let events = vec![
            (
                0.0,
                Event::FineTuning {
                    checkpoint: "runs/a/best".into(),
                    step: 9,
                    kept: "the weights".into(),
                    anew: "the rest".into(),
                    changed: vec!["optimizer.lr: 0.1 -> 0.2".into(), "run.epochs: 2 -> 3".into()],
                },
            ),
            (
                0.0,
                Event::MemoryPlanned {
                    micro_batch: 8,
                    recompute: false,
                    bytes: None,
                    lines: vec!["memory: weights 7 B".into(), "micro-batch 8 of 8".into()],
                },
            ),
            (0.0, Event::MicroBatchChanged { step: 3, from: 8, to: 4, reason: "memory ran out".into() }),
            (0.0, Event::EvalBatchChanged { step: 3, from: 8, to: 4, reason: "memory ran out".into() }),
            (
                0.0,
                Event::OutOfMemory {
                    step: 3,
                    at: OutOfMemoryAt::Backward,
                    micro_batch: 8,
                    message: "2 GiB".into(),
                },
            ),
            (0.0, Event::NonFinite { step: 3, what: "loss".into(), skipped: 2, in_row: 1 }),
            (0.0, Event::RolledBack { from: 9, to: 6, lr_factor: 0.25 }),
            (0.0, Event::EarlyStopped { epoch: 1, step: 9, reason: "stopped early: no better dice".into() }),
            (
                0.0,
                Event::BadSample {
                    name: "a".into(),
                    file: "images/a.jpg".into(),
                    reason: "images/a.jpg is truncated".into(),
                    replaced_by: Some("b".into()),
                    epoch: 0,
                    batch: 2,
                },
            ),
            (0.0, Event::CacheDecided { mode: "ram".into(), bytes: 7, reason: "cache in memory".into() }),
            (0.0, Event::Augmentation { side: "off".into(), reason: String::new(), operations: vec![] }),
            (
                0.0,
                Event::Augmentation {
                    side: "device".into(),
                    reason: "it is set so".into(),
                    operations: vec!["horizontal flip p 0.5".into(), "gamma".into()],
                },
            ),
            (0.0, Event::WorkersChanged { from: 2, to: 3, reason: "the run waited".into() }),
            (
                0.0,
                Event::Rearranged {
                    step: 4,
                    what: "augmentation moves to the device".into(),
                    reason: "the run waited for data 12 % of its time".into(),
                },
            ),
            (0.0, Event::StepModeChanged { step: 5, mode: "graph (micro-batches of 8 are recorded)".into() }),
            (0.0, finish(RunStatus::Completed, None)),
            (0.0, finish(RunStatus::Failed, Some("the disk is full"))),
        ];
        let expected = "\
fine-tuning runs/a/best (step 9)
kept: the weights; anew: the rest; changed: optimizer.lr: 0.1 -> 0.2, run.epochs: 2 -> 3
memory: weights 7 B
micro-batch 8 of 8
micro-batch 8 -> 4 after step 3: memory ran out
evaluation: 8 -> 4 images at once: memory ran out
out of memory in the backward pass with micro-batch 8 after step 3: 2 GiB
warning: loss is not finite after step 3: 2 steps changed nothing
rolled back from step 9 to step 6: the learning rate is 0.25 of the schedule's from now on
stopped early: no better dice
warning: bad sample `a`: images/a.jpg is truncated; `b` takes its place
cache in memory
augmentation: off
augmentation enabled on the device (it is set so), training only: horizontal flip p 0.5, gamma
loader workers 2 -> 3: the run waited
augmentation moves to the device after step 4: the run waited for data 12 % of its time
step: graph (micro-batches of 8 are recorded), after step 5
completed: 60 steps in 1:02:03, the first after 2.2 s, 312 samples/s, data wait 0 %, best dice 0.8000 in epoch 12
failed: 60 steps in 1:02:03, 312 samples/s, data wait 0 %, best dice 0.8000 in epoch 12; the disk is full
";
        assert_eq!(shown(View::Plain, events), expected);
    }

    #[test]
    fn a_closed_terminal_stops_nothing() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut progress = Progress::new(Closed, WIDE);
        progress.emit(&Record { time: UNIX_EPOCH, event: step(1) });
        progress.emit(&Record { time: UNIX_EPOCH, event: evaluated() });
    }

    #[test]
    fn times_and_counts_are_short() {
        assert_eq!(
            [clock(0.4), clock(187.0), clock(f64::NAN), clock(-1.0)],
            ["0:00", "3:07", "--:--", "0:00"]
        );
        assert_eq!([short(7), short(1_500), short(31_043_521)], ["7", "1.5 k", "31.0 M"]);
        assert_eq!(rate(f64::NAN), "NaN");
    }
}
