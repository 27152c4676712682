//! Every device on every bus: described, written down, and given to a device made anew, which goes on
//! where the first one stopped.

mod own;
mod subjects;

use super::super::pci::PciState;
use super::super::state::{Own, PortState, VirtioState};
use super::{On, RAM, Rig, USED, memory, reg};
use crate::devices::state::{Machine, Refused, State, Undescribed};
use subjects::{Subject, balloon, block, console, net, rng, share, subjects, vsock};

const BUSES: [On; 3] = [On::Mmio, On::Pci { messages: true }, On::Pci { messages: false }];

type Description = (VirtioState, Option<PciState>);

/// What is written down of a device comes back as it was.
fn through_a_file((device, function): &Description) -> Description {
    let mut machine = Machine::default();
    machine.devices.insert("device".into(), State::Virtio(device.clone()));
    if let Some(function) = function {
        machine.devices.insert("function".into(), State::Pci(function.clone()));
    }
    let mut read = Machine::from_json(machine.to_json().as_bytes()).unwrap();
    assert_eq!(read, machine);
    let Some(State::Virtio(device)) = read.devices.remove("device") else { panic!() };
    let function = read.devices.remove("function").map(|function| match function {
        State::Pci(function) => function,
        other => panic!("{other:?}"),
    });
    (device, function)
}

#[test]
fn a_restored_device_is_what_it_was_and_serves_what_was_offered_before() {
    for bus in BUSES {
        for (name, subject) in subjects() {
            println!("{name} on {bus:?}");
            let mut rig = subject.started(bus);
            subject.offer(&mut rig);
            rig.turn();
            subject.is_done(&rig, 1);
            subject.offer(&mut rig);
            let saved = through_a_file(&rig.describe().unwrap());
            assert_eq!(saved.0.registers.queues[subject.queue].position, Some(1));
            let mut other = rig.moved_to(bus, (subject.make)());
            drop(rig);
            other.restore(&saved).unwrap();
            assert_eq!(other.describe().unwrap(), saved);
            other.turn();
            subject.is_done(&other, 2);
            subject.offer(&mut other);
            other.turn();
            subject.is_done(&other, 3);
            other.restart(subject.features);
        }
    }
}

#[test]
fn a_device_is_what_it_was_at_every_step_of_its_driver() {
    for bus in BUSES {
        for (name, subject) in subjects() {
            for step in 0..6 {
                println!("{name} on {bus:?}, step {step}");
                let mut rig = Rig::on(bus, (subject.make)(), memory());
                rig.set_up_queues(subject.queues);
                let modern = subject.features | 1 << 32;
                for step in 1..=step {
                    match step {
                        1 => rig.write(reg::STATUS, 1),
                        2 => rig.write(reg::DRIVER_FEATURES, 0xdead_beef),
                        3 => rig.negotiate(modern),
                        4 => rig.configure(),
                        _ => rig.write(reg::STATUS, 0xf),
                    }
                }
                rig.turn();
                let saved = rig.describe().unwrap();
                let mut other = rig.moved_to(bus, (subject.make)());
                other.restore(&saved).unwrap();
                assert_eq!(other.describe().unwrap(), saved);
                if step == 5 {
                    subject.offer(&mut other);
                    other.turn();
                    subject.is_done(&other, 1);
                }
            }
        }
    }
}

#[test]
fn a_device_that_has_given_up_has_given_up_and_can_be_reset() {
    for bus in BUSES {
        for (name, subject) in subjects() {
            println!("{name} on {bus:?}");
            let mut rig = subject.started(bus);
            rig.chain_of(subject.queue, &[(RAM, 16, 0)]);
            rig.offer_to(subject.queue, 0);
            rig.write(reg::QUEUE_NOTIFY, subject.queue as u64);
            rig.turn();
            assert_eq!(rig.status(), 0x4f);
            let saved = rig.describe().unwrap();
            let mut other = rig.moved_to(bus, (subject.make)());
            other.restore(&saved).unwrap();
            assert_eq!((other.status(), other.describe().unwrap()), (0x4f, saved));
            assert!(other.interrupts() > 0 || bus != On::Mmio, "once more");
            other.write(reg::STATUS, 0);
            other.turn();
            assert_eq!(other.status(), 0);
        }
    }
}

