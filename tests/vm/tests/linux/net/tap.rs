//! The same over a tap device, in a network namespace of its own.
