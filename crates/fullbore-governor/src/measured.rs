//! The choice between two ways of doing the same, by measurement: augmentation on the device or on the CPU.

use std::fmt;

/// Stretches measured on each side before a decision.
const MEASURED: usize = 5;
/// By this share of its time the other side must be faster: less is noise.
const MARGIN: f64 = 0.03;
/// Fewest and most stretches between two measurements.
const RESTS: [u32; 2] = [200, 6400];

/// Where samples are augmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// On the device that computes.
    Device,
    /// On the data threads.
    Cpu,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Side::Device => Side::Cpu,
            Side::Cpu => Side::Device,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Device => "the device",
            Side::Cpu => "the CPU",
        })
    }
}

/// What was measured, and the side that is used from now on. Displays as a sentence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The side from now on.
    pub side: Side,
    /// Whether it is another one than before.
    pub moved: bool,
    /// Median seconds of a stretch on that side.
    pub seconds: f64,
    /// Median seconds of a stretch on the other side.
    pub other_seconds: f64,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.moved { "moves to" } else { "stays on" };
        let (side, other) = (self.side, self.side.other());
        let [ms, other_ms] = [self.seconds, self.other_seconds].map(|seconds| seconds * 1e3);
        write!(f, "augmentation {verb} {side}: {ms:.1} ms against {other_ms:.1} ms on {other}")?;
        if ms > other_ms {
            write!(f, ", which is not {:.0} % faster", MARGIN * 100.0)?;
        }
        Ok(())
    }
}

/// Chooses a side: measures both in turns, takes the other one only when it is clearly faster, then leaves it at
/// that for long, and twice as long each time that nothing changes.
#[derive(Clone, Debug)]
pub struct SideChooser {
    chosen: Side,
    /// Seconds on the chosen side and on the other one, while measuring; empty in between.
    times: [Vec<f64>; 2],
    /// Stretches until both are measured again; 0 while measuring.
    rest: u32,
    next_rest: u32,
}

impl SideChooser {
    /// Begins with `first`, and with measuring.
    pub fn new(first: Side) -> Self {
        Self { chosen: first, times: Default::default(), rest: 0, next_rest: RESTS[0] }
    }

    /// The side for the next stretch.
    pub fn side(&self) -> Side {
        match self.times[0].len() > self.times[1].len() {
            true => self.chosen.other(),
            false => self.chosen,
        }
    }

