//! Pictures for people to look at: classes as colours, overlays, contact sheets.

mod colours;
mod sheet;

pub use colours::{class_colour, coloured, mark, overlay, rgb};
pub use sheet::Sheet;
