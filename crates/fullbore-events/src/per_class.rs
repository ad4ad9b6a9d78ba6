use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

use crate::number::Number;

/// A score for each class, in the order of the class indices; a JSON object by class name.
///
/// A class that occurs neither in the labels nor in the predictions has no score: NaN.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PerClass(Vec<(String, f64)>);

impl PerClass {
    /// The score of the class called `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter().find_map(|(class, score)| (class == name).then_some(score))
    }

    /// Names and scores by class index.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(class, score)| (class.as_str(), *score))
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when no class is scored.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>> FromIterator<(N, f64)> for PerClass {
    fn from_iter<I: IntoIterator<Item = (N, f64)>>(scores: I) -> Self {
        Self(scores.into_iter().map(|(class, score)| (class.into(), score)).collect())
    }
}

impl Serialize for PerClass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(class, score)| (class, Number(score))))
    }
}

impl<'de> Deserialize<'de> for PerClass {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scores;
        impl<'de> Visitor<'de> for Scores {
            type Value = PerClass;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from class names to scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PerClass, A::Error> {
                let mut scores = Vec::new();
                while let Some((class, Number(score))) = map.next_entry::<String, Number>()? {
                    scores.push((class, score));
                }
                Ok(PerClass(scores))
            }
        }
        deserializer.deserialize_map(Scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_missing_scores_survive_json() {
        let scores: PerClass = [("membrane", 0.75), ("cell", f64::NAN), ("a", 1.0)].into_iter().collect();
        let json = serde_json::to_string(&scores).unwrap();
        assert_eq!(json, r#"{"membrane":0.75,"cell":"NaN","a":1.0}"#);
        let back: PerClass = serde_json::from_str(&json).unwrap();
        assert_eq!(back.iter().map(|(class, _)| class).collect::<Vec<_>>(), ["membrane", "cell", "a"]);
        assert_eq!(back.get("membrane"), Some(0.75));
        assert!(back.get("cell").unwrap().is_nan());
        assert_eq!(back.get("nucleus"), None);
    }
}
