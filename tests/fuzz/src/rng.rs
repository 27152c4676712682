//! The entropy device: see [`served`](super::served). No request gets more than 64 KiB, or what it has
//! room for.

use runner::devices::virtio::rng::Rng;

use super::input::Input;
use super::served::{DATA, Machine, WRITE};

/// A list of actions.
pub fn rng(data: &[u8]) {
    let mut machine = Machine::new(Rng::default());
    machine.run(Input(data), |_, _| ());
    machine.request(0, &[(DATA, 24, WRITE)]);
    assert_eq!(machine.used(0), (1, 24), "it works");
}
