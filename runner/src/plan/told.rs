//! What the program of an OPS image is told over what the image says: by the kernel's command line on
//! x86_64, by a record in the image on arm64, where Nanos has no command line.

use super::{Error, network};
use crate::boot::nanos_overrides;
use crate::config::{Addresses, Settings};
use crate::image::{Arch, Image, Overrides, Patch};

/// The words of the command line.
pub(super) fn words(
    settings: &Settings,
    addresses: &Addresses,
    image: &Image,
) -> Result<Vec<String>, Error> {
    if image.arch() == Arch::Aarch64 || !asked(settings, addresses) {
        return Ok(Vec::new());
    }
    let baked = image.manifest()?.map_or(0, |manifest| manifest.arguments.len());
    let baked = baked.saturating_sub(1); // the first is the program's name
    let addresses = network::nanos_names(addresses);
    Ok(nanos_overrides(&settings.args, baked, &settings.env, &addresses)?)
}

/// The record, for an arm64 image. It also asks for the exit status, which PSCI does not carry.
///
/// A guest that writes to its image writes the record, too, and later runs would find it there. That is
/// no harm for the exit status, and not what anybody wants of arguments.
pub(super) fn record(
    settings: &Settings,
    addresses: &Addresses,
    image: &Image,
) -> Result<Option<Patch>, Error> {
    if image.arch() != Arch::Aarch64 || !image.is_disk() {
        return Ok(None);
    }
    let addresses = network::nanos_names(addresses);
    let asked = Overrides {
        args: &settings.args,
        env: &settings.env,
        addresses: &addresses,
        exit_status: false,
    };
    let with_status = Overrides { exit_status: true, ..asked };
    if image.patch(asked)?.is_none() {
        return Ok(image.patch(with_status).unwrap_or_else(|error| {
            crate::info!("the guest cannot be asked for its exit status: {error}");
            None
        }));
    }
    if !settings.ephemeral {
        return Err(Error::Asked(format!(
            "{}: an arm64 image has no command line, and what arguments, environment and addresses say \
             would stay in it: add --ephemeral, and what the guest writes is thrown away, or build the \
             image again with `ops`",
            image.source().name()
        )));
    }
    Ok(image.patch(with_status)?)
}

fn asked(settings: &Settings, addresses: &Addresses) -> bool {
    !settings.args.is_empty() || !settings.env.is_empty() || !addresses.is_empty()
}
