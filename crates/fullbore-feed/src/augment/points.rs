//! Points of a batch, from the canvas to the output.

use fullbore_augment::AugmentParams;
use fullbore_torch::{Kind, Result, Tensor};
use fullbore_types::Affine;

use super::elastic::Field;
use super::{Frame, Points, of_each};

/// Rounds that find the point which the displacement takes to a given place. Each leaves at most 3/4 of the error, all
/// together 1e-6 of the largest displacement.
const ROUNDS: usize = 48;

/// All of it in f64, as the CPU twin does.
pub(super) fn transform(
    frame: Frame,
    flip_pairs: &[[usize; 2]],
    points: &Points,
    params: &[AugmentParams],
) -> Result<Points> {
    let n = params.len() as i64;
    let upload =
        |numbers: &[f64], size: &[i64]| Tensor::from_slice(numbers)?.reshape(size)?.send_to(frame.device);
    let inverse = |p: &AugmentParams| Affine(p.source_from_output.map(f64::from)).inverse();
    let matrix = upload(&of_each(params, |p| inverse(p).unwrap_or(Affine::IDENTITY).0), &[n, 1, 2, 3])?;
    let places = points.places.to_kind(Kind::Double)?;
    let k = places.size()[1];
    let part = |i| matrix.select(3, i);
    // [n, K, 2] from [n, 1, 2] and [n, K, 1].
    let target = part(2)?
        .addcmul(&part(0)?, &places.narrow(2, 0, 1)?)?
        .addcmul(&part(1)?, &places.narrow(2, 1, 1)?)?;
    let places = match Field::on_output(frame, params)? {
        Some(field) => undisplaced(&field, &target)?,
        None => target,
    };

    let sides = [frame.out.width, frame.out.height].map(|side| f64::from(side) - 0.5);
    let within = places
        .ge(&upload(&[-0.5; 2], &[1, 1, 2])?)?
        .logical_and(&places.lt(&upload(&sides, &[1, 1, 2])?)?)?;
    let mut shown = within.select(2, 0)?.logical_and(&within.select(2, 1)?)?.to_kind(Kind::Uint8)?;
    // A matrix that flattens the plane shows no point at all.
    if params.iter().any(|p| inverse(p).is_none()) {
        let some: Vec<u8> = of_each(params, |p| [inverse(p).is_some().into()]);
        shown = shown.mul(&Tensor::from_slice(&some)?.reshape(&[n, 1])?.send_to(frame.device)?)?;
    }
    let moved = Points { places: places.to_kind(Kind::Float)?, visibility: points.visibility.mul(&shown)? };

    if flip_pairs.is_empty() || !params.iter().any(|p| p.swap_landmarks) {
        return Ok(moved);
    }
    let mut order: Vec<i64> = (0..k).collect();
    for &[a, b] in flip_pairs {
        order.swap(a, b);
    }
    let order = Tensor::from_slice(&order)?.send_to(frame.device)?;
    let swap: Vec<u8> = of_each(params, |p| [p.swap_landmarks.into()]);
    let swap = Tensor::from_slice(&swap)?.reshape(&[n, 1])?.send_to(frame.device)?.to_kind(Kind::Bool)?;
    Ok(Points {
        places: moved.places.index_select(1, &order)?.where_or(&swap.unsqueeze(2)?, &moved.places)?,
        visibility: moved.visibility.index_select(1, &order)?.where_or(&swap, &moved.visibility)?,
    })
}

/// Output points `p` f64 `[n, K, 2]` with `p + displacement(p)` = `target`.
fn undisplaced(field: &Field, target: &Tensor) -> Result<Tensor> {
    // As an image of K rows and one column.
    let target = target.permute(&[0, 2, 1])?.unsqueeze(3)?;
    let mut points = target.clone();
    for _ in 0..ROUNDS {
        let moved = field.at(&points.narrow(1, 0, 1)?, &points.narrow(1, 1, 1)?)?;
        points = target.sub(&moved)?;
    }
    points.squeeze(3)?.permute(&[0, 2, 1])
}
