//! Whole images: the five fixtures, what else is recognised, and what is nearly an image.

use super::*;

mod disks;
mod fixtures;
mod formats;
mod programs;

fn recognise(bytes: &[u8]) -> Result<Image, Error> {
    Image::recognise(Source::from_bytes("test.img", bytes))
}

/// What is wrong, after the message has been checked to name the image.
fn problem(bytes: &[u8]) -> Problem {
    let error = recognise(bytes).unwrap_err();
    assert!(error.to_string().starts_with("test.img: "), "{error}");
    *error.problem
}

fn format(bytes: &[u8]) -> Format {
    recognise(bytes).unwrap().format()
}
