//! The device with a driver in front of it and programs of the host's behind it.

mod flows;
mod hostile;
mod rig;
