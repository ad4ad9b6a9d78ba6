//! Which parameter learns how: parameter groups by name, and frozen parts.

use fullbore_torch::Result as TorchResult;

use super::config::{GroupConfig, OptimizerConfig, SettingError, refuse};
use crate::Params;

/// Trained parameters, in an order in which those with the same numbers are neighbours.
#[derive(Debug)]
pub(super) struct Grouping {
    /// Places in [`Params::parameters`].
    pub(super) order: Vec<usize>,
    pub(super) groups: Vec<Group>,
}

/// Neighbours in that order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Group {
    /// One past the last.
    pub(super) end: usize,
    pub(super) lr_factor: f64,
    pub(super) weight_decay: f64,
}

impl Grouping {
    /// Sorts parameters, given with whether they are norms or biases, by the first group that names them.
    ///
    /// # Errors
    /// A group that names nothing, or nothing left to train.
    pub(super) fn new(parameters: &[(&str, bool)], config: &OptimizerConfig) -> Result<Self, SettingError> {
        let group_of = |name: &str| config.groups.iter().position(|group| matches(&group.pattern, name));
        for group in &config.groups {
            if !parameters.iter().any(|(name, _)| matches(&group.pattern, name)) {
                return Err(names_nothing(group, parameters));
            }
        }
        let decays = |is_norm_or_bias: bool| config.decay_norm_and_bias || !is_norm_or_bias;
        // Group (none last) and decay of each trained parameter; the sort keeps the building order within.
        let mut trained: Vec<(usize, bool, usize)> = parameters
            .iter()
            .enumerate()
            .map(|(place, &(name, small))| {
                (group_of(name).unwrap_or(config.groups.len()), !decays(small), place)
            })
            .filter(|&(group, ..)| config.groups.get(group).is_none_or(|group| !group.frozen))
            .collect();
        if trained.is_empty() {
            return Err(refuse("optimizer.groups", "all frozen", "leave at least one parameter to train"));
        }
        trained.sort();
        let mut groups: Vec<Group> = Vec::new();
        for (i, &(group, no_decay, _)) in trained.iter().enumerate() {
            let numbers = Group {
                end: i + 1,
                lr_factor: config.groups.get(group).map_or(1.0, |group| group.lr_factor),
                weight_decay: if no_decay { 0.0 } else { config.decay() },
            };
            match groups.last_mut() {
                Some(last) if *last == (Group { end: i, ..numbers }) => last.end = i + 1,
                _ => groups.push(numbers),
            }
        }
        Ok(Self { order: trained.into_iter().map(|(_, _, place)| place).collect(), groups })
    }
}

/// Takes the gradient from every parameter that a frozen group names. BatchNorm layers see it and keep still.
pub(super) fn freeze(params: &Params, config: &OptimizerConfig) -> TorchResult<()> {
    for (name, parameter) in params.parameters() {
        let group = config.groups.iter().find(|group| matches(&group.pattern, name));
        if group.is_some_and(|group| group.frozen) {
            parameter.set_requires_grad(false)?;
        }
    }
    Ok(())
}

fn names_nothing(group: &GroupConfig, parameters: &[(&str, bool)]) -> SettingError {
    let nearest = parameters
        .iter()
        .map(|(name, _)| *name)
        .max_by(|a, b| {
            let likeness = |name| strsim::jaro_winkler(name, &group.pattern);
            likeness(a).total_cmp(&likeness(b))
        })
        .unwrap_or_default();
    refuse(
        "optimizer.groups",
        format!("`{}`", group.pattern),
        format!("no parameter has such a name; the nearest is {nearest} (`*` stands for any text)"),
    )
}

