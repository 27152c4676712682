//! All connections, by their numbers and by their ports, and whose turn it is.

use std::collections::{HashMap, VecDeque};

use super::CONNECTIONS;
use super::flow::{Flow, State};
use super::packet::Ports;

/// The first port that the host has in connections that it begins; those below are for listeners.
const FIRST_PORT: u32 = 1 << 30;

/// The last one.
const LAST_PORT: u32 = (1 << 31) - 1;

/// The connections.
#[derive(Debug)]
pub(super) struct Table {
    flows: Vec<Option<Flow>>,
    /// Numbers that are free, of those there are.
    free: Vec<u16>,
    /// Those that the guest knows, or is to be told of.
    numbers: HashMap<Ports, u16>,
    /// Those with something for the guest, in turns.
    turns: VecDeque<u16>,
    /// Which numbers are among them. Not the connections' own: one that is gone keeps its turn, for
    /// the next with its number.
    queued: Vec<bool>,
    next_port: u32,
}

impl Table {
    /// All the memory it needs now: in the jail it could not grow in place.
    pub(super) fn new() -> Self {
        let size = CONNECTIONS.into();
        Self {
            flows: Vec::with_capacity(size),
            free: Vec::with_capacity(size),
            numbers: HashMap::with_capacity(size),
            turns: VecDeque::with_capacity(size),
            queued: vec![false; size],
            next_port: FIRST_PORT,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.flows.len().saturating_sub(self.free.len())
    }

    /// Whether there can be one more.
    pub(super) fn has_room(&self) -> bool {
        self.len() < CONNECTIONS.into()
    }

    /// Adds one, and returns its number. `None`: there are too many.
    pub(super) fn add(&mut self, flow: Flow) -> Option<u16> {
        if !self.has_room() {
            return None;
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let number = u16::try_from(self.flows.len()).ok()?;
                self.flows.push(None);
                number
            }
        };
        // One that greets has no ports yet.
        if !matches!(flow.state, State::Greeting(_)) {
            self.numbers.insert(flow.ports, number);
        }
        *self.flows.get_mut(usize::from(number))? = Some(flow);
        Some(number)
    }

    /// One by its number.
    pub(super) fn get(&mut self, number: u16) -> Option<&mut Flow> {
        self.flows.get_mut(usize::from(number))?.as_mut()
    }

    /// The number of the one between these ports.
    pub(super) fn find(&self, ports: Ports) -> Option<u16> {
        self.numbers.get(&ports).copied()
    }

    /// Every number there has been.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        (0..CONNECTIONS).take(self.flows.len())
    }

    /// A port of the host's that makes a new connection with `guest`.
    pub(super) fn ports_to(&mut self, guest: u32) -> Ports {
        loop {
            let host = self.next_port;
            let next = host.checked_add(1).filter(|port| *port <= LAST_PORT);
            self.next_port = next.unwrap_or(FIRST_PORT);
            let ports = Ports { guest, host };
            if !self.numbers.contains_key(&ports) {
                return ports;
            }
        }
    }

    /// One that has greeted has ports from now on.
    pub(super) fn name(&mut self, number: u16, ports: Ports) {
        if let Some(flow) = self.get(number) {
            flow.ports = ports;
            self.numbers.insert(ports, number);
        }
    }

    /// The guest knows nothing of it any more, and its ports are free.
    pub(super) fn forget(&mut self, number: u16) {
        if let Some(ports) = self.get(number).map(|flow| flow.ports)
            && self.numbers.get(&ports) == Some(&number)
        {
            self.numbers.remove(&ports);
        }
    }

    /// Removes one. What it holds has been given back.
    pub(super) fn remove(&mut self, number: u16) {
        self.forget(number);
        if let Some(place) = self.flows.get_mut(usize::from(number))
            && place.take().is_some()
        {
            self.free.push(number);
        }
    }

    /// One has, or may have, something for the guest: it has its turn behind all that wait.
    pub(super) fn queue(&mut self, number: u16) {
        let wants = self.get(number).is_some_and(|flow| flow.wants_turn());
        if let Some(queued) = self.queued.get_mut(usize::from(number)).filter(|queued| !**queued)
            && wants
        {
            *queued = true;
            self.turns.push_back(number);
        }
    }

    /// Whether somebody waits.
    pub(super) fn is_anybody_waiting(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Who has the next turn.
    pub(super) fn turn(&mut self) -> Option<u16> {
        let number = self.turns.pop_front()?;
        if let Some(queued) = self.queued.get_mut(usize::from(number)) {
            *queued = false;
        }
        Some(number)
    }
}
