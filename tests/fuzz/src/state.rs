//! Saved device state: texts as a file may have them, for devices of every kind; and devices as any driver
//! may have left them, which go on as another one (see [`served`](super::served)).

use std::sync::Arc;
use std::time::Duration;

use runner::devices::pci::bus::{PciBus, Ports};
use runner::devices::pl011::Pl011;
use runner::devices::pl031::Pl031;
use runner::devices::rtc::Rtc;
use runner::devices::serial::Com1;
use runner::devices::state::{Machine as Saved, State};
use runner::devices::virtio::balloon::Balloon;
use runner::devices::virtio::rng::Rng;
use runner::devices::virtio::served::Served;
use runner::devices::virtio::state::VirtioState;

use super::input::Input;
use super::served::{DATA, Machine, WRITE};

/// The first byte says which of the two, and of which device.
pub fn state(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 3 {
        0 => text(input.0),
        1 => driven(input, Rng::default, 0),
        // The queue of reports takes what an entropy device's does.
        _ => driven(input, || Balloon::new(1 << 20), 2),
    }
}

fn text(text: &[u8]) {
    let Ok(saved) = Saved::from_json(text) else { return };
    assert_eq!(Saved::from_json(saved.to_json().as_bytes()), Ok(saved.clone()));
    for state in saved.devices.values() {
        match state {
            State::Virtio(state) => {
                works_as(Machine::new(Rng::default()), state, 0);
                works_as(Machine::new(Balloon::new(1 << 20)), state, 2);
            }
            other => fixed(other),
        }
    }
}

/// What a device takes is what it says of itself, and it can be reset and works after that.
fn works_as<D: Served>(mut machine: Machine<D>, state: &VirtioState, queue: usize) {
    if machine.restore(state).is_err() {
        return;
    }
    assert_eq!(machine.describe().as_ref(), Ok(state));
    machine.later();
    machine.reset();
    machine.request(queue, &[(DATA, 24, WRITE)]);
    assert_eq!(machine.used(queue).0, 1, "it works");
}

/// Whatever a driver did, the device can be told apart by nothing from the one that goes on for it.
fn driven<D: Served>(mut input: Input<'_>, device: impl Fn() -> D, queue: usize) {
    let mut machine = Machine::new(device());
    machine.acts(&mut input, |_, _| ());
    machine.later();
    let saved = machine.describe().expect("nothing is under way behind a turn");
    works_as(machine.moved_to(device()), &saved, queue);
}

fn clock() -> Box<dyn Fn() -> Duration + Send + Sync> {
    Box::new(|| Duration::from_secs(1 << 30))
}

fn fixed(state: &State) {
    let nothing = || Box::new(|| ());
    match state {
        State::Com1(saved) => {
            let com1 = Com1::new(Arc::new(|| ()), std::io::sink(), nothing());
            if com1.restore(saved).is_ok() {
                assert_eq!(com1.describe(), *saved);
            }
        }
        State::Pl011(saved) => {
            let pl011 = Pl011::new(Arc::new(|_| ()), std::io::sink(), nothing());
            if pl011.restore(saved).is_ok() {
                assert_eq!(pl011.describe(), *saved);
            }
        }
        State::Pl031(saved) => {
            let pl031 = Pl031::new(clock());
            if pl031.restore(*saved).is_ok() {
                assert_eq!(pl031.describe(), *saved);
            }
        }
        State::Rtc(saved) => {
            let rtc = Rtc::new(clock());
            if rtc.restore(saved).is_ok() {
                assert_eq!(rtc.describe(), *saved);
            }
        }
        State::PciPorts(address) => {
            let ports = Ports::new(Arc::new(PciBus::default()));
            if ports.restore(*address).is_ok() {
                assert_eq!(ports.describe(), *address);
            }
        }
        State::Virtio(_) | State::Pci(_) => {}
    }
}
