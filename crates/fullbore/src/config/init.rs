use super::schema::DEFAULT_YAML;

const HEAD: &str = "\
# Settings of fullbore. Every key is here with its default; what follows a # is its meaning.
#
# Set data.train, change what you need and delete the rest: keys that are left out keep their defaults. Then:
#   fullbore train THIS_FILE.yaml
# Single settings can also be given on the command line, over this file:
#   fullbore train THIS_FILE.yaml --set batch.size=4 --set optimizer.lr=3e-4
";

/// The text that `fullbore init` writes: every key with its default and its meaning.
pub fn commented_template() -> String {
    // The comment that opens default.yaml speaks to those who change fullbore.
    let body: String = DEFAULT_YAML.split_inclusive('\n').skip_while(|line| line.starts_with('#')).collect();
    format!("{HEAD}{body}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    #[test]
    fn the_template_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fullbore.yaml");
        std::fs::write(&path, commented_template()).unwrap();
        let mut layers = Layers::new();
        layers.add_file(&path).unwrap();
        assert_eq!(layers.values(), Layers::new().values());
    }

    #[test]
    fn the_template_speaks_to_users_only() {
        let template = commented_template();
        assert!(template.starts_with("# Settings of fullbore."));
        assert_eq!(template.matches("\nrun:\n").count(), 1);
        assert!(!template.contains(DEFAULT_YAML.lines().next().unwrap()));
    }
}