#[test]
fn what_is_under_way_has_to_come_to_its_end_first() {
    for (name, subject) in subjects() {
        println!("{name}");
        let mut rig = subject.started(On::Mmio);
        rig.write(reg::STATUS, 0);
        let busy = rig.describe().unwrap_err();
        assert!(matches!(busy, Undescribed::Busy { .. }), "{busy}");
        rig.turn();
        rig.describe().unwrap();
        rig.negotiate(subject.features | 1 << 32);
        rig.configure();
        rig.write(reg::STATUS, 0xf);
        let busy = rig.describe().unwrap_err().to_string();
        assert!(busy.contains("has a start or a reset under way: let it go on"), "{busy}");
        rig.turn();
        rig.describe().unwrap();
    }
}

/// What is said of a device that `spoil` has changed.
fn refusal(subject: &Subject, bus: On, spoil: impl Fn(&mut Description)) -> String {
    let mut rig = subject.started(bus);
    rig.turn();
    let mut saved = rig.describe().unwrap();
    spoil(&mut saved);
    rig.moved_to(bus, (subject.make)()).restore(&saved).unwrap_err().to_string()
}

type Spoil = fn(&mut VirtioState);

#[test]
fn every_register_that_cannot_have_been_so_is_refused_by_its_name() {
    let bad: [(&str, Spoil); 18] = [
        ("device: 9, and this is of type 2", |s| s.device = 9),
        ("own: such a device has `block` there", |s| s.own = Own::Nothing),
        ("registers.status: 0xd is not what", |s| s.registers.status = 0xd),
        ("registers.status: 0x100f", |s| s.registers.status = 0x100f),
        ("registers.driver_features: the device does not offer 0x8000000000000000", |s| {
            s.registers.driver_features |= 1 << 63;
        }),
        ("registers.driver_features: the device", |s| s.registers.unknown_features = true),
        ("registers.queues: 0, and the device has 1", |s| s.registers.queues.clear()),
        ("registers.queues: the driver started the device without a queue", |s| {
            s.registers.queues[0].ready = false;
            s.registers.queues[0].position = None;
        }),
        ("registers.queues[0]: its size 9", |s| s.registers.queues[0].size = 9),
        ("registers.queues[0]: its used ring at 0x4002", |s| s.registers.queues[0].used += 2),
        ("registers.queues[0]: it is not in the guest's RAM", |s| {
            s.registers.queues[0].descriptors = RAM;
        }),
        ("registers.queues[0]: its parts overlap", |s| s.registers.queues[0].available = USED),
        ("registers.queues[0].position: a queue has one", |s| {
            s.registers.queues[0].position = None;
        }),
        ("registers.queues[0].position: a queue has one", |s| s.registers.status = 0xb),
        ("registers.queues[0].position: a queue has one", |s| s.registers.status = 0x4f),
        ("registers.interrupt_status: 0x4 has", |s| s.registers.interrupt_status = 4),
        ("registers.config: the device says something else", |s| s.registers.config[0] += 1),
        ("registers.config: the device says something else", |s| {
            s.registers.config.pop();
        }),
    ];
    for (wanted, spoil) in bad {
        let said = refusal(&block(), On::Mmio, |(state, _)| spoil(state));
        assert!(said.starts_with(&format!("saved device state: {wanted}")), "{wanted}: {said}");
    }
    for subject in [balloon(), console(), vsock(), share()] {
        let said = refusal(&subject, On::Mmio, |(state, _)| state.own = Own::Nothing);
        assert!(said.contains("own: such a device has `"), "{said}");
    }
    for subject in [net(), rng()] {
        let said = refusal(&subject, On::Mmio, |(state, _)| state.own = Own::Share { lost: true });
        assert!(said.contains("own: such a device has nothing"), "{said}");
    }
    let said = refusal(&console(), On::Mmio, |(state, _)| {
        let port = PortState { input: vec![0; 4097], ..PortState::default() };
        state.own = Own::Console { ports: vec![port] };
    });
    assert!(said.contains("own.ports[0].input: 4097 bytes, and there is room for 4096"), "{said}");
    let said = refusal(&console(), On::Mmio, |(state, _)| {
        state.own = Own::Console { ports: Vec::new() };
    });
    assert!(said.contains("own.ports: 0, and this device has 1"), "{said}");
}

