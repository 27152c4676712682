//! The half of a device that vCPUs reach, whatever bus it is on: status, features, queue registers
//! (virtio 1.2 §2, §3.1), and the interrupt that goes back.
//!
//! The lock is held for a few instructions, never while anybody waits.

mod state;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hv::{GuestMemory, Width};
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use super::Fault;
use super::config_space::ConfigSpace;
use super::half::Half;
pub use super::identity::Identity;
use super::interrupts::{Interrupts, Queues};
use super::queue::Registers;
use super::status::{Change, Status};
use super::worker::{Activation, Command, Commands};
use crate::io::event::Event;

/// How long a vCPU that resets a device of the machine waits for requests which are under way. After
/// that the status field alone says so.
pub const RESET_PATIENCE: Duration = Duration::from_secs(1);

/// Registers, behind the lock.
#[derive(Debug)]
struct State {
    status: Status,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    /// The driver accepted a feature that has no place in 64 bits.
    unknown_features: bool,
    queue_select: u32,
    queues: Vec<Registers>,
    interrupt_status: u32,
    /// Which activation this is; what a worker says about another is not heard.
    generation: u64,
    /// The worker has the device's queues.
    active: bool,
    /// The driver wrote 0, and the worker has not let go yet.
    resetting: bool,
}

/// The transport half of a device.
pub struct Transport {
    identity: Identity,
    state: Mutex<State>,
    config: Mutex<ConfigSpace>,
    reset_over: Condvar,
    patience: Duration,
    memory: GuestMemory,
    interrupts: Arc<dyn Interrupts>,
    /// One for each queue: what its notifications signal.
    doorbells: Vec<Arc<Event>>,
    commands: Commands,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transport({}: {})", self.identity.name, self.describe())
    }
}

impl State {
    fn new(identity: &Identity) -> Self {
        Self {
            status: Status::default(),
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            unknown_features: false,
            queue_select: 0,
            queues: identity.queues.iter().map(|max| Registers::new(*max)).collect(),
            interrupt_status: 0,
            generation: 0,
            active: false,
            resetting: false,
        }
    }

    fn selected(&self) -> Option<&Registers> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }
}

impl Transport {
    /// A device after power-on.
    pub fn new(
        identity: Identity,
        memory: GuestMemory,
        interrupts: Arc<dyn Interrupts>,
        doorbells: Vec<Arc<Event>>,
        commands: Commands,
    ) -> Self {
        let state = Mutex::new(State::new(&identity));
        let config = Mutex::new(ConfigSpace::new(&identity));
        let (reset_over, patience) = (Condvar::new(), Duration::ZERO);
        Self {
            identity,
            state,
            config,
            reset_over,
            patience,
            memory,
            interrupts,
            doorbells,
            commands,
        }
    }

