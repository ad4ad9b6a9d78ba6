//! Lines and strokes that are no text: a network must tell letters from them.

use std::f32::consts::{PI, TAU};

use fullbore_types::Size;
use zeno::{Command, Point, Vector};

use super::shapes::around;
use crate::draw::Draw;

/// Strokes of one kind: their path and width in pixels.
pub(super) struct Strokes {
    pub(super) path: Vec<Command>,
    pub(super) width: f32,
}

/// Strokes of a random kind somewhere in an image of this size.
pub(super) fn strokes(draw: &mut Draw, size: Size) -> Strokes {
    match draw.count(0, 9) {
        0 | 1 => wires(draw, size),
        2 | 3 => hair(draw, size),
        4 | 5 => lattice(draw, size),
        6 => rings(draw, size),
        _ => scribbles(draw, size),
    }
}

fn side(size: Size) -> f32 {
    size.width.min(size.height) as f32
}

fn anywhere(draw: &mut Draw, size: Size) -> Point {
    Point::new(draw.between(0.0, size.width as f32), draw.between(0.0, size.height as f32))
}

/// A few long lines, nearly parallel, straight or sagging.
fn wires(draw: &mut Draw, size: Size) -> Strokes {
    let angle = draw.between(0.0, PI);
    let length = 1.5 * side(size);
    let sag = if draw.chance(0.5) { 0.0 } else { draw.between(-0.2, 0.2) * length };
    let mut path = Vec::new();
    for _ in 0..draw.count(1, 8) {
        let middle = anywhere(draw, size);
        let angle = angle + 0.05 * draw.normal();
        path.push(Command::MoveTo(around(middle, -length, angle)));
        let control = around(middle, sag, angle + PI / 2.0);
        path.push(Command::QuadTo(control, around(middle, length, angle)));
    }
    Strokes { path, width: draw.scale(0.002, 0.02) * side(size) }
}

/// Many short curved strokes that lean the same way: grass, hair, fur, twigs.
fn hair(draw: &mut Draw, size: Size) -> Strokes {
    let centre = anywhere(draw, size);
    let reach = side(size) * draw.between(0.15, 0.5);
    let lean = draw.between(0.0, TAU);
    let disorder = draw.between(0.05, 0.8);
    let length = side(size) * draw.scale(0.03, 0.3);
    let mut path = Vec::new();
    for _ in 0..draw.count(20, 110) {
        let root = around(centre, reach * draw.unit(), draw.between(0.0, TAU));
        let angle = lean + disorder * draw.normal();
        let length = length * draw.between(0.5, 1.0);
        let bend = 0.6 * draw.normal();
        path.push(Command::MoveTo(root));
        let tip = around(root, length, angle + bend);
        path.push(Command::QuadTo(around(root, length * 0.5, angle), tip));
    }
    Strokes { path, width: draw.scale(0.002, 0.01) * side(size) }
}

/// Bars across bars: windows, tiles, bricks, fences, shelves.
fn lattice(draw: &mut Draw, size: Size) -> Strokes {
    let centre = anywhere(draw, size);
    let turn = if draw.chance(0.6) { 0.03 * draw.normal() } else { draw.between(0.0, PI) };
    let step = [0, 1].map(|_| side(size) * draw.scale(0.03, 0.2));
    let cells = [0, 1].map(|_| draw.count(1, 9));
    let bricks = draw.chance(0.3);
    let along = Vector::new(step[0] * turn.cos(), step[0] * turn.sin());
    let across = Vector::new(-step[1] * turn.sin(), step[1] * turn.cos());
    let corner = centre - along * (cells[0] as f32 / 2.0) - across * (cells[1] as f32 / 2.0);
    let mut path = Vec::new();
    for row in 0..=cells[1] {
        let start = corner + across * row as f32;
        path.extend([Command::MoveTo(start), Command::LineTo(start + along * cells[0] as f32)]);
    }
    for row in 0..cells[1] {
        let shift = if bricks && row % 2 == 1 { 0.5 } else { 0.0 };
        for column in 0..=cells[0] {
            let start = corner + across * row as f32 + along * (column as f32 + shift);
            path.extend([Command::MoveTo(start), Command::LineTo(start + across)]);
        }
    }
    Strokes { path, width: draw.scale(0.003, 0.02) * side(size) }
}

/// Circles about one point or strewn about: wheels, bubbles, coils, rims.
fn rings(draw: &mut Draw, size: Size) -> Strokes {
    let strewn = draw.chance(0.5);
    let mut centre = anywhere(draw, size);
    let mut path = Vec::new();
    for _ in 0..draw.count(1, 8) {
        if strewn {
            centre = anywhere(draw, size);
        }
        arc(&mut path, centre, side(size) * draw.scale(0.02, 0.3), 0.0, TAU);
    }
    Strokes { path, width: draw.scale(0.003, 0.03) * side(size) }
}

/// Rows of marks of the size and weight of letters, which are none.
fn scribbles(draw: &mut Draw, size: Size) -> Strokes {
    let height = side(size) * draw.scale(0.03, 0.2);
    let turn = if draw.chance(0.6) { 0.0 } else { 0.4 * draw.normal() };
    let along = Vector::new(turn.cos(), turn.sin()) * height;
    let down = Vector::new(-turn.sin(), turn.cos()) * height;
    let start = anywhere(draw, size) - along * 3.0;
    let straight = draw.unit();
    let mut path = Vec::new();
    for row in 0..draw.count(1, 3) {
        for column in 0..draw.count(3, 10) {
            let origin = start + down * (1.6 * row as f32) + along * (0.9 * column as f32);
            let inside = |draw: &mut Draw| origin + along * draw.between(0.0, 0.6) + down * draw.unit();
            for _ in 0..draw.count(1, 3) {
                let from = inside(draw);
                match draw.chance(straight) {
                    true => path.extend([Command::MoveTo(from), Command::LineTo(inside(draw))]),
                    false => {
                        let begin = draw.between(0.0, TAU);
                        arc(&mut path, from, height * draw.between(0.15, 0.4), begin, draw.between(1.5, TAU));
                    }
                }
            }
        }
    }
    Strokes { path, width: height * draw.between(0.06, 0.18) }
}

/// Part of a circle, `sweep` radians on from `begin`, in short chords.
fn arc(path: &mut Vec<Command>, centre: Point, radius: f32, begin: f32, sweep: f32) {
    let n = 6 + (radius.sqrt() * 3.0) as usize;
    path.push(Command::MoveTo(around(centre, radius, begin)));
    let point = |i: usize| around(centre, radius, begin + sweep * i as f32 / n as f32);
    path.extend((1..=n).map(|i| Command::LineTo(point(i))));
}
