use std::path::Path;

use fullbore_types::Size;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use crate::PredictError;
use crate::write::write_png;

/// Side of a tile in pixels; pictures are fitted into it at their own aspect ratio.
const TILE: u32 = 256;
/// Pixels between tiles.
const GAP: u32 = 6;
const PAPER: Rgb<u8> = Rgb([255; 3]);

/// A contact sheet: rows of tiles that belong together.
#[derive(Debug, Default)]
pub struct Sheet {
    rows: Vec<Vec<RgbImage>>,
}

impl Sheet {
    /// Adds a row: for each picture its size and RGB u8 `[height, width, 3]`. Pictures are averaged when they shrink;
    /// coloured classes (`sharp`) are not, so that no colours arise that stand for nothing.
    ///
    /// # Panics
    /// When a picture has not the size it says.
    pub fn add_row<'a>(&mut self, tiles: impl IntoIterator<Item = (Size, &'a [u8], bool)>) {
        let tile = |(size, pixels, sharp): (Size, &[u8], bool)| {
            let picture = RgbImage::from_raw(size.width, size.height, pixels.to_vec());
            fitted(&picture.expect("the pixels of a tile"), sharp)
        };
        self.rows.push(tiles.into_iter().map(tile).collect());
    }

    /// Writes the sheet as PNG.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), PredictError> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
        let side = |n: u32| n * (TILE + GAP) + GAP;
        let mut sheet = RgbImage::from_pixel(side(columns), side(self.rows.len() as u32), PAPER);
        for (row, tiles) in self.rows.iter().enumerate() {
            for (column, tile) in tiles.iter().enumerate() {
                let centred = |n: usize, length: u32| i64::from(side(n as u32) + (TILE - length) / 2);
                let (x, y) = (centred(column, tile.width()), centred(row, tile.height()));
                imageops::replace(&mut sheet, tile, x, y);
            }
        }
        write_png(path, Size::new(sheet.width(), sheet.height()), &sheet)
    }
}

/// A picture scaled so that its longer side fills a tile.
fn fitted(picture: &RgbImage, sharp: bool) -> RgbImage {
    let longer = picture.width().max(picture.height());
    let side = |side: u32| ((u64::from(side) * u64::from(TILE) / u64::from(longer)) as u32).max(1);
    let (width, height) = (side(picture.width()), side(picture.height()));
    let filter = if sharp { FilterType::Nearest } else { FilterType::Triangle };
    imageops::resize(picture, width, height, filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_lie_in_rows_and_columns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sheet.png");
        let mut sheet = Sheet::default();
        let (red, blue) = ([255, 0, 0].repeat(2), [0, 0, 255].repeat(4));
        sheet.add_row([(Size::new(1, 2), &red[..], true), (Size::new(2, 2), &blue[..], false)]);
        sheet.add_row([(Size::new(2, 2), &blue[..], true)]);
        sheet.write(&path).unwrap();
        let sheet = image::open(&path).unwrap().into_rgb8();
        let pitch = TILE + GAP;
        assert_eq!(sheet.dimensions(), (2 * pitch + GAP, 2 * pitch + GAP));
        let at = |column: u32, row: u32, x: u32| {
            sheet.get_pixel(GAP + column * pitch + x, GAP + row * pitch + 9).0
        };
        assert_eq!((at(0, 0, TILE / 2), at(0, 0, 9)), ([255, 0, 0], [255; 3]), "upright and centred");
        assert_eq!((at(1, 0, 0), at(0, 1, 0), at(1, 1, 0)), ([0, 0, 255], [0, 0, 255], [255; 3]));
    }
}
