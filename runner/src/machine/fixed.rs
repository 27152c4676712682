//! The devices that every guest has, as its board has them: the serial port, the clock, and where a
//! guest ends by a register.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hv::{Address, Vm};

use super::Error;
use super::bus::Bus;
use super::devices::interrupt;
use super::map::pc;
use super::stop::Stop;
use crate::boot::{BootPlan, EXIT_PORT};
use crate::devices::power::{ExitPort, ResetPort};
use crate::devices::rtc::{self, Rtc};
use crate::devices::serial::{self, Com1};
use crate::devices::uart::{Drained, Uart};
use crate::io::console::Stdout;

/// Puts those of a PC on the bus, and returns the serial port. What the guest sends there goes to
/// `stdout`; `drained` is called when it takes more input.
pub(super) fn pc<V: Vm>(
    vm: &V,
    boot: &BootPlan,
    stdout: Stdout,
    drained: Drained,
    stop: &Stop,
    bus: &mut Bus,
) -> Result<Arc<dyn Uart>, Error> {
    let com1 = Arc::new(Com1::new(interrupt(vm, pc::COM1_LINE)?, stdout, drained));
    bus.add(Address::Port(pc::COM1), serial::PORTS, com1.clone());
    let exit = ExitPort::new(boot.exit_code, stop.clone());
    bus.add(Address::Port(EXIT_PORT), 4, Arc::new(exit));
    bus.add(Address::Port(pc::RESET_PORT), 1, Arc::new(ResetPort::new(stop.clone())));
    bus.add(Address::Port(pc::RTC), rtc::PORTS, Arc::new(Rtc::new(Box::new(wall_clock))));
    Ok(com1)
}

/// The host's time since 1970; a host whose clock stands before that is in 1970.
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
