//! What is kept of the transport's half of a device.

use std::ops::Range;

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use virtio_queue::QueueT;

use super::{Activation, Command, State, Transport};
use crate::devices::state::{Refused, Undescribed};
use crate::devices::virtio::Fault;
use crate::devices::virtio::interrupts::Queues;
use crate::devices::virtio::queue::Registers;
use crate::devices::virtio::ring::Position;
use crate::devices::virtio::state::{QueueState, RegistersState, VirtioState};
use crate::devices::virtio::status::Status;

impl Transport {
    /// Its registers, with the queues that are in service where `positions` says; nothing where none is.
    ///
    /// # Errors
    /// [`Undescribed`]: who serves the device has not heard of all that its driver did.
    pub(in crate::devices::virtio) fn saved(
        &self,
        positions: Option<&[Position]>,
    ) -> Result<RegistersState, Undescribed> {
        let state = self.lock();
        if state.resetting || serving(state.status) != positions.is_some() {
            return Err(self.busy("a start or a reset under way"));
        }
        let place = |index| positions?.iter().find(|p| p.queue == index).map(|p| p.used);
        let queue = |(index, registers): (usize, &Registers)| {
            let Registers { size, ready, descriptors, available, used, .. } = *registers;
            QueueState { size, ready, descriptors, available, used, position: place(index) }
        };
        let config = self.config();
        Ok(RegistersState {
            status: state.status.bits(),
            device_features_select: state.device_features_select,
            driver_features_select: state.driver_features_select,
            driver_features: state.driver_features,
            unknown_features: state.unknown_features,
            queue_select: state.queue_select,
            queues: state.queues.iter().enumerate().map(queue).collect(),
            interrupt_status: state.interrupt_status,
            config: config.bytes().to_vec(),
            config_generation: config.generation(),
        })
    }

    /// The error for something under way.
    pub(in crate::devices::virtio) fn busy(&self, what: &'static str) -> Undescribed {
        Undescribed::Busy { device: self.identity.name.clone(), what }
    }

    /// Makes a device that nobody has used yet what another one was, and hands its queues to the worker.
    /// Of the configuration space the device itself may change the bytes `changing`.
    ///
    /// # Errors
    /// [`Refused`].
    pub(in crate::devices::virtio) fn restore(
        &self,
        saved: &VirtioState,
        changing: &Range<usize>,
    ) -> Result<(), Refused> {
        saved.check(self.identity.device)?;
        self.restore_registers(&saved.registers, changing)
            .map_err(|error| error.within("registers"))
    }

    fn restore_registers(
        &self,
        saved: &RegistersState,
        changing: &Range<usize>,
    ) -> Result<(), Refused> {
        let mut state = self.lock();
        let unused = state.generation == 0 && state.status.bits() == 0;
        Refused::unless(unused, "status", "the device to restore is in use: make it anew")?;
        let mut new = self.believed(saved)?;
        let activation = self.activation(&new, saved)?;
        self.config().restore(&saved.config, saved.config_generation, changing)?;
        new.active = activation.is_some();
        *state = new;
        if let Some(activation) = activation {
            self.commands.send(Command::Activate(activation));
        }
        drop(state);
        // The driver may not have heard of it. Once more does no harm.
        if saved.interrupt_status != 0 {
            self.interrupts.used(Queues::default(), &|| self.interrupt_status() != 0);
        }
        Ok(())
    }

    /// The registers of a device that had a driver, as far as they can be such.
    fn believed(&self, saved: &RegistersState) -> Result<State, Refused> {
        let status = Status::saved(saved.status);
        let why = || format!("{:#x} is not what steps in their order come to", saved.status);
        let status = status.ok_or_else(|| Refused::new("status", why()))?;
        if status.features_ok() {
            let surplus = saved.driver_features & !self.identity.features;
            let why = format!("the device does not offer {surplus:#x}: give it what it had");
            Refused::unless(surplus == 0 && !saved.unknown_features, "driver_features", &why)?;
        }
        let max = &self.identity.queues;
        let why = format!("{}, and the device has {}", saved.queues.len(), max.len());
        Refused::unless(saved.queues.len() == max.len(), "queues", &why)?;
        let causes = VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG;
        let why = format!("{:#x} has bits other than {causes:#x}", saved.interrupt_status);
        Refused::unless(saved.interrupt_status & !causes == 0, "interrupt_status", &why)?;
        let queues = saved.queues.iter().zip(max).map(|(saved, max)| {
            let mut queue = Registers::new(*max);
            (queue.size, queue.ready) = (saved.size, saved.ready);
            (queue.descriptors, queue.available) = (saved.descriptors, saved.available);
            queue.used = saved.used;
            queue
        });
        Ok(State {
            status,
            device_features_select: saved.device_features_select,
            driver_features_select: saved.driver_features_select,
            driver_features: saved.driver_features,
            unknown_features: saved.unknown_features,
            queue_select: saved.queue_select,
            queues: queues.collect(),
            interrupt_status: saved.interrupt_status,
            ..State::new(&self.identity)
        })
    }

    /// The queues that are in service, each from where it was; nothing if there is none.
    fn activation(
        &self,
        state: &State,
        saved: &RegistersState,
    ) -> Result<Option<Activation>, Refused> {
        let serving = serving(state.status);
        for (index, queue) in saved.queues.iter().enumerate() {
            let why = "a queue has one if it is ready and in service, and no other has";
            let right = queue.position.is_some() == (serving && queue.ready);
            Refused::unless(right, &format!("queues[{index}].position"), why)?;
        }
        if !serving {
            return Ok(None);
        }
        let mut activation = self.freeze(state).map_err(|fault| match fault {
            Fault::Queue { queue, error } => {
                Refused::new(&format!("queues[{queue}]"), error.to_string())
            }
            fault => Refused::new("queues", fault.to_string()),
        })?;
        for (index, queue) in &mut activation.queues {
            let position = saved.queues.get(*index).and_then(|queue| queue.position);
            let position = position.unwrap_or_default();
            queue.set_next_avail(position);
            queue.set_next_used(position);
        }
        Ok(Some(activation))
    }
}

/// Whether a worker has the queues of a device with that status.
fn serving(status: Status) -> bool {
    status.driver_ok() && !status.needs_reset()
}
