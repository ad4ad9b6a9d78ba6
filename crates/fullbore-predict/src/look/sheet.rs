use std::path::Path;

use fullbore_types::{Affine, Size};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::coloured;
use super::marks::cross;
use crate::PredictError;
use crate::write::write_png;

/// Side of a tile in pixels; pictures are fitted into it at their own aspect ratio.
const TILE: u32 = 256;
/// Pixels between tiles.
const GAP: u32 = 6;
/// Pixels of a point's cross beside its middle.
const ARM: u32 = 2;
const PAPER: Rgb<u8> = Rgb([255; 3]);

/// One picture of a sheet, at the size that it has there.
#[derive(Clone, Debug)]
pub struct Tile {
    picture: RgbImage,
    /// From the picture's own pixels to the tile's.
    placed: Affine,
}

impl Tile {
    /// A picture, RGB u8 `[height, width, 3]`, averaged where it shrinks.
    ///
    /// # Panics
    /// When it has not the size it says.
    pub fn picture(size: Size, pixels: &[u8]) -> Self {
        Self::fitted(size, pixels.to_vec(), FilterType::Triangle)
    }

    /// Class indices u8 `[height, width]` as colours. They are not averaged, so that no colours arise that stand for
    /// nothing.
    ///
    /// # Panics
    /// When it has not the size it says.
    pub fn classes(size: Size, classes: &[u8]) -> Self {
        Self::fitted(size, coloured(classes), FilterType::Nearest)
    }

    /// Draws points, in pixels of the picture, as small crosses.
    pub fn mark(&mut self, points: &[[f64; 2]], colour: [u8; 3]) {
        let size = Size::new(self.picture.width(), self.picture.height());
        for &[x, y] in points {
            let (x, y) = self.placed.apply((x, y));
            cross(&mut self.picture, size, [x as f32, y as f32], ARM, colour);
        }
    }

    /// A picture scaled so that its longer side fills a tile.
    fn fitted(size: Size, pixels: Vec<u8>, filter: FilterType) -> Self {
        let picture = RgbImage::from_raw(size.width, size.height, pixels).expect("the pixels of a tile");
        let longer = u64::from(size.width.max(size.height));
        let side = |side: u32| ((u64::from(side) * u64::from(TILE) / longer) as u32).max(1);
        let (width, height) = (side(size.width), side(size.height));
        let scale = |to: u32, from: u32| f64::from(to) / f64::from(from);
        Tile {
            picture: imageops::resize(&picture, width, height, filter),
            placed: Affine::scale_shift(scale(width, size.width), scale(height, size.height), 0.0, 0.0),
        }
    }
}

/// A contact sheet: rows of tiles that belong together.
#[derive(Debug, Default)]
pub struct Sheet {
    rows: Vec<Vec<Tile>>,
}

impl Sheet {
    /// Adds a row.
    pub fn add_row(&mut self, tiles: impl IntoIterator<Item = Tile>) {
        self.rows.push(tiles.into_iter().collect());
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
            for (column, Tile { picture: tile, .. }) in tiles.iter().enumerate() {
                let centred = |n: usize, length: u32| i64::from(side(n as u32) + (TILE - length) / 2);
                let (x, y) = (centred(column, tile.width()), centred(row, tile.height()));
                imageops::replace(&mut sheet, tile, x, y);
            }
        }
        write_png(path, Size::new(sheet.width(), sheet.height()), &sheet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_lie_in_rows_and_columns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sheet.png");
        let mut sheet = Sheet::default();
        let blue = [0, 0, 255].repeat(4);
        let blue = Tile::picture(Size::new(2, 2), &blue);
        sheet.add_row([Tile::classes(Size::new(1, 2), &[1; 2]), blue.clone()]);
        sheet.add_row([blue]);
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

    #[test]
    fn points_lie_where_they_lie_in_the_picture() {
        let mut tile = Tile::picture(Size::new(1024, 512), &vec![0; 1024 * 512 * 3]);
        tile.mark(&[[801.5, 401.5]], [0, 255, 0]);
        // A quarter of the size: the middle of columns 800 to 803.
        assert_eq!(tile.picture.get_pixel(200, 100).0, [0, 255, 0]);
        let green = tile.picture.pixels().filter(|p| p.0 == [0, 255, 0]).count();
        assert_eq!(green as u32, 4 * ARM + 1);
    }
}
