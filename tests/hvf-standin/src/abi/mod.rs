//! The symbols, by the chapters of Apple's documentation, and what every call has in common.

// UNSAFETY: C symbols with pointers are what this crate is for.
#![allow(unsafe_code)]

mod config;
mod gic;
mod memory;
mod processor;
mod timer;
mod vcpu;
mod vm;

use crate::code;
use crate::state::{Engine, State, lock};

/// Why a call is refused: the code it returns, and the rule it broke, if it is one that a correct
/// backend never breaks.
pub(crate) struct Refusal {
    code: u32,
    rule: Option<String>,
}

/// An outcome that a correct backend can meet.
pub(crate) fn refuse<T>(code: u32) -> Result<T, Refusal> {
    Err(Refusal { code, rule: None })
}

/// A mistake of the backend's.
pub(crate) fn broken<T>(code: u32, rule: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, rule: Some(rule.into()) })
}

/// What the engine says: its failure is nobody's mistake but the stand-in's.
pub(crate) fn engine<T>(outcome: Result<T, String>) -> Result<T, Refusal> {
    outcome.or_else(|why| broken(code::HV_ERROR, why))
}

/// Plays the call `name`: the failure that was ordered for it, or `body`.
pub(crate) fn call(
    name: &'static str,
    args: &[u64],
    body: impl FnOnce(&mut State) -> Result<(), Refusal>,
) -> i32 {
    let mut state = lock();
    if state.engine == Engine::Script && crate::is_foreign() {
        crate::start_engine(&mut state);
    }
    let code = match injected(&mut state, name) {
        Some(code) => code,
        None => match body(&mut state) {
            Ok(()) => {
                state.took(name, args);
                code::HV_SUCCESS
            }
            Err(refusal) => settle(&mut state, name, refusal),
        },
    };
    code.cast_signed()
}

/// The failure that was ordered for `name`, if one is due.
pub(crate) fn injected(state: &mut State, name: &str) -> Option<u32> {
    let index = state.failures.iter().position(|(call, _)| *call == name)?;
    Some(state.failures.remove(index).1)
}

/// Takes note of a refusal; gives its code.
pub(crate) fn settle(state: &mut State, name: &str, refusal: Refusal) -> u32 {
    if let Some(rule) = refusal.rule {
        state.broke(format!("{name}: {rule}"));
    }
    refusal.code
}

/// Answers through `pointer`.
///
/// # Safety
/// `pointer` is null or valid for a write.
pub(crate) unsafe fn give<T>(pointer: *mut T, value: T) -> Result<(), Refusal> {
    require(pointer)?;
    // SAFETY: not null, so the caller vouches for it.
    unsafe { pointer.write(value) };
    Ok(())
}

/// A pointer that the call writes through.
pub(crate) fn require<T>(pointer: *mut T) -> Result<(), Refusal> {
    if pointer.is_null() {
        return broken(code::HV_BAD_ARGUMENT, "null pointer");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
