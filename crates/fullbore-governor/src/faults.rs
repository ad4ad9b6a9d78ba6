//! Failures on purpose, to see that a run survives them: `--inject oom@step:12,oom@eval:3`.

use std::fmt;
use std::str::FromStr;

/// Most faults of a plan, and most times that one repeats.
const MOST: u32 = 1000;

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// Forward pass of an optimizer step; counted in steps of the run. `step` is another word for it.
    Forward,
    /// Backward pass of an optimizer step; counted in steps of the run.
    Backward,
    /// Forward pass of an evaluation; counted from the start of the program.
    Eval,
    /// Forward pass of a prediction; counted from the start of the program.
    Predict,
}

const POINTS: [(&str, FaultPoint); 5] = [
    ("step", FaultPoint::Forward),
    ("forward", FaultPoint::Forward),
    ("backward", FaultPoint::Backward),
    ("eval", FaultPoint::Eval),
    ("predict", FaultPoint::Predict),
];

/// Out of memory at a chosen moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault {
    at: FaultPoint,
    /// Which step or pass; the first is 1.
    number: u64,
    /// Attempts at it that still fail.
    left: u32,
}

/// The failures that the user has asked for. Written as `oom@POINT:NUMBER`, separated by commas; `x3` behind one makes
/// three attempts fail in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan(Vec<Fault>);

/// A fault that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum FaultPlanError {
    /// Not `oom@POINT:NUMBER`.
    #[error("{text:?} is not a fault")]
    #[diagnostic(
        code(config::inject::form),
        help(
            "write oom@step:12 for the 12th step, oom@step:12x3 for three attempts at it; commas between faults"
        )
    )]
    Form {
        /// What was written.
        text: String,
    },
    /// Another failure than running out of memory.
    #[error("{kind:?} in {text:?} is no failure that can be injected")]
    #[diagnostic(code(config::inject::kind), help("the one that can be injected is oom"))]
    Kind {
        /// What was written.
        text: String,
        /// The failure in it.
        kind: String,
    },
    /// An unknown place.
    #[error("{point:?} in {text:?} is no place for a failure")]
    #[diagnostic(code(config::inject::point), help("places are step, forward, backward, eval, predict"))]
    Point {
        /// What was written.
        text: String,
        /// The place in it.
        point: String,
    },
    /// A number out of range.
    #[error("{number:?} in {text:?} is no count")]
    #[diagnostic(
        code(config::inject::number),
        help("steps are counted from 1, and one fault repeats 1 to {MOST} times")
    )]
    Number {
        /// What was written.
        text: String,
        /// The number in it.
        number: String,
    },
    /// Too many.
    #[error("{faults} faults are too many")]
    #[diagnostic(code(config::inject::many), help("at most {MOST}"))]
    Many {
        /// Faults in the text.
        faults: usize,
    },
}

impl FaultPlan {
    /// True when nothing is left to fail.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the attempt at step or pass `number` (the first is 1) is to fail as if memory had run out. Each answer
    /// `true` uses up one of the failures that were asked for.
    pub fn strikes(&mut self, at: FaultPoint, number: u64) -> bool {
        let Some(index) = self.0.iter().position(|fault| fault.at == at && fault.number == number) else {
            return false;
        };
        self.0[index].left -= 1;
        if self.0[index].left == 0 {
            self.0.remove(index);
        }
        true
    }
}

impl FromStr for FaultPlan {
    type Err = FaultPlanError;

    fn from_str(text: &str) -> Result<Self, FaultPlanError> {
        let faults = text.split(',').map(str::trim).filter(|fault| !fault.is_empty());
        let count = faults.clone().count();
        if count > MOST as usize {
            return Err(FaultPlanError::Many { faults: count });
        }
        faults.map(str::parse).collect::<Result<_, _>>().map(FaultPlan)
    }
}

impl FromStr for Fault {
    type Err = FaultPlanError;