    /// Takes the time of one stretch on [`side`](Self::side): some batches of the whole run, so that work that one
    /// side does in other threads counts as far as it delays training. The batches that were on their way when the
    /// side changed must not be among them. A time that is no positive number is left out.
    pub fn record(&mut self, seconds: f64) -> Option<Verdict> {
        if self.rest > 0 {
            self.rest -= 1;
            return None;
        }
        if !(seconds.is_finite() && seconds > 0.0) {
            return None;
        }
        let on_other = self.side() != self.chosen;
        self.times[usize::from(on_other)].push(seconds);
        if self.times[1].len() < MEASURED {
            return None;
        }
        let [own, other] = std::mem::take(&mut self.times).map(median);
        let moved = other < own * (1.0 - MARGIN);
        self.next_rest = if moved { RESTS[0] } else { self.next_rest };
        self.rest = self.next_rest;
        self.next_rest = (self.next_rest * 2).min(RESTS[1]);
        let (seconds, other_seconds) = if moved { (other, own) } else { (own, other) };
        self.chosen = if moved { self.chosen.other() } else { self.chosen };
        Some(Verdict { side: self.chosen, moved, seconds, other_seconds })
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs `stretches`, each taking what `seconds` says for its side; returns the verdicts with their places.
    fn run(
        chooser: &mut SideChooser,
        stretches: usize,
        mut seconds: impl FnMut(Side, usize) -> f64,
    ) -> Vec<(usize, Verdict)> {
        let verdict = |i| chooser.record(seconds(chooser.side(), i)).map(|verdict| (i, verdict));
        (0..stretches).filter_map(verdict).collect()
    }

    fn by_side(device: f64, cpu: f64) -> impl Fn(Side, usize) -> f64 {
        move |side, _| if side == Side::Device { device } else { cpu }
    }

    #[test]
    fn sides_are_measured_in_turns_and_the_faster_is_taken() {
        let mut chooser = SideChooser::new(Side::Device);
        let mut sides = Vec::new();
        let verdicts = run(&mut chooser, 10, |side, _| {
            sides.push(side);
            by_side(0.0082, 0.0031)(side, 0)
        });
        assert_eq!(sides, [Side::Device, Side::Cpu].repeat(5));
        let (_, verdict) = verdicts[0];
        assert_eq!((verdict.side, verdict.moved, chooser.side()), (Side::Cpu, true, Side::Cpu));
        assert_eq!(verdict.to_string(), "augmentation moves to the CPU: 3.1 ms against 8.2 ms on the device");
    }

    #[test]
    fn less_than_three_percent_is_noise() {
        let verdict = |cpu| run(&mut SideChooser::new(Side::Device), 10, by_side(1.0, cpu))[0].1;
        assert!(!verdict(0.97).moved && verdict(0.9699).moved);
        assert_eq!(
            verdict(0.98).to_string(),
            "augmentation stays on the device: 1000.0 ms against 980.0 ms on the CPU, which is not 3 % faster"
        );
        assert!(verdict(2.0).to_string().ends_with("2000.0 ms on the CPU"));
    }

    #[test]
    fn it_measures_again_ever_more_rarely() {
        let verdicts = run(&mut SideChooser::new(Side::Device), 2000, by_side(1.0, 2.0));
        let at: Vec<_> = verdicts.iter().map(|(i, _)| *i).collect();
        assert_eq!(at, [9, 219, 629, 1439], "rests of 200, 400, 800");
    }

    #[test]
    fn it_follows_a_change_of_the_machine() {
        let mut chooser = SideChooser::new(Side::Device);
        run(&mut chooser, 300, by_side(1.0, 2.0));
        run(&mut chooser, 700, by_side(2.0, 1.0));
        assert_eq!(chooser.side(), Side::Cpu);
    }

    #[test]
    fn one_slow_stretch_does_not_decide() {
        let hiccup = |side, i| if i == 2 { 100.0 } else { by_side(1.0, 1.2)(side, i) };
        assert_eq!(run(&mut SideChooser::new(Side::Device), 10, hiccup)[0].1.side, Side::Device);
    }

    #[test]
    fn times_that_are_none_are_left_out() {
        let mut chooser = SideChooser::new(Side::Cpu);
        let odd = [f64::NAN, 0.0, -1.0, f64::INFINITY];
        assert!((0..100).all(|i| chooser.record(odd[i % 4]).is_none()));
        assert!(chooser.side() == Side::Cpu);
    }

    proptest! {
        /// Noise smaller than half the difference never makes it choose the slower side, and what is slower takes a
        /// small part of the stretches only.
        #[test]
        fn it_finds_the_faster_side(
            device in 0.001f64..1.0, ratio in 1.1f64..5.0, noise in proptest::collection::vec(0.0f64..0.02, 32),
            start_on_device: bool, device_is_faster: bool,
        ) {
            let (device, cpu) = if device_is_faster { (device, device * ratio) } else { (device * ratio, device) };
            let faster = if device_is_faster { Side::Device } else { Side::Cpu };
            let mut chooser = SideChooser::new(if start_on_device { Side::Device } else { Side::Cpu });
            let mut slower = 0;
            let verdicts = run(&mut chooser, 3000, |side, i| {
                slower += u32::from(side != faster);
                by_side(device, cpu)(side, i) * (1.0 + noise[i % noise.len()])
            });
            prop_assert!(verdicts.iter().all(|(_, verdict)| verdict.side == faster));
            prop_assert!(slower <= 5 * verdicts.len() as u32 + 5, "{slower} of 3000");
        }

        /// Where both are the same within the margin it never moves.
        #[test]
        fn equal_sides_never_make_it_move(noise in proptest::collection::vec(0.0f64..0.029, 64)) {
            let verdicts = run(&mut SideChooser::new(Side::Device), 3000, |_, i| 1.0 + noise[i % 64]);
            prop_assert!(verdicts.iter().all(|(_, verdict)| !verdict.moved));
        }
    }
}
