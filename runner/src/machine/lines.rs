//! Level-triggered lines that several devices share: each is high while any of them holds it up. They
//! are joined here, and nowhere else.

use std::sync::{Arc, Mutex, PoisonError};

use crate::devices::Level;

/// A line, and who holds it up: a bit for each share.
struct Line {
    level: Level,
    held: Mutex<u64>,
}

/// The machine's shared lines while devices are made: number, line, the next share's bit.
#[derive(Default)]
pub(super) struct Lines(Vec<(u32, Arc<Line>, u64)>);

impl Lines {
    /// One more device's share in line `number`, which `make` makes for the first.
    pub(super) fn share<E>(
        &mut self,
        number: u32,
        make: impl FnOnce() -> Result<Level, E>,
    ) -> Result<Level, E> {
        let known = self.0.iter_mut().find(|(line, ..)| *line == number);
        let (line, bit) = match known {
            Some((_, line, next)) => {
                let bit = *next;
                *next <<= 1;
                (Arc::clone(line), bit)
            }
            None => {
                let line = Arc::new(Line { level: make()?, held: Mutex::new(0) });
                self.0.push((number, Arc::clone(&line), 2));
                (line, 1)
            }
        };
        Ok(Arc::new(move |high| line.set(bit, high)))
    }
}

impl Line {
    /// The lock is held while the line is set, so that it ends as the last one left it.
    fn set(&self, bit: u64, high: bool) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *held;
        *held = if high { before | bit } else { before & !bit };
        if (before == 0) != (*held == 0) {
            (self.level)(*held != 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_line_is_high_while_any_device_holds_it_and_is_set_only_when_that_changes() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut lines = Lines::default();
        let mut share = |number: u32| -> Level {
            let log = Arc::clone(&log);
            let make = || -> Result<Level, ()> {
                Ok(Arc::new(move |high| log.lock().unwrap().push((number, high))))
            };
            lines.share(number, make).unwrap()
        };
        let (first, second, other) = (share(12), share(12), share(13));
        for (line, high) in
            [(&first, true), (&second, true), (&first, true), (&first, false), (&other, true)]
        {
            line(high);
        }
        assert_eq!(*log.lock().unwrap(), [(12, true), (13, true)]);
        second(false);
        second(false);
        assert_eq!(log.lock().unwrap().last(), Some(&(12, false)));
    }

    #[test]
    fn a_line_that_cannot_be_had_is_no_ones() {
        let mut lines = Lines::default();
        assert!(lines.share(12, || Err("no")).is_err());
        assert!(lines.share(12, || Ok::<Level, ()>(Arc::new(|_| ()))).is_ok());
    }
}
