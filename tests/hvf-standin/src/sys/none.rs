//! No engine: guests are scripted or interpreted.

use std::sync::Arc;

use crate::script::{Reg, Step};
use crate::state::{GicConfig, Host, Map};

/// Why something cannot be done.
type Result<T> = std::result::Result<T, String>;

pub(crate) fn is_there(_host: &mut Host) -> bool {
    false
}

/// There is none.
#[derive(Debug)]
pub(crate) enum Machine {}

impl Machine {
    pub(crate) fn create(_host: &Host, _ipa_bits: u32) -> Result<Self> {
        Err("the stand-in runs guests on KVM on aarch64 Linux only".into())
    }

    pub(crate) fn map(&mut self, _map: &Map) -> Result<()> {
        match *self {}
    }

    pub(crate) fn unmap(&mut self, _ipa: u64) -> Result<()> {
        match *self {}
    }

    pub(crate) fn create_gic(&mut self, _host: &Host, _config: &GicConfig) -> Result<()> {
        match *self {}
    }

    pub(crate) fn create_vcpu(&mut self) -> Result<Arc<Processor>> {
        match *self {}
    }

    pub(crate) fn place(&mut self, _vcpu: Arc<Processor>, _mpidr: u64) -> Result<Arc<Processor>> {
        match *self {}
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        match *self {}
    }

    pub(crate) fn set_counter_offset(&mut self, _offset: u64) -> Result<()> {
        match *self {}
    }

    pub(crate) fn set_spi(&mut self, _intid: u32, _level: bool) -> Result<()> {
        match *self {}
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) enum Processor {}

impl Processor {
    pub(crate) fn get(&self, _register: Reg) -> Result<u64> {
        match *self {}
    }

    pub(crate) fn set(&self, _register: Reg, _value: u64) -> Result<()> {
        match *self {}
    }

    pub(crate) fn is_for(&self, _mpidr: u64) -> bool {
        match *self {}
    }

    pub(crate) fn exchange(&self, _other: &Self) -> Result<()> {
        match *self {}
    }

    pub(crate) fn vector(&self, _register: u32) -> Result<u128> {
        match *self {}
    }

    pub(crate) fn set_vector(&self, _register: u32, _value: u128) -> Result<()> {
        match *self {}
    }

    pub(crate) fn trap_debug(&self, _on: bool) -> Result<()> {
        match *self {}
    }

    pub(crate) fn mask_vtimer(&self, _masked: bool) {
        match *self {}
    }

    pub(crate) fn cancel(&self) {
        match *self {}
    }

    pub(crate) fn run(
        &self,
        _pending: [bool; 2],
        _memory: &dyn Fn(u64, u64) -> Option<u64>,
    ) -> Result<Step> {
        match *self {}
    }
}
