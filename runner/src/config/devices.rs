//! Which further devices a guest has, neither disks nor its network, as far as somebody said.

use super::Config;

/// Further devices, on the command line and settled alike.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Devices {
    /// An entropy device, or none.
    pub rng: Option<bool>,
}

/// What is typed stands, and for the rest what the config has.
pub(super) fn settle(typed: Devices, config: &Config) -> Devices {
    Devices { rng: typed.rng.or_else(|| config.switch("Runner.Rng")) }
}
