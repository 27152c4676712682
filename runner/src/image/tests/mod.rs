//! Whole images: the five fixtures, and what is nearly one.

use super::*;

mod fixtures;
