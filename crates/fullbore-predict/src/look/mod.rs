//! Pictures for people to look at: classes as colours, overlays, contact sheets, curves.

mod colours;
mod curve;
mod marks;
mod sheet;
mod text;

pub use colours::{class_colour, coloured, overlay, rgb};
pub use curve::ErrorCurve;
pub use marks::{mark, mark_named};
pub use sheet::{Sheet, Tile};
