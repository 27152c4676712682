//! The balloon: see [`served`](super::served). Pages go from under its queues and its lists, too.

use runner::devices::virtio::balloon::Balloon;

use super::input::Input;
use super::served::{DATA, Machine, RAM, WRITE};

/// A list of actions.
pub fn balloon(data: &[u8]) {
    let mut machine = Machine::new(Balloon::new(1 << 20));
    machine.run(Input(data), |machine, input| {
        // A list of pages, most of which are there.
        let pages = RAM / 4096;
        for entry in 0..u64::from(input.byte() % 32) {
            let page = if input.one_in(16) { input.word() } else { u32::from(input.byte()) % 80 };
            assert!(pages < 80);
            machine.write(DATA + 4 * entry, &page.to_le_bytes());
        }
        let queue = usize::from(input.byte() % 2);
        machine.request(queue, &[(DATA, u32::from(input.byte()), 0)]);
    });
    machine.write(DATA, &(0x20u32).to_le_bytes());
    machine.request(0, &[(DATA, 4, 0)]);
    machine.request(1, &[(DATA, 4, 0)]);
    machine.request(2, &[(DATA, 0x2000, WRITE)]);
    for queue in 0..3 {
        assert_eq!(machine.used(queue), (1, 0), "queue {queue} works");
    }
}