type SpoilFunction = fn(&mut PciState);

#[test]
fn every_part_of_a_function_that_cannot_have_been_so_is_refused_by_its_name() {
    let bad: [(&str, SpoilFunction); 9] = [
        ("config: registers [", |s| {
            let _ = s.config.pop_first();
        }),
        ("config: registers [", |s| {
            let _ = s.config.insert(0, 0);
        }),
        ("config.4: 0x1 has bits that nobody can write: 0x1", |s| {
            let _ = s.config.insert(4, 1);
        }),
        ("config.16: 0xc0000004", |s| {
            let _ = s.config.insert(16, 0xc000_0004);
        }),
        ("vectors.queues: 0, and it has 1", |s| s.vectors.queues.clear()),
        ("vectors.queues: some of", |s| s.vectors.config = 2),
        ("msix.entries: 1, and it has 2", |s| {
            let _ = s.msix.as_mut().unwrap().entries.pop();
        }),
        ("msix.entries[1].address: no multiple of 4", |s| {
            s.msix.as_mut().unwrap().entries[1].address = 2;
        }),
        ("msix.pending: 0x4 is of vectors", |s| s.msix.as_mut().unwrap().pending = 4),
    ];
    let messages = On::Pci { messages: true };
    for (wanted, spoil) in bad {
        let said = refusal(&rng(), messages, |(_, function)| spoil(function.as_mut().unwrap()));
        assert!(said.starts_with(&format!("saved device state: {wanted}")), "{wanted}: {said}");
    }
    let none = |(_, function): &mut Description| function.as_mut().unwrap().msix = None;
    assert!(refusal(&rng(), messages, none).contains("msix: the machine has it"));
}

#[test]
fn a_device_in_use_is_not_restored() {
    let subject = rng();
    let saved = subject.started(On::Mmio).describe().unwrap();
    let mut used = subject.started(On::Mmio);
    let Refused { field, why } = used.restore(&saved).unwrap_err();
    assert_eq!(field, "registers.status");
    assert!(why.contains("make it anew"));
}

#[test]
fn a_message_that_is_held_back_is_sent_when_it_may_be_and_not_before() {
    let subject = rng();
    let bus = On::Pci { messages: true };
    let mut rig = subject.started(bus);
    rig.mask_messages(true);
    subject.offer(&mut rig);
    rig.turn();
    assert_eq!(rig.interrupts(), 0);
    let saved = rig.describe().unwrap();
    assert_eq!(saved.1.as_ref().unwrap().msix.as_ref().unwrap().pending, 0b10);
    let mut other = rig.moved_to(bus, (subject.make)());
    other.restore(&saved).unwrap();
    assert_eq!((other.interrupts(), other.describe().unwrap()), (0, saved));
    other.mask_messages(false);
    assert_eq!(other.interrupts(), 1);
}

#[test]
fn a_pin_that_was_up_is_up() {
    let subject = rng();
    let bus = On::Pci { messages: false };
    let mut rig = subject.started(bus);
    subject.offer(&mut rig);
    rig.turn();
    let saved = rig.describe().unwrap();
    let mut other = rig.moved_to(bus, (subject.make)());
    other.restore(&saved).unwrap();
    assert_eq!((other.interrupts(), other.read(reg::INTERRUPT_STATUS)), (1, 1));
}