/// Whether `pattern` names `name`: `*` is any text; a pattern without it also names what lies below.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return name.strip_prefix(pattern).is_some_and(|below| below.is_empty() || below.starts_with('.'));
    };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let Some((middles, end)) = rest.rsplit_once('*') else { return name.ends_with(rest) };
    // The earliest place for each middle part leaves the most room for those after it.
    for middle in middles.split('*') {
        match name.find(middle) {
            Some(at) => name = &name[at + middle.len()..],
            None => return false,
        }
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::super::OptimizerName;
    use super::*;

    const PARAMETERS: [(&str, bool); 6] = [
        ("inc.conv.weight", false),
        ("inc.norm.weight", true),
        ("inc.norm.bias", true),
        ("down1.conv.weight", false),
        ("down10.conv.bias", true),
        ("outc.weight", false),
    ];

    fn config(groups: &[(&str, f64, bool)], decay_norm_and_bias: bool) -> OptimizerConfig {
        let group = |&(pattern, lr_factor, frozen): &(&str, _, _)| GroupConfig {
            pattern: pattern.into(),
            lr_factor,
            frozen,
        };
        OptimizerConfig {
            weight_decay: Some(0.1),
            decay_norm_and_bias,
            groups: groups.iter().map(group).collect(),
            ..OptimizerConfig::new(OptimizerName::Adamw, 1e-3)
        }
    }

    fn group(end: usize, lr_factor: f64, weight_decay: f64) -> Group {
        Group { end, lr_factor, weight_decay }
    }

    #[test]
    fn without_groups_the_order_is_that_of_building() {
        let grouping = Grouping::new(&PARAMETERS, &config(&[], true)).unwrap();
        assert_eq!(grouping.order, [0, 1, 2, 3, 4, 5]);
        assert_eq!(grouping.groups, [group(6, 1.0, 0.1)]);
    }

    #[test]
    fn norms_and_biases_make_a_group_without_decay() {
        let grouping = Grouping::new(&PARAMETERS, &config(&[], false)).unwrap();
        assert_eq!(grouping.order, [0, 3, 5, 1, 2, 4]);
        assert_eq!(grouping.groups, [group(3, 1.0, 0.1), group(6, 1.0, 0.0)]);
    }

    #[test]
    fn the_first_group_that_names_a_parameter_has_it() {
        let groups = [("inc.norm", 0.0, true), ("inc.*", 0.1, false), ("*.weight", 2.0, false)];
        let grouping = Grouping::new(&PARAMETERS, &config(&groups, true)).unwrap();
        assert_eq!(grouping.order, [0, 3, 5, 4]);
        assert_eq!(grouping.groups, [group(1, 0.1, 0.1), group(3, 2.0, 0.1), group(4, 1.0, 0.1)]);
    }

    #[test]
    fn groups_that_cannot_work_are_refused() {
        let refused = |groups: &[_]| Grouping::new(&PARAMETERS, &config(groups, true)).unwrap_err();
        let error = refused(&[("inc", 1.0, false), ("down2", 1.0, false)]);
        assert_eq!(error.value, "`down2`");
        assert!(error.allowed.contains("the nearest is down1"), "{error:?}");
        assert_eq!(refused(&[("*", 1.0, true)]).value, "all frozen");
    }

    #[test]
    fn names_and_stars() {
        for (pattern, name, yes) in [
            ("down1", "down1.conv.weight", true),
            ("down1", "down10.conv.weight", false),
            ("down1.conv.weight", "down1.conv.weight", true),
            ("down1.*", "down1.conv.weight", true),
            ("down1.*", "down10.conv.weight", false),
            ("*.bias", "inc.norm.bias", true),
            ("*.bias", "inc.bias.norm", false),
            ("inc*bias", "inc.norm.bias", true),
            ("*norm*", "inc.norm.bias", true),
            ("a*ab*b", "aab", false),
            ("a*ab*b", "aabb", true),
            ("*a*b*c", "xaxbxc", true),
            ("*a*b*c", "xbxaxc", false),
            ("*", "", true),
            ("", "inc", false),
        ] {
            assert_eq!(matches(pattern, name), yes, "{pattern} {name}");
        }
    }
}