    /// How long [`Transport::await_reset`] waits: for a worker that has threads.
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Waits for the end of a reset that has begun, for a while.
    pub fn await_reset(&self) {
        let waited =
            self.reset_over.wait_timeout_while(self.lock(), self.patience, |state| state.resetting);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Its state, for a person.
    pub fn describe(&self) -> String {
        let state = self.lock();
        format!("status {:#x}, features {:#x}", state.status.bits(), state.driver_features)
    }

    /// What the device is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// One for each queue: what a doorbell of the queue's signals.
    pub fn doorbells(&self) -> &[Arc<Event>] {
        &self.doorbells
    }

    /// The driver reads the configuration space.
    pub fn read_config(&self, offset: u64, width: Width) -> u64 {
        self.config().read(offset, width)
    }

    /// The driver writes it.
    pub fn write_config(&self, offset: u64, width: Width, value: u64) {
        self.config().write(offset, width, value);
    }

    /// Which state of it this is, by number.
    pub fn config_generation(&self) -> u32 {
        self.config().generation()
    }

    /// The configuration space as it is, the driver's part of it included.
    pub fn config_bytes(&self) -> Vec<u8> {
        self.config().bytes().to_vec()
    }

    /// The device changes `bytes` of it from `offset` on, and tells a driver that is there.
    pub fn set_config(&self, offset: usize, bytes: &[u8]) {
        if !self.config().set(offset, bytes) {
            return;
        }
        let mut state = self.lock();
        if state.status.driver_ok() && !state.resetting {
            state.interrupt_status |= VIRTIO_MMIO_INT_CONFIG;
            drop(state);
            self.interrupts.config(&|| self.interrupt_status() != 0);
        }
    }

    fn config(&self) -> MutexGuard<'_, ConfigSpace> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The offered features that the driver looks at.
    pub fn device_features(&self) -> u64 {
        let half = Half::selected(self.lock().device_features_select);
        half.map_or(0, |half| half.of(self.identity.features))
    }

    /// Which half of the offered features the driver looks at.
    pub fn selected_device_features(&self) -> u32 {
        self.lock().device_features_select
    }

    /// Which half of its features the driver is about to write.
    pub fn selected_driver_features(&self) -> u32 {
        self.lock().driver_features_select
    }

    /// That half of what the driver has accepted.
    pub fn driver_features(&self) -> u64 {
        let state = self.lock();
        let half = Half::selected(state.driver_features_select);
        half.map_or(0, |half| half.of(state.driver_features))
    }

    /// The driver looks at another half of the offered features.
    pub fn select_device_features(&self, select: u32) {
        self.lock().device_features_select = select;
    }

    /// The driver is about to write another half of its features.
    pub fn select_driver_features(&self, select: u32) {
        self.lock().driver_features_select = select;
    }

    /// The driver writes half of the features it accepts.
    pub fn set_driver_features(&self, value: u32) {
        let mut state = self.lock();
        if state.resetting || !state.status.can_choose_features() {
            return;
        }
        match Half::selected(state.driver_features_select) {
            Some(half) => half.set(&mut state.driver_features, value),
            None => state.unknown_features |= value != 0,
        }
    }

    /// The queue that the driver is at.
    pub fn selected_queue(&self) -> u32 {
        self.lock().queue_select
    }

    /// The driver turns to another queue, which need not exist.
    pub fn select_queue(&self, select: u32) {
        self.lock().queue_select = select;
    }

    /// The selected queue's registers.
    pub fn queue(&self) -> Option<Registers> {
        self.lock().selected().copied()
    }

    /// Writes the selected queue's registers, in the one phase in which a driver may: features
    /// accepted, device not started. The device has a copy of its own after that.
    pub fn write_queue(&self, write: impl FnOnce(&mut Registers)) {
        let mut state = self.lock();
        let open = state.status.can_configure_queues() && !state.resetting;
        let index = usize::try_from(state.queue_select).unwrap_or(usize::MAX);
        if let Some(queue) = state.queues.get_mut(index).filter(|_| open) {
            write(queue);
        }
    }

    /// The driver has made chains of queue `index` available. Where doorbells work, this call never
    /// comes.
    pub fn notify(&self, index: u64) {
        let doorbell = usize::try_from(index).ok().and_then(|index| self.doorbells.get(index));
        if let Some(doorbell) = doorbell
            && self.lock().active
        {
            doorbell.signal();
        }
    }

    /// Why the device interrupted: the bits of virtio-mmio's InterruptStatus and PCI's ISR.
    pub fn interrupt_status(&self) -> u32 {
        self.lock().interrupt_status
    }

    /// The driver has seen these bits. Returns those that were set before.
    pub fn acknowledge(&self, bits: u32) -> u32 {
        let mut state = self.lock();
        let before = state.interrupt_status;
        state.interrupt_status = before & !bits;
        drop(state);
        self.settle();
        before
    }

    /// Has the interrupt follow the interrupt status, where it does.
    pub fn settle(&self) {
        self.interrupts.settle(&|| self.interrupt_status() != 0);
    }

    /// The status field. Not 0 until a reset is over.
    pub fn status(&self) -> u32 {
        self.lock().status.bits()
    }

    /// The driver writes the status field.
    pub fn set_status(&self, value: u32) {
        let mut state = self.lock();
        if state.resetting {
            return;
        }
        match state.status.change(value) {
            Change::Nothing => {}
            Change::Reset => self.begin_reset(state),
            Change::Set(bits) => {
                let later = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
                state.status = state.status.with(bits & !later);
                if bits & VIRTIO_CONFIG_S_FEATURES_OK != 0 {
                    self.accept_features(&mut state);
                }
                if bits & VIRTIO_CONFIG_S_DRIVER_OK != 0 && state.status.features_ok() {
                    self.start(state);
                }
            }
            Change::Forbidden => {
                let (name, now) = (&self.identity.name, state.status.bits());
                drop(state);
                crate::warning!(
                    "{name}: the driver wrote status {value:#x} over {now:#x}: ignored"
                );
            }
        }
    }

    /// Features the device does not have leave FEATURES_OK clear, which tells the driver (§3.1.1). A driver that
    /// does not accept VERSION_1, which it must, and a device may put up with (§6.1, §6.2), is OSv's: all it
    /// does is of that version.
    fn accept_features(&self, state: &mut State) {
        let known = state.driver_features & !self.identity.features == 0 && !state.unknown_features;
        if known {
            state.status = state.status.with(VIRTIO_CONFIG_S_FEATURES_OK);
        }
    }

    /// Hands the queues to the worker. A driver that got them wrong has a broken device, and the
    /// process goes on.
    fn start(&self, mut state: MutexGuard<'_, State>) {
        state.status = state.status.with(VIRTIO_CONFIG_S_DRIVER_OK);
        match self.freeze(&state) {
            Ok(activation) => {
                state.active = true;
                self.commands.send(Command::Activate(activation));
            }
            Err(fault) => {
                let note = self.give_up(state, fault);
                crate::warning!("{note}");
            }
        }
    }

    fn freeze(&self, state: &State) -> Result<Activation, Fault> {
        let features = state.driver_features;
        let event_idx = features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        let mut queues = Vec::new();
        for (index, registers) in state.queues.iter().enumerate() {
            if registers.ready {
                let queue = registers.freeze(&self.memory, event_idx);
                queues.push((index, queue.map_err(|error| Fault::Queue { queue: index, error })?));
            }
        }
        if queues.is_empty() {
            return Err(Fault::NoQueue);
        }
        Ok(Activation { generation: state.generation, features, queues })
    }

    fn begin_reset(&self, mut state: MutexGuard<'_, State>) {
        // Whoever looks from now on, an interrupt handler that comes late, finds nothing to do.
        state.interrupt_status = 0;
        if state.active {
            state.resetting = true;
            self.commands.send(Command::Reset { generation: state.generation });
        } else {
            self.clear(&mut state);
        }
        drop(state);
        self.settle();
    }

    fn clear(&self, state: &mut State) {
        let generation = state.generation.wrapping_add(1);
        *state = State { generation, ..State::new(&self.identity) };
    }

    /// The worker has let go of the queues of `generation`.
    pub(super) fn reset_done(&self, generation: u64) {
        let mut state = self.lock();
        if state.resetting && state.generation == generation {
            self.clear(&mut state);
            self.reset_over.notify_all();
            drop(state);
            self.settle();
        }
    }

    /// Whether what the worker does for `generation` is still wanted.
    pub(super) fn wants(&self, generation: u64) -> bool {
        let state = self.lock();
        state.generation == generation && !state.resetting
    }

    /// The worker has used buffers of `queues`, and the driver wants to hear of it.
    pub(super) fn used(&self, generation: u64, queues: Queues) {
        let mut state = self.lock();
        if state.generation == generation && !state.resetting {
            state.interrupt_status |= VIRTIO_MMIO_INT_VRING;
            drop(state);
            self.interrupts.used(queues, &|| self.interrupt_status() != 0);
        }
    }

    /// The worker cannot go on with what the driver gave it. Returns what the user is to hear, unless
    /// that activation is over.
    #[must_use]
    pub(super) fn fault(&self, generation: u64, fault: Fault) -> Option<String> {
        let state = self.lock();
        let current = state.generation == generation && !state.resetting;
        current.then(|| self.give_up(state, fault))
    }

    /// The driver must reset the device (§2.1.2: the bit, and a configuration change). Returns what
    /// the user is to hear.
    fn give_up(&self, mut state: MutexGuard<'_, State>, fault: Fault) -> String {
        state.status = state.status.with(VIRTIO_CONFIG_S_NEEDS_RESET);
        state.interrupt_status |= VIRTIO_MMIO_INT_CONFIG;
        drop(state);
        self.interrupts.config(&|| self.interrupt_status() != 0);
        format!("{}: stopped until the driver resets it: {fault}", self.identity.name)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
