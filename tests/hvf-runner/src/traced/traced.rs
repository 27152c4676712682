//! A backend around another that records what comes out of its vCPUs. It has what both backends have:
//! with a doorbell a write would not come out on one of them, and with MSIs a driver would do otherwise.

use std::os::fd::BorrowedFd;

use hv::{
    Caps, Doorbell, Error, Exit, HostReport, Hypervisor, Kind, Result, Resume, Slot, State, Vcpu,
    VcpuSeed, Vm, VmConfig,
};

use crate::record::Record;

/// The backend `H`, recorded.
#[derive(Debug)]
pub(crate) struct Traced<H> {
    inner: H,
    caps: Caps,
}

impl<H: Hypervisor> Hypervisor for Traced<H> {
    type Vm = TracedVm<H::Vm>;
    type Seed = TracedSeed<H::Seed>;
    type Vcpu = TracedVcpu<H::Vcpu>;

    const NAME: &'static str = H::NAME;

    fn probe() -> HostReport {
        H::probe()
    }

    fn open() -> Result<Self> {
        let inner = H::open()?;
        let caps = Caps { doorbell: false, msi: false, ..inner.caps().clone() };
        Ok(Self { inner, caps })
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn create(&self, config: VmConfig) -> Result<(Self::Vm, Vec<Self::Seed>)> {
        let (vm, seeds) = self.inner.create(config)?;
        let seed = |(id, inner)| Ok(TracedSeed { inner, record: Record::begin(id)? });
        let seeds = seeds.into_iter().enumerate().map(seed).collect::<Result<_>>()?;
        Ok((TracedVm(vm), seeds))
    }
}

/// A VM that says it cannot what one of the backends cannot.
#[derive(Clone, Debug)]
pub(crate) struct TracedVm<V>(V);

fn unsupported<T>(op: &'static str) -> Result<T> {
    Err(Error::new(op, Kind::Unsupported, "one of the backends that are compared has none"))
}

impl<V: Vm> Vm for TracedVm<V> {
    type Edge = V::Edge;
    type Level = V::Level;
    type Registration = V::Registration;

    fn ready(&self) -> Result<()> {
        self.0.ready()
    }

    fn caps(&self) -> &Caps {
        self.0.caps()
    }

    fn notes(&self) -> Vec<String> {
        self.0.notes()
    }

    fn edge(&self, line: u32) -> Result<V::Edge> {
        self.0.edge(line)
    }

    fn level(&self, line: u32) -> Result<V::Level> {
        self.0.level(line)
    }

    fn signal_msi(&self, _address: u64, _data: u32) -> Result<()> {
        unsupported("send a message")
    }

    fn doorbell(&self, _bell: Doorbell, _fd: BorrowedFd<'_>) -> Result<V::Registration> {
        unsupported("register a doorbell")
    }

    fn map(&self, slot: Slot) -> Result<()> {
        self.0.map(slot)
    }

    fn unmap(&self, gpa: u64) -> Result<()> {
        self.0.unmap(gpa)
    }

    fn dirty(&self, gpa: u64) -> Result<Vec<u64>> {
        self.0.dirty(gpa)
    }
}

/// A vCPU without a thread, and where its exits will go.
#[derive(Debug)]
pub(crate) struct TracedSeed<S> {
    inner: S,
    record: Record,
}

impl<S: VcpuSeed> VcpuSeed for TracedSeed<S> {
    type Vcpu = TracedVcpu<S::Vcpu>;
    type Kicker = S::Kicker;

    fn kicker(&self) -> S::Kicker {
        self.inner.kicker()
    }

    fn bind(self) -> Result<Self::Vcpu> {
        Ok(TracedVcpu { inner: self.inner.bind()?, record: self.record })
    }
}

/// A vCPU whose exits are written down.
#[derive(Debug)]
pub(crate) struct TracedVcpu<C> {
    inner: C,
    record: Record,
}

impl<C: Vcpu> Vcpu for TracedVcpu<C> {
    fn run(&mut self, resume: Resume) -> Result<Exit> {
        self.record.answer(resume)?;
        let exit = self.inner.run(resume)?;
        self.record.exit(&exit)?;
        Ok(exit)
    }

    fn settle(&mut self, resume: Resume) -> Result<Option<Exit>> {
        self.record.answer(resume)?;
        let exit = self.inner.settle(resume)?;
        exit.iter().try_for_each(|exit| self.record.exit(exit))?;
        Ok(exit)
    }

    fn is_asleep(&self) -> bool {
        self.inner.is_asleep()
    }

    fn counter_hz(&self) -> Option<u64> {
        self.inner.counter_hz()
    }

    fn argument(&self) -> Option<u64> {
        self.inner.argument()
    }

    fn begin_at(&mut self, state: &State) -> Result<()> {
        self.inner.begin_at(state)
    }

    fn translate(&self, address: u64) -> Option<u64> {
        self.inner.translate(address)
    }

    fn state(&self) -> Result<State> {
        self.inner.state()
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        self.inner.set_state(state)
    }
}
