use std::fmt;

use serde::{Deserialize, Serialize};

use crate::points::Point;

/// What is made of the annotations of two people, where a data set has both for each image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Annotator {
    /// The mean of both.
    #[default]
    Mean,
    /// The mean of both in whole pixels, as published results on the data set have it: rounded up for Aariz, which
    /// shifts points by a quarter to half a pixel, and down for ISBI 2015.
    Official,
    /// The junior's alone.
    Junior,
    /// The senior's alone.
    Senior,
}

impl Annotator {
    /// `official` rounds to whole pixels.
    pub(super) fn of(self, junior: Point, senior: Point, official: fn(f64) -> f64) -> Point {
        let both = |a: f32, b: f32| (f64::from(a) + f64::from(b)) / 2.0;
        let mean = (both(junior.x, senior.x), both(junior.y, senior.y));
        match self {
            Annotator::Mean => Point::visible(mean.0 as f32, mean.1 as f32),
            Annotator::Official => Point::visible(official(mean.0) as f32, official(mean.1) as f32),
            Annotator::Junior => junior,
            Annotator::Senior => senior,
        }
    }
}

impl fmt::Display for Annotator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Annotator::Mean => "mean",
            Annotator::Official => "official",
            Annotator::Junior => "junior",
            Annotator::Senior => "senior",
        })
    }
}
