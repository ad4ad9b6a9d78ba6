//! Outlines of things: what a scene is made of.

use std::f32::consts::{PI, TAU};

use zeno::{Command, Point, Vector};

use crate::draw::Draw;

/// A random outline about a centre, at most about `radius` away from it.
pub(super) fn thing(draw: &mut Draw, centre: Point, radius: f32) -> Vec<Command> {
    match draw.count(0, 9) {
        0..=2 => ellipse(draw, centre, radius),
        3..=5 => blob(draw, centre, radius),
        6 | 7 => polygon(draw, centre, radius),
        8 => slab(draw, centre, radius, 0.25),
        _ => slab(draw, centre, radius, 0.04),
    }
}

/// `distance` from `centre` in a direction.
pub(super) fn around(centre: Point, distance: f32, angle: f32) -> Point {
    centre + Vector::new(distance * angle.cos(), distance * angle.sin())
}

/// A closed polygon.
pub(super) fn closed(corners: impl IntoIterator<Item = Point>) -> Vec<Command> {
    let mut path: Vec<Command> = corners.into_iter().map(Command::LineTo).collect();
    if let Some(first) = path.first_mut()
        && let Command::LineTo(to) = *first
    {
        *first = Command::MoveTo(to);
        path.push(Command::Close);
    }
    path
}

/// A closed smooth curve: corners rounded so far that each side touches the curve at its middle only.
fn rounded(corners: &[Point]) -> Vec<Command> {
    let middle = |i: usize| (corners[i % corners.len()] + corners[(i + 1) % corners.len()]) * 0.5;
    let mut path = vec![Command::MoveTo(middle(0))];
    path.extend((1..=corners.len()).map(|i| Command::QuadTo(corners[i % corners.len()], middle(i))));
    path.push(Command::Close);
    path
}

fn ellipse(draw: &mut Draw, centre: Point, radius: f32) -> Vec<Command> {
    let (turn, flat) = (draw.between(0.0, PI), draw.between(0.4, 1.0));
    let corners: Vec<Point> = (0..12)
        .map(|i| {
            let (sin, cos) = (TAU * i as f32 / 12.0).sin_cos();
            let (x, y) = (radius * cos, radius * flat * sin);
            centre + Vector::new(x * turn.cos() - y * turn.sin(), x * turn.sin() + y * turn.cos())
        })
        .collect();
    rounded(&corners)
}

fn blob(draw: &mut Draw, centre: Point, radius: f32) -> Vec<Command> {
    rounded(&ring(draw, centre, radius, 7, 14, 0.35))
}

fn polygon(draw: &mut Draw, centre: Point, radius: f32) -> Vec<Command> {
    closed(ring(draw, centre, radius, 3, 7, 0.6))
}

/// Points all around a centre, at distances down to `low * radius`.
fn ring(draw: &mut Draw, centre: Point, radius: f32, few: usize, many: usize, low: f32) -> Vec<Point> {
    let n = draw.count(few, many);
    let start = draw.between(0.0, TAU);
    let step = TAU / n as f32;
    (0..n)
        .map(|i| {
            let angle = start + step * (i as f32 + draw.between(-0.35, 0.35));
            around(centre, radius * draw.between(low, 1.0), angle)
        })
        .collect()
}

/// A rectangle that is thinner than it is long by at least `thin`: planks, walls, poles, branches.
fn slab(draw: &mut Draw, centre: Point, radius: f32, thin: f32) -> Vec<Command> {
    let angle = if draw.chance(0.5) { 0.1 * draw.normal() } else { draw.between(0.0, PI) };
    let angle = if draw.chance(0.5) { angle + PI / 2.0 } else { angle };
    let half = radius * draw.between(thin, 2.5 * thin);
    let along = Vector::new(radius * angle.cos(), radius * angle.sin());
    let across = Vector::new(-half * angle.sin(), half * angle.cos());
    let taper = across * draw.between(0.4, 1.0);
    closed([centre - along - across, centre + along - taper, centre + along + taper, centre - along + across])
}
