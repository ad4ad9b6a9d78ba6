/// Many short strings in one allocation: a million file names cost their bytes and 8 more each.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    text: String,
    ends: Vec<usize>,
}

impl NameTable {
    pub(super) fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

/// Endings of files that are taken as pictures. What they hold is decided by their content.
const PICTURE_ENDINGS: [&str; 9] = ["png", "jpg", "jpeg", "jpe", "jfif", "tif", "tiff", "webp", "bmp"];

/// True when a file of this name is taken as a picture. What it holds is decided by its content.
pub fn ends_like_picture(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    ending.is_some_and(|ending| PICTURE_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// A file name without its last extension.
pub(super) fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_went_in() {
        let mut table = NameTable::default();
        ["a.png", "", "b.c.jpg"].iter().for_each(|n| table.push(n));
        assert_eq!((table.len(), table.get(0), table.get(1), table.get(2)), (3, "a.png", "", "b.c.jpg"));
        assert_eq!([stem("b.c.jpg"), stem("plain")], ["b.c", "plain"]);
    }
}