    fn from_str(text: &str) -> Result<Self, FaultPlanError> {
        let form = || FaultPlanError::Form { text: text.into() };
        let (kind, place) = text.split_once('@').ok_or_else(form)?;
        let (point, number) = place.split_once(':').ok_or_else(form)?;
        if kind != "oom" {
            return Err(FaultPlanError::Kind { text: text.into(), kind: kind.into() });
        }
        let Some((_, at)) = POINTS.iter().find(|(name, _)| *name == point) else {
            return Err(FaultPlanError::Point { text: text.into(), point: point.into() });
        };
        let (number, left) = number.split_once('x').unwrap_or((number, "1"));
        let wrong = |number: &str| FaultPlanError::Number { text: text.into(), number: number.into() };
        Ok(Fault {
            at: *at,
            number: number.parse().ok().filter(|n| *n > 0).ok_or_else(|| wrong(number))?,
            left: left.parse().ok().filter(|n| (1..=MOST).contains(n)).ok_or_else(|| wrong(left))?,
        })
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let name = POINTS.iter().find(|(_, at)| *at == fault.at).map_or("", |(name, _)| name);
            write!(f, "{comma}oom@{name}:{}", fault.number)?;
            if fault.left > 1 {
                write!(f, "x{}", fault.left)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miette::Diagnostic;
    use proptest::prelude::*;

    fn plan(text: &str) -> FaultPlan {
        text.parse().unwrap()
    }

    #[test]
    fn each_fault_strikes_as_often_as_it_was_asked_for() {
        let mut plan = plan("oom@step:12, oom@backward:12x2,oom@eval:3");
        assert!(!plan.strikes(FaultPoint::Forward, 11) && !plan.strikes(FaultPoint::Eval, 12));
        assert!(plan.strikes(FaultPoint::Forward, 12) && !plan.strikes(FaultPoint::Forward, 12));
        let twice = [true, true, false].map(|_| plan.strikes(FaultPoint::Backward, 12));
        assert_eq!(twice, [true, true, false]);
        assert!(!plan.is_empty() && plan.strikes(FaultPoint::Eval, 3) && plan.is_empty());
    }

    #[test]
    fn one_place_may_be_named_twice() {
        let mut plan = plan("oom@forward:1,oom@step:1");
        assert_eq!([1, 1, 1].map(|step| plan.strikes(FaultPoint::Forward, step)), [true, true, false]);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let refused = |text: &str| {
            let error = text.parse::<FaultPlan>().unwrap_err();
            assert!(error.code().unwrap().to_string().starts_with("config::inject::"));
            assert!(error.help().is_some());
            error.to_string()
        };
        assert_eq!(refused("oom"), "\"oom\" is not a fault");
        assert_eq!(refused("oom@step"), "\"oom@step\" is not a fault");
        assert_eq!(refused("fire@step:1"), "\"fire\" in \"fire@step:1\" is no failure that can be injected");
        assert_eq!(refused("oom@update:1"), "\"update\" in \"oom@update:1\" is no place for a failure");
        assert_eq!(refused("oom@eval:1,oom@step:0"), "\"0\" in \"oom@step:0\" is no count");
        assert_eq!(refused("oom@step:-1"), "\"-1\" in \"oom@step:-1\" is no count");
        assert_eq!(refused("oom@step:1x0"), "\"0\" in \"oom@step:1x0\" is no count");
        assert_eq!(refused("oom@step:1x1001"), "\"1001\" in \"oom@step:1x1001\" is no count");
        assert_eq!(refused(&"oom@step:1,".repeat(1001)), "1001 faults are too many");
        assert_eq!(plan(""), FaultPlan::default());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            faults in proptest::collection::vec((0usize..5, 1u64.., 1u32..=1000), 0..20),
        ) {
            let fault = |(point, number, left): (usize, u64, u32)| Fault { at: POINTS[point].1, number, left };
            let plan = FaultPlan(faults.into_iter().map(fault).collect());
            prop_assert_eq!(plan.to_string().parse::<FaultPlan>(), Ok(plan));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(oom@[a-z]{0,5}:)?.{0,12}") {
            let _ = text.parse::<FaultPlan>();
        }
    }
}
