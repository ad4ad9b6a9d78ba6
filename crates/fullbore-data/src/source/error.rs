use std::io;
use std::path::PathBuf;

use fullbore_types::Size;

use super::{Annotator, Crop};
use crate::canvas::Window;

/// Samples that cannot be found, paired or read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SourceError {
    /// No such path.
    #[error("{} does not exist", path.display())]
    #[diagnostic(
        code(data::source::not_found),
        help("check the spelling; a relative path starts at the working folder, in a list at the list file")
    )]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{} cannot be read: {source}", path.display())]
    #[diagnostic(code(data::source::unreadable), help("check its permissions and the disk"))]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A folder, FIFO, socket or device where a file was expected.
    #[error("{} is not a regular file", path.display())]
    #[diagnostic(code(data::source::not_a_file), help("replace it by the picture itself"))]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Longer than [`crate::DecodeLimits::max_bytes`].
    #[error("{} has {length} bytes, more than the limit of {limit}", path.display())]
    #[diagnostic(code(data::source::too_long), help("cut the picture into tiles, or store it compressed"))]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length, at least.
        length: u64,
        /// Most bytes allowed.
        limit: u64,
    },
    /// A file name that is not text.
    #[error("{} has a name that is not valid UTF-8", path.display())]
    #[diagnostic(code(data::source::name), help("rename the file"))]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// A folder without any of the known layouts.
    #[error("{} holds no image/mask pairs; it holds {found}", path.display())]
    #[diagnostic(
        code(data::source::layout),
        help(
            "expected images/ (or imgs/) and masks/ below it, or X.jpg beside X_mask.png, or a CSV or JSONL list, a \
             COCO JSON file, a folder of LabelMe JSON files, a part of Aariz (Cephalograms/ and Annotations/) or of \
             ISBI 2015 (below RawImage/), a folder of .pts files, a WFLW list, a dlib XML file, or tar shards; \
             data.format says which one is meant"
        )
    )]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What lies there instead.
        found: String,
    },
    /// The folder of images was given instead of the one above.
    #[error("{} is the folder of images; the masks lie beside it", path.display())]
    #[diagnostic(code(data::source::inside), help("give the folder above: {}", parent.display()))]
    InsideFolder {
        /// The folder as given.
        path: PathBuf,
        /// The folder that holds images and masks.
        parent: PathBuf,
    },
    /// The folder of the whole data set was given instead of one of its parts.
    #[error("{} holds all parts of the data set; one of them is needed", path.display())]
    #[diagnostic(code(data::source::outside), help("give the folder of one part, such as {}", part.display()))]
    OutsideFolder {
        /// The folder as given.
        path: PathBuf,
        /// One that would do.
        part: PathBuf,
    },
    /// A folder without any picture.
    #[error("{} holds no pictures; it holds {found}", folder.display())]
    #[diagnostic(
        code(data::source::empty),
        help("looked for files ending in .png, .jpg, .jpeg, .tif, .tiff, .webp or .bmp")
    )]
    Empty {
        /// The folder.
        folder: PathBuf,
        /// What lies there instead.
        found: String,
    },
    /// Two files that would be the same part of one sample.
    #[error("`{stem}` has two {what}: {} and {}", first.display(), second.display())]
    #[diagnostic(code(data::source::twins), help("keep one of the two"))]
    Twins {
        /// Stem of the sample.
        stem: String,
        /// `images` or `masks`.
        what: &'static str,
        /// One file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
    },
    /// Images without a mask.
    #[error("{count} of {of} images have no mask in {}: {}", folder.display(), examples.join(", "))]
    #[diagnostic(
        code(data::source::no_mask),
        help(
            "a mask has its image's name, or that name with _mask: X.jpg, X.png or X_mask.png; add the missing \
              masks or remove the images"
        )
    )]
    NoMask {
        /// Where masks were looked for.
        folder: PathBuf,
        /// Names of the first few images.
        examples: Vec<String>,
        /// Images without a mask.
        count: usize,
        /// All images.
        of: usize,
    },
    /// A list without the columns that it needs.
    #[error(
        "list {} has no columns `image` and `mask`, nor `image`, `x0`, `y0`, `x1`, ...; its first line is `{found}`",
        path.display()
    )]
    #[diagnostic(
        code(data::list::header),
        help(
            "the first line of a list is image,mask or image,x0,y0,x1,y1,... without gaps; a box has all four columns \
             box_left,box_top,box_width,box_height"
        )
    )]
    ListHeader {
        /// The list file.
        path: PathBuf,
        /// Its first line.
        found: String,
    },
    /// A line that cannot be used.
    #[error("list {}, line {line}: {detail}", path.display())]
    #[diagnostic(
        code(data::list::line),
        help(
            "each line after the first holds two paths (image,mask), or a path and the points' coordinates"
        )
    )]
    ListLine {
        /// The list file.
        path: PathBuf,
        /// One-based line.
        line: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// A list or an annotation file without any entry.
    #[error("{} names no samples", path.display())]
    #[diagnostic(
        code(data::source::no_samples),
        help("give a file with at least one image that has a target")
    )]
    NoSamples {
        /// The file.
        path: PathBuf,
    },
    /// A JSON file that is damaged or holds something else.
    #[error("{} cannot be used as {expected}: {detail}", path.display())]
    #[diagnostic(
        code(data::annotations::json),
        help("check that the file is whole, and that data.format fits it")
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What is wrong, and the line and column.
        detail: String,
    },
    /// A line of an annotation file that cannot be used.
    #[error("{}, line {line}: {detail}", path.display())]
    #[diagnostic(
        code(data::annotations::line),
        help("correct this line, or check that the file is whole and that data.format fits it")
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// One-based line.
        line: u64,
        /// What is wrong with it, and what was expected.
        detail: String,
    },
    /// Points or a box of another image.
    #[error(
        "{} shows a sample by columns {} to {} and rows {} to {} of {}, which is only {size}",
        annotations.display(), window.x, i64::from(window.x) + i64::from(window.size.width) - 1,
        window.y, i64::from(window.y) + i64::from(window.size.height) - 1, image.display()
    )]
    #[diagnostic(
        code(data::annotations::outside),
        help("correct or remove its box or points; they hold for the upright image")
    )]
    WindowOutside {
        /// The annotation file.
        annotations: PathBuf,
        /// The image file.
        image: PathBuf,
        /// What should be shown.
        window: Window,
        /// Size of the image, upright.
        size: Size,
    },
    /// An annotation that cannot be used.
    #[error("{}, {entry}: {detail}", path.display())]
    #[diagnostic(code(data::annotations::entry), help("correct or remove this entry"))]
    Entry {
        /// The file.
        path: PathBuf,
        /// Which entry of it.
        entry: String,
        /// What is wrong with it, and what was expected.
        detail: String,
    },
    /// Annotations made for an image of another size.
    #[error(
        "{} states {stated} for {}, which is {size}",
        annotations.display(), image.display()
    )]
    #[diagnostic(
        code(data::annotations::size),
        help(
            "annotations hold for the image as it was when they were made, upright (sizes are width x height, after \
             EXIF orientation); bring that image back or annotate this one"
        )
    )]
    StatedSize {
        /// The annotation file.
        annotations: PathBuf,
        /// The image file.
        image: PathBuf,
        /// Size in the annotation file.
        stated: Size,
        /// Size of the image, upright.
        size: Size,
    },
    /// Images named by an annotation file that are not where they could be.
    #[error("`{image}`, the first image of {}, lies in none of {}", path.display(), tried.join(", "))]
    #[diagnostic(
        code(data::annotations::images),
        help("put the images into one of these folders, or link it there")
    )]
    ImagesNotFound {
        /// The annotation file.
        path: PathBuf,
        /// Name of its first image.
        image: String,
        /// Folders that were looked into.
        tried: Vec<String>,
    },
    /// A class that the annotations do not know.
    #[error("class `{class}` is not in {}, which knows {known}", path.display())]
    #[diagnostic(
        code(config::data::classes),
        help("spell the names under data.classes as the annotations do")
    )]
    UnknownClass {
        /// The annotation file.
        path: PathBuf,
        /// A name under `data.classes`.
        class: String,
        /// The first names in the file.
        known: String,
    },
    /// The class of unmarked pixels is also marked.
    #[error("`{class}`, the first class, stands for pixels that no region covers, but {} marks it", path.display())]
    #[diagnostic(
        code(config::data::classes),
        help("put a class of its own first under data.classes, for instance background")
    )]
    BackgroundMarked {
        /// The annotation file.
        path: PathBuf,
        /// The first name under `data.classes`.
        class: String,
    },
    /// Crops around something that the data do not have.
    #[error("data.crop is {crop}, but {} has no {}", path.display(), crop.needs())]
    #[diagnostic(code(config::data::crop), help("data.crop allows {allowed} for this data set"))]
    CropWithout {
        /// The data set.
        path: PathBuf,
        /// The setting.
        crop: Crop,
        /// Values that would do.
        allowed: &'static str,
    },
    /// A choice where there is none.
    #[error("data.annotator is {annotator}, but {} has one annotation of each image", path.display())]
    #[diagnostic(
        code(config::data::annotator),
        help(
            "data.annotator allows mean for this data set; Aariz and ISBI 2015 have two annotations of each image"
        )
    )]
    OneAnnotator {
        /// The data set.
        path: PathBuf,
        /// The setting.
        annotator: Annotator,
    },
    /// A choice of where coordinates begin for a format that says it.
    #[error("data.first_pixel is {first_pixel}, but {} is no list of points", path.display())]
    #[diagnostic(
        code(config::data::first_pixel),
        help(
            "data.first_pixel allows 0 for this data set; CSV and JSONL lists of points leave open where coordinates begin"
        )
    )]
    FirstPixelIsKnown {
        /// The data set.
        path: PathBuf,
        /// The setting.
        first_pixel: f64,
    },
    /// Data for another kind of model.
    #[error("{} holds {found}, but {wanted} are needed", path.display())]
    #[diagnostic(
        code(data::source::target),
        help(
            "give data with {wanted}, or set loss.name to a loss for {found}: bce_dice and ce_dice are for masks, mse \
             and adaptive_wing for points"
        )
    )]
    WrongTarget {
        /// The data set.
        path: PathBuf,
        /// What it holds.
        found: &'static str,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A tar file that is cut off or no tar file.
    #[error("{}, byte {offset}: {detail}", path.display())]
    #[diagnostic(code(data::shards::damaged), help("fetch or write this shard again"))]
    Shard {
        /// The tar file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        detail: String,
    },
    /// Too few samples to split.
    #[error("{n} images cannot be split by holding out every {every}th: one side would be empty")]
    #[diagnostic(
        code(data::source::split),
        help("add samples, name a validation set as data.val, or lower data.holdout (at least 2)")
    )]
    SplitTooSmall {
        /// Images there are.
        n: usize,
        /// `data.holdout`.
        every: u32,
    },
    /// More samples than ids.
    #[error("{n} samples are more than the {} that can be numbered", u32::MAX)]
    #[diagnostic(code(data::source::too_many), help("split the set, or lower data.crops_per_image"))]
    TooMany {
        /// Samples there would be.
        n: u64,
    },
}
