//! What the program of an OPS image is told over what the image says: by the kernel's command line on
//! x86_64, by a record in the image on arm64, where Nanos has no command line.

use super::{Error, network};
use crate::boot::{nanos_mounts, nanos_overrides};
use crate::config::{Addresses, Settings};
use crate::image::{Arch, Image, Overrides, Patch};

/// What there is to tell, and the image whose program it is for.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) settings: &'a Settings,
    pub(super) addresses: &'a Addresses,
    /// Names of volumes and where to mount them.
    pub(super) mounts: &'a [(String, String)],
    pub(super) image: &'a Image,
}

impl Told<'_> {
    /// The words of the command line.
    pub(super) fn words(&self) -> Result<Vec<String>, Error> {
        let Told { settings, addresses, mounts, image } = *self;
        if image.arch() == Arch::Aarch64 {
            return self.without_command_line().map(|()| Vec::new());
        }
        if !self.asked() {
            return Ok(Vec::new());
        }
        let baked = image.manifest()?.map_or(0, |manifest| manifest.arguments.len());
        let baked = baked.saturating_sub(1); // the first is the program's name
        let addresses = network::nanos_names(addresses);
        let mut words = nanos_overrides(&settings.args, baked, &settings.env, &addresses)?;
        words.extend(nanos_mounts(mounts)?);
        Ok(words)
    }

    /// The record, for an arm64 image. It also asks for the exit status, which PSCI does not carry.
    ///
    /// A guest that writes to its image writes the record, too, and later runs would find it there. That is
    /// no harm for the exit status, and not what anybody wants of arguments.
    pub(super) fn record(&self) -> Result<Option<Patch>, Error> {
        let Told { settings, addresses, mounts, image } = *self;
        if image.arch() != Arch::Aarch64 || !image.is_disk() {
            return Ok(None);
        }
        let paths = network::nanos_names(addresses);
        let told = Overrides {
            args: &settings.args,
            env: &settings.env,
            addresses: &paths,
            mounts,
            exit_status: false,
        };
        let with_status = Overrides { exit_status: true, ..told };
        // What the image says already is nothing to tell; it is looked at only where something was asked.
        if !self.asked() || image.patch(told)?.is_none() {
            return Ok(image.patch(with_status).unwrap_or_else(|error| {
                crate::info!("the guest cannot be asked for its exit status: {error}");
                None
            }));
        }
        if !settings.ephemeral {
            return Err(Error::Asked(format!(
                "{}: an arm64 image has no command line, and what arguments, environment, addresses and \
                 mounts say would stay in it: add --ephemeral, and what the guest writes is thrown away, or \
                 build the image again with `ops`",
                image.source().name()
            )));
        }
        Ok(image.patch(with_status)?)
    }

    /// What nobody would read is refused.
    fn without_command_line(&self) -> Result<(), Error> {
        if self.settings.append.is_none() {
            return Ok(());
        }
        Err(Error::Asked(format!(
            "--append: {} is an arm64 image, which has no command line: use -a and -e, with --ephemeral, or \
             build the image again with `ops`",
            self.image.source().name()
        )))
    }

    fn asked(&self) -> bool {
        let Told { settings, addresses, mounts, .. } = self;
        !settings.args.is_empty()
            || !settings.env.is_empty()
            || !addresses.is_empty()
            || !mounts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;
    use crate::config::{parse_str, settle};
    use crate::image::Source;
    use crate::image::testing::{ElfFile, Node, boot_filesystem, disk, log};

    /// An image for arm64 whose program is called with the argument `a`.
    fn image() -> Image {
        let mut kernel = ElfFile::new(0x4040_0000);
        kernel.machine = 183;
        kernel.load(0x4040_0000, &[0; 16], 16);
        let boot = boot_filesystem(5, &kernel.build());
        let arguments = Node::Vector(vec![Node::Text("web"), Node::Text("a")]);
        let mounts = Node::Tuple(vec![("data", Node::Text("/data"))]);
        let manifest =
            [("program", Node::Text("/web")), ("arguments", arguments), ("mounts", mounts)];
        let root = log(5, 4, &[Node::Tuple(manifest.into())]);
        let sectors = |bytes: &[u8]| u32::try_from(bytes.len() / 512).unwrap();
        let behind = 2 + sectors(&boot);
        let entries = [(0x83, 2, sectors(&boot)), (0x83, behind, sectors(&root))];
        let bytes = disk(&entries, &[boot, root].concat());
        Image::recognise(Source::from_bytes("web.img", &bytes)).unwrap()
    }

    /// Whether a record is laid over the image for a command line; or the refusal.
    fn plan(line: &[&str]) -> Result<bool, String> {
        let command = cli::parse(["runner", "web.img"].iter().chain(line).copied());
        let Ok(cli::Command::Run(options)) = command else { panic!("{line:?}") };
        let settings = settle(*options, &parse_str("empty.json", "{}").unwrap()).unwrap();
        let (none, image) = (Addresses::default(), image());
        let mounts: Vec<_> = (settings.mounts.iter())
            .map(|mount| (mount.volume.clone(), mount.path.clone()))
            .collect();
        let told = Told { settings: &settings, addresses: &none, mounts: &mounts, image: &image };
        assert!(told.words().map_err(|error| error.to_string())?.is_empty());
        let record = told.record().map_err(|error| error.to_string())?;
        Ok(record.is_some())
    }

    #[test]
    fn an_arm64_image_is_asked_for_its_status_and_told_the_rest_in_an_ephemeral_run() {
        assert_eq!(plan(&[]), Ok(true));
        assert_eq!(plan(&["-a", "a"]), Ok(true), "the image says so already");
        assert_eq!(plan(&["--mounts", "data:/data"]), Ok(true), "so it does of this volume");
        assert_eq!(plan(&["--ephemeral", "-a", "b", "-e", "X=two words"]), Ok(true));
        for line in [["-a", "b"], ["-e", "X=1"], ["--mounts", "logs:/var/log"]] {
            let refusal = plan(&line).unwrap_err();
            assert!(
                refusal.starts_with("web.img: ") && refusal.contains("--ephemeral"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn words_that_nobody_would_read_are_refused() {
        let refusal = plan(&["--append", "trace=t"]).unwrap_err();
        assert!(refusal.starts_with("--append: web.img is an arm64 image"), "{refusal}");
    }
}
