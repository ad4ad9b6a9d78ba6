//! A head whose outputs have names, filled from one that has other outputs, or the same in another order.

use std::collections::BTreeMap;

use fullbore_checkpoint::NamedTensor;
use fullbore_torch::{Kind, Result, Tensor};

use crate::Params;
use crate::weights::{from_named, to_named};

/// What a model's head takes from a file whose outputs are named `from`, when its own are named `to`: by key, tensors of the
/// model's shape. Outputs that the file lacks keep the model's own values. Empty when the names are the same.
///
/// `heads` are the keys of layers that have one row for each output; `found` gives a tensor of the file.
///
/// # Errors
/// When the device fails.
pub fn rows_by_name<'a>(
    params: &Params,
    heads: &[&str],
    found: impl Fn(&str) -> Option<&'a NamedTensor<'a>>,
    from: &[String],
    to: &[String],
) -> Result<BTreeMap<String, NamedTensor<'static>>> {
    let mut rows = BTreeMap::new();
    if from == to {
        return Ok(rows);
    }
    let of_a_head = |name: &str| {
        heads.iter().any(|head| name.strip_prefix(head).is_some_and(|rest| rest.starts_with('.')))
    };
    for (name, tensor) in params.parameters().filter(|(name, _)| of_a_head(name)) {
        let size = tensor.size();
        let Some(old) = found(name) else { continue };
        let fits = size.first() == Some(&(to.len() as i64))
            && old.shape.first() == Some(&from.len())
            && old.shape[1..].iter().map(|&side| side as i64).eq(size[1..].iter().copied());
        if fits {
            let old = from_named(old)?.to_kind(Kind::Float)?.to_vec_f32()?;
            let mut new = tensor.to_kind(Kind::Float)?.to_vec_f32()?;
            let length = new.len() / to.len();
            for (row, name) in new.chunks_exact_mut(length).zip(to) {
                if let Some(at) = from.iter().position(|other| other == name) {
                    row.copy_from_slice(&old[at * length..][..length]);
                }
            }
            let new = Tensor::from_slice(&new)?.reshape(&size)?;
            rows.insert(name.to_string(), to_named(name, &new)?);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::norm::{NormConfig, NormKind};
    use crate::models::{ModelConfig, ModelName};
    use crate::weights;
    use fullbore_torch::{Device, manual_seed};

    fn net(seed: i64, outputs: i64) -> Params {
        manual_seed(seed as u64).unwrap();
        let mut params = Params::new(Device::Cpu);
        let config = ModelConfig { base: Some(4), depth: Some(1), ..ModelConfig::new(ModelName::Unet) };
        config
            .build(&mut params, 3, outputs, &NormConfig { kind: NormKind::Group, group: None, groups: 2 })
            .unwrap();
        params
    }

    fn bias(params: &Params) -> Vec<f32> {
        params.parameters().find(|(name, _)| *name == "outc.conv.bias").unwrap().1.to_vec_f32().unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_subset_takes_its_rows_and_gives_them_back() {
        let (full, subset, again) = (net(1, 3), net(2, 2), net(3, 3));
        let (all, some) = (names(&["a", "b", "c"]), names(&["c", "a"]));
        let pass = |from: &Params, to: &Params, old: &[String], new: &[String]| {
            let file = weights::save(from, "").unwrap();
            let find = |name: &str| file.iter().find(|tensor| tensor.name == name);
            let rows = rows_by_name(to, &["outc.conv"], find, old, new).unwrap();
            assert_eq!(rows.len(), 2, "weight and bias");
            let tensors =
                file.iter().map(|tensor| (&*tensor.name, rows.get(&*tensor.name).unwrap_or(tensor)));
            assert!(weights::load(to, tensors).unwrap().is_complete());
        };
        let fresh = bias(&again);
        pass(&full, &subset, &all, &some);
        assert_eq!(bias(&subset), [bias(&full)[2], bias(&full)[0]]);
        pass(&subset, &again, &some, &all);
        assert_eq!(bias(&again), [bias(&full)[0], fresh[1], bias(&full)[2]]);
    }
}
