use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::faces::{FaceList, Faces};
use super::labelme::Label;
use super::text::{line_error, line_of, number, read_text};
use super::{MAX_JSON_BYTES, SourceError};
use crate::bounds::Bounds;
use crate::points::{MAX_POINTS, Point};

/// Deepest element; a box's part is the fifth.
const MAX_DEPTH: usize = 16;
/// Most points of all faces together, named or missing: a million faces of 68 points.
const MAX_TABLE: usize = 1 << 26;

impl Faces {
    /// Reads an XML file as dlib's tools write it: `image` elements with `box` elements, whose `part` elements are the
    /// points. These are called by their names, sorted (numbers by value); one that a face lacks is not labelled there.
    /// Boxes that are to be ignored, and those without points, are left out. Boxes count from the outer edge of the
    /// first pixel, points from its centre. Opens no picture, and expands no entities but XML's own.
    ///
    /// # Errors
    /// When the file cannot be read, is no such XML, has no face with points, or holds something that cannot be used.
    pub fn open_dlib(xml: &Path) -> Result<Self, SourceError> {
        let text = read_text(xml, MAX_JSON_BYTES)?;
        let mut reader = Reader::from_str(&text);
        let mut document = Document::default();
        loop {
            let event = reader.read_event();
            let read = match event {
                Ok(Event::Eof) if document.depth == 0 && document.is_begun => break,
                Ok(Event::Eof) => Err("the file ends within the data set".into()),
                Ok(Event::Start(tag)) => document.start(&tag),
                Ok(Event::Empty(tag)) => {
                    document.start(&tag).and_then(|()| document.end(tag.name().as_ref()))
                }
                Ok(Event::End(tag)) => document.end(tag.name().as_ref()),
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            read.map_err(|detail| {
                let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
                line_error(xml, line_of(&text.as_bytes()[..at.min(text.len())]), detail)
            })?;
        }
        document.faces(xml)
    }
}

/// What was read so far.
#[derive(Default)]
struct Document {
    is_begun: bool,
    depth: usize,
    /// Paths of the images so far.
    images: Vec<String>,
    /// True within the last of them.
    in_image: bool,
    /// The box that is being read, unless it is ignored.
    open: Option<Bounds>,
    boxes: Vec<Boxed>,
    /// Parts of all boxes: number of the name, and place.
    parts: Vec<(u32, Point)>,
    numbers: HashMap<String, u32>,
}

/// A box with points.
struct Boxed {
    /// Place among the images.
    image: usize,
    bounds: Bounds,
    /// Where its parts end among all.
    end: usize,
}

impl Document {
    /// # Errors
    /// In words, as below.
    fn start(&mut self, tag: &BytesStart) -> Result<(), String> {
        let name = tag.name();
        if !self.is_begun && name.as_ref() != "dataset" {
            let start: String = name.as_ref().chars().take(40).collect();
            return Err(format!("the file begins with <{start}>; expected dlib's <dataset>"));
        }
        self.is_begun = true;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("elements lie more than {MAX_DEPTH} deep"));
        }
        match name.as_ref() {
            "image" => {
                self.images.push(needed(tag, "file")?.into_owned());
                self.in_image = true;
            }
            "box" => {
                if !self.in_image {
                    return Err("a box outside of an image".into());
                }
                let side = |name| number(&needed(tag, name)?);
                let bounds = Bounds::read([side("left")?, side("top")?, side("width")?, side("height")?])?;
                let ignored = attribute(tag, "ignore")?.is_some_and(|value| value != "0");
                self.open = (!ignored).then_some(bounds);
            }
            "part" if self.open.is_some() => {
                let name = needed(tag, "name")?;
                let point = Point::read(number(&needed(tag, "x")?)?, number(&needed(tag, "y")?)?, 2.0)?;
                let next = self.numbers.len() as u32;
                let number = match self.numbers.get(&*name) {
                    Some(&number) => number,
                    None if self.numbers.len() == MAX_POINTS => {
                        return Err(format!("there are more than {MAX_POINTS} names of parts by now"));
                    }
                    None => *self.numbers.entry(name.into_owned()).or_insert(next),
                };
                let first = self.boxes.last().map_or(0, |boxed| boxed.end);
                if self.parts.len() - first == MAX_POINTS {
                    return Err(format!("a box of more than {MAX_POINTS} parts"));
                }
                self.parts.push((number, point));
            }
            _ => (),
        }
        Ok(())
    }

    fn end(&mut self, name: &str) -> Result<(), String> {
        self.depth = self.depth.saturating_sub(1);
        match name {
            "image" => self.in_image = false,
            "box" => {
                let first = self.boxes.last().map_or(0, |boxed| boxed.end);
                if let Some(bounds) = self.open.take()
                    && self.parts.len() > first
                {
                    self.boxes.push(Boxed { image: self.images.len() - 1, bounds, end: self.parts.len() });
                }
            }
            _ => (),
        }
        Ok(())
    }

    fn faces(self, xml: &Path) -> Result<Faces, SourceError> {
        let Document { images, boxes, parts, numbers, .. } = self;
        let mut names: Vec<(Label, u32)> = numbers.into_iter().map(|(name, n)| (Label(name), n)).collect();
        names.sort_unstable();
        let k = names.len();
        let mut places = vec![0; k];
        names.iter().enumerate().for_each(|(place, (_, number))| places[*number as usize] = place);
        let wrong = |entry: String, detail| SourceError::Entry { path: xml.into(), entry, detail };
        if boxes.len().saturating_mul(k) > MAX_TABLE {
            let detail =
                format!("{k} names of parts in {} boxes; expected the same few in each", boxes.len());
            return Err(wrong("parts".into(), detail));
        }
        let mut faces = FaceList::default();
        let mut start = 0;
        for Boxed { image, bounds, end } in boxes {
            let image = &images[image];
            let mut points = vec![Point::NOT_LABELLED; k];
            let mut labelled = vec![false; k];
            for (number, point) in &parts[start..end] {
                let place = places[*number as usize];
                if std::mem::replace(&mut labelled[place], true) {
                    let detail = format!("a box has part {} twice", names[place].0.0);
                    return Err(wrong(format!("image {image}"), detail));
                }
                points[place] = *point;
            }
            faces.push(image, bounds, points);
            start = end;
        }
        faces.index(xml, names.into_iter().map(|(name, _)| name.0).collect(), &[])
    }
}

