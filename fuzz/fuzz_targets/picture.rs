//! Any bytes as a picture: JPEG, PNG, BMP, TIFF and WebP, told apart by their first bytes. The first input byte chooses
//! what is wanted of it; limits are those of a plan, made smaller so that most of the time goes into decoders.
#![no_main]

use std::path::Path;

use fullbore_data::DecodeLimits;
use fullbore_data::decode::{DecodeScratch, Picture, Wanted};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let wanted = [Wanted::Rgb, Wanted::Gray, Wanted::Mask][usize::from(choice % 3)];
    let limits = DecodeLimits { max_pixels: 1 << 18, max_bytes: 1 << 20 };
    let Ok(picture) = Picture::open(bytes, Path::new("input"), wanted, &limits) else { return };
    let size = picture.size();
    assert!(size.area() > 0 && size.area() <= limits.max_pixels, "{size}");
    let mut out = vec![0; picture.n_bytes()];
    let _ = picture.read(&mut out, &mut DecodeScratch::default());
});
