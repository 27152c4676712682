//! Calls that come out (contract 7), and those that do not.

use guests::aarch64::conformance as aarch64;

use super::super::Image;
use super::super::bench::{Bench, ok, refused};
use super::{RESULT, begins, call, tell};
use crate::arch::State;
use crate::error::Kind;
use crate::exit::{Exit, Width};
use crate::traits::{Hypervisor, Kicker, Vcpu};

const CALLS: Image = Image::aarch64(aarch64::CALLS);

declare! {
    a_hypercall_that_was_asked_for_comes_out(CALLS) needs Hypercalls, Processor;
    a_hypercall_that_nobody_asked_for_stays_inside(CALLS) needs Hypercalls, Processor;
    fast_calls_cannot_be_asked_for(CALLS) needs Hypercalls;
}

/// Semihosting's `SYS_EXIT` by number.
const FUNCTION: u32 = 0x18;
const NOT_SUPPORTED: u64 = u64::MAX;

fn a_hypercall_that_was_asked_for_comes_out<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot_with([7, 0], |config| config.hypercall(FUNCTION).hypercall(7));
    begins(&mut guest, 7, 0);
    for (function, kick) in [(FUNCTION, false), (7, false), (FUNCTION, true)] {
        // W0 alone says which function it is.
        let x0 = 0xdead_beef << 32 | u64::from(function);
        tell(&mut guest, [x0, 0x1111_2222_3333_4444, 0x5555, 0x6666]);
        guest.exits(Exit::Hypercall { function, args: [0x1111_2222_3333_4444, 0x5555] });
        // Nothing is pending, and the registers are the guest's.
        let mut state = guest.aarch64();
        assert_eq!(state.x[..4], [x0, 0x1111_2222_3333_4444, 0x5555, 0x6666]);
        // It stands behind the call: two instructions before the end.
        assert_eq!(state.pc, bench.image_end() - 8);
        state.x[0] = 0x77;
        ok(guest.vcpu.set_state(&State::from(state)));
        if kick {
            guest.kicker.kick();
            guest.is_kicked();
        }
        guest.writes(RESULT, Width::W8, 0x77);
    }
    // Who does not answer leaves what was there.
    tell(&mut guest, [FUNCTION.into(), 1, 2, 3]);
    guest.exits(Exit::Hypercall { function: FUNCTION, args: [1, 2] });
    guest.writes(RESULT, Width::W8, FUNCTION.into());
}

fn a_hypercall_that_nobody_asked_for_stays_inside<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot_with([7, 0], |config| config.hypercall(7));
    begins(&mut guest, 7, 0);
    for function in [FUNCTION, 6, 8, 0x8400_ff00] {
        assert_eq!(call(&mut guest, [function.into(), 1, 2, 3]), NOT_SUPPORTED, "{function:#x}");
    }
}

fn fast_calls_cannot_be_asked_for<H: Hypervisor>(bench: &Bench<'_, H>) {
    let memory = bench.memory();
    let config = bench.config(&memory).hypercall(0x8400_0008);
    refused(bench.hypervisor.create(config), Kind::Invalid);
}