/// # Errors
/// In words, as [`needed`].
fn attribute<'a>(tag: &'a BytesStart, name: &str) -> Result<Option<Cow<'a, str>>, String> {
    let found = tag.try_get_attribute(name).map_err(|error| error.to_string())?;
    let value = found.map(|found| found.normalized_value(XmlVersion::Implicit1_0));
    value.transpose().map_err(|error| error.to_string())
}

fn needed<'a>(tag: &'a BytesStart, name: &str) -> Result<Cow<'a, str>, String> {
    attribute(tag, name)?.ok_or_else(|| format!("<{}> has no {name}", tag.name().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Format, Part, Source, Target, open};
    use fullbore_types::SampleId;
    use proptest::prelude::*;
    use std::fs;

    const GOOD: &str = "<?xml version='1.0' encoding='ISO-8859-1'?>
<?xml-stylesheet type='text/xsl' href='x.xsl'?>
<dataset><name>faces &amp; more</name>
<images>
  <image file='b/1 &lt;2&gt;.jpg' width='9' height='9'>
    <box top='2' left='-1' width='30' height='40'>
      <part name='10' x='5' y='6.5'/><part name='02' x='3' y='4'/>
    </box>
    <box top='0' left='0' width='9' height='9' ignore='1'><part name='77' x='1' y='1'/></box>
    <box top='0' left='0' width='9' height='9'/>
    <box top='1' left='1' width='2' height='2'><label>f</label><part name='1' x='7' y='8'></part></box>
  </image>
  <image file='c.png'/>
  <image file='d.png'><box top='1' left='1' width='2' height='2'><part name='02' x='7' y='8'/></box></image>
</images></dataset>
";

    fn read(text: &[u8]) -> Result<Faces, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.xml");
        fs::write(&path, text).unwrap();
        Faces::open_dlib(&path).map_err(|error| error.to_string().rsplit_once("a.xml").unwrap().1.to_owned())
    }

    #[test]
    fn parts_are_sorted_by_number_and_may_be_missing() {
        let source = read(GOOD.as_bytes()).unwrap();
        assert_eq!(source.point_names(), ["1", "02", "10"]);
        let of = |i| match source.target(SampleId(i)) {
            Target::Points(points) => points.to_vec(),
            _ => panic!("points"),
        };
        let none = Point::NOT_LABELLED;
        assert_eq!(of(0), [none, Point::visible(3.0, 4.0), Point::visible(5.0, 6.5)]);
        assert_eq!(of(1), [Point::visible(7.0, 8.0), none, none]);
        assert_eq!([0, 1, 2].map(|i| source.name(SampleId(i))), ["1 <2>#1", "1 <2>#2", "d"]);
        assert!(source.file(SampleId(0), Part::Image).ends_with("b/1 <2>.jpg"));
        let bounds = Bounds { left: -1.0, top: 2.0, width: 30.0, height: 40.0 };
        assert_eq!(source.about(SampleId(0)).bounds, Some(bounds));
    }

    #[test]
    fn it_is_told_by_its_ending() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.XML"), GOOD).unwrap();
        assert_eq!(open(&dir.path().join("a.XML"), Format::Auto, None).unwrap().len(), 3);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let error = |text: &str| read(text.as_bytes()).unwrap_err();
        let with = |old, new| error(&GOOD.replacen(old, new, 1));
        assert_eq!(error(""), ", line 1: the file ends within the data set");
        assert_eq!(error("<a/>"), ", line 1: the file begins with <a>; expected dlib's <dataset>");
        assert_eq!(error("<dataset/>"), " names no samples");
        assert!(error(&GOOD[..GOOD.len() - 11]).starts_with(", line 15: the file ends"));
        assert!(error(&GOOD[..300]).starts_with(", line 7: "), "{}", error(&GOOD[..300]));
        assert!(with("</images>", "</image>").starts_with(", line 15: "));
        assert_eq!(with("file='b/1 &lt;2&gt;.jpg' ", ""), ", line 5: <image> has no file");
        assert_eq!(error("<dataset>\n<box top='1'/></dataset>"), ", line 2: a box outside of an image");
        assert_eq!(with("top='2'", ""), ", line 6: <box> has no top");
        assert_eq!(with("top='2'", "top='x'"), ", line 6: `x` is no number; expected pixels");
        assert!(with("width='30'", "width='0'").starts_with(", line 6: a box of [-1.0, 2.0, 0.0, 40.0]"));
        assert!(with("x='5'", "x='NaN'").starts_with(", line 7: a coordinate of NaN"));
        assert_eq!(with("name='02'", "name='10'"), ", image b/1 <2>.jpg: a box has part 10 twice");
        assert_eq!(read(b"<dataset>\n\xff").unwrap_err(), ", line 2: it is not UTF-8 text");
    }

    #[test]
    fn entities_are_not_expanded_and_sizes_are_bounded() {
        let error = |text: String| read(text.as_bytes()).unwrap_err();
        let laughs = "<!DOCTYPE d [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]>\n<dataset>\n<image file='&b;'/></dataset>";
        assert!(error(laughs.into()).starts_with(", line 3: "), "{}", error(laughs.into()));
        assert_eq!(error("<dataset>".repeat(1 << 16)), ", line 1: elements lie more than 16 deep");
        let face = |parts: &str| {
            format!("<image file='a'><box top='0' left='0' width='1' height='1'>{parts}</box></image>")
        };
        let parts: String = (0..=MAX_POINTS).map(|i| format!("<part name='{i}' x='0' y='0'/>")).collect();
        assert_eq!(
            error(format!("<dataset>{}", face(&parts))),
            ", line 1: there are more than 4096 names of parts by now"
        );
        let same = "<part name='1' x='0' y='0'/>".repeat(MAX_POINTS + 1);
        assert_eq!(error(format!("<dataset>{}", face(&same))), ", line 1: a box of more than 4096 parts");
        // Few bytes for each box, but many points that all of them lack.
        let names: String = (0..MAX_POINTS).map(|i| format!("<part name='{i}' x='0' y='0'/>")).collect();
        let many = face("<part name='1' x='0' y='0'/>").repeat(1 << 14);
        assert_eq!(
            error(format!("<dataset>{}{many}</dataset>", face(&names))),
            ", parts: 4096 names of parts in 16385 boxes; expected the same few in each"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Whatever a damaged file holds, it is read or refused.
        #[test]
        fn damage_never_panics(at in 0..GOOD.len(), byte: u8, cut: bool) {
            let mut text = GOOD.as_bytes().to_vec();
            if cut { text.truncate(at) } else { text[at] = byte }
            let _ = read(&text);
        }
    }
}
