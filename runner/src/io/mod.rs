//! Waiting and files: the event loop, events between threads, signals, the console. Nothing else
//! in runner asks the operating system to wait.

pub mod console;
pub mod event;
pub mod event_loop;
pub mod file;
pub mod signals;
