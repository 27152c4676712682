//! What a guest without a command line is told over what its image says: Nanos on arm64 takes its
//! arguments, environment and addresses from its manifest alone (nanos, `src/aarch64/kernel_machine.c`).
//!
//! The manifest is the root tuple of the image's root file system, and what is told is a record at the
//! end of that file system's log, laid over the image ([`Patch`]).

use super::tfs::{AppendError, Filesystem, Patch, Setting, Tuple, Value};

/// What to tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overrides<'a> {
    /// Arguments behind the program's name. None: those of the image.
    pub args: &'a [String],
    /// Environment variables, beside the image's.
    pub env: &'a [(String, String)],
    /// Addresses by path (`en1.ipaddr`).
    pub addresses: &'a [(&'static str, String)],
    /// Names of volumes and where they are mounted, beside those of the image.
    pub mounts: &'a [(String, String)],
    /// The guest is to end with its status by semihosting (`debug_exit`), where it knows how.
    pub exit_status: bool,
}

impl Overrides<'_> {
    /// The patch that tells it, if there is anything that the image does not say already.
    pub(super) fn patch(&self, filesystem: &Filesystem) -> Result<Option<Patch>, AppendError> {
        let root = filesystem.root();
        let mut settings = Vec::new();
        if self.exit_status && root.get("debug_exit").is_none() {
            settings.push(Setting::Text("debug_exit", b"t"));
        }
        if !self.args.is_empty() {
            let args = self.args.iter().map(String::as_bytes);
            let all: Vec<_> = std::iter::once(program(&root)).chain(args).collect();
            if all != arguments(&root) {
                settings.push(Setting::List("arguments", all));
            }
        }
        let env = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        settings.extend(table(&root, "environment", env));
        let mounts = self.mounts.iter().map(|(name, path)| (name.as_str(), path.as_str()));
        settings.extend(table(&root, "mounts", mounts));
        let mut left = self.addresses;
        while let Some((path, _)) = left.first() {
            let interface = parts(path).0;
            let count = left.iter().take_while(|(path, _)| parts(path).0 == interface).count();
            let (these, others) = left.split_at(count);
            let entries = these.iter().map(|(path, value)| (parts(path).1, value.as_str()));
            settings.extend(table(&root, interface, entries));
            left = others;
        }
        if settings.is_empty() { Ok(None) } else { filesystem.append(&settings).map(Some) }
    }
}

/// `en1.ipaddr` is the entry `ipaddr` of the tuple `en1`.
fn parts(path: &'static str) -> (&'static str, &'static str) {
    path.split_once('.').unwrap_or(("", path))
}

/// The program's arguments, as far as they are strings.
fn arguments<'a>(root: &Tuple<'a>) -> Vec<&'a [u8]> {
    let Some(Value::Tuple(arguments)) = root.get("arguments") else { return Vec::new() };
    let mut numbered: Vec<_> = (arguments.entries().into_iter())
        .filter_map(|(key, value)| Some((key.number()?, value.text()?)))
        .collect();
    numbered.sort_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, text)| text).collect()
}

/// The program's name for itself: its first argument, or else its path.
fn program<'a>(root: &Tuple<'a>) -> &'a [u8] {
    let first = arguments(root).first().copied();
    first.or_else(|| root.get("program").and_then(|path| path.text())).unwrap_or_default()
}

/// The strings of the tuple `name` with `entries` over them; `None` where it has them all.
fn table<'a>(
    root: &Tuple<'a>,
    name: &'a str,
    entries: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<Setting<'a>> {
    let new: Vec<_> = entries.map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let mut all = match root.get(name) {
        Some(Value::Tuple(tuple)) => strings(&tuple),
        _ => Vec::new(),
    };
    if new.iter().all(|entry| all.contains(entry)) {
        return None;
    }
    all.retain(|(name, _)| !new.iter().any(|(other, _)| other == name));
    all.extend(new);
    Some(Setting::Table(name, all))
}

/// Whatever else there is in it, the guest takes strings alone.
fn strings<'a>(tuple: &Tuple<'a>) -> Vec<(&'a [u8], &'a [u8])> {
    let entries = tuple.entries().into_iter();
    let named = entries.filter_map(|(key, value)| match key {
        super::tfs::Key::Name(name) => Some((name, value.text()?)),
        super::tfs::Key::Index(_) => None,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Source;
    use crate::image::testing::{Node, log};
    use crate::image::tfs::Region;

    fn filesystem(bytes: &[u8]) -> Filesystem {
        let source = Source::from_bytes("test", bytes);
        let region = Region { start: 0, len: source.len() };
        Filesystem::open(&source, region).unwrap()
    }

    fn manifest() -> Vec<u8> {
        let tuple = Node::Tuple(vec![
            ("program", Node::Text("/web")),
            ("arguments", Node::Vector(vec![Node::Text("web"), Node::Text("a"), Node::Text("b")])),
            (
                "environment",
                Node::Tuple(vec![("USER", Node::Text("bobby")), ("X", Node::Text("1"))]),
            ),
        ]);
        log(5, 4, &[tuple])
    }

    /// What the guest finds in the place of what the image has.
    fn told(overrides: Overrides<'_>) -> super::super::Manifest {
        super::super::Manifest::of(&filesystem(&manifest_with(overrides)))
    }

    fn manifest_with(overrides: Overrides<'_>) -> Vec<u8> {
        let mut bytes = manifest();
        let patch = overrides.patch(&filesystem(&bytes)).unwrap().unwrap();
        let at = usize::try_from(patch.at).unwrap();
        bytes[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
        bytes
    }

    #[test]
    fn arguments_replace_all_but_the_programs_name_and_may_have_spaces_and_be_fewer() {
        let args = ["two words".to_owned()];
        let manifest = told(Overrides { args: &args, ..Default::default() });
        assert_eq!(manifest.arguments, ["web", "two words"]);
        assert_eq!(manifest.program.as_deref(), Some("/web"));
    }

    #[test]
    fn variables_and_addresses_go_beside_what_the_image_has() {
        let env = [("X".to_owned(), "2".to_owned()), ("Y".to_owned(), "a b".to_owned())];
        let addresses =
            [("en1.ipaddr", "10.0.0.2".to_owned()), ("en1.netmask", "255.0.0.0".to_owned())];
        let overrides = Overrides { env: &env, addresses: &addresses, ..Default::default() };
        let manifest = told(overrides);
        let pairs = [("USER", "bobby"), ("X", "2"), ("Y", "a b")];
        assert_eq!(manifest.environment, pairs.map(|(n, v)| (n.to_owned(), v.to_owned())));
        let filesystem = filesystem(&manifest_with(overrides));
        let Some(Value::Tuple(en1)) = filesystem.root().get("en1") else { panic!("no en1") };
        assert_eq!(en1.get("ipaddr").unwrap().text(), Some(&b"10.0.0.2"[..]));
        assert_eq!(en1.get("netmask").unwrap().text(), Some(&b"255.0.0.0"[..]));
    }

    #[test]
    fn volumes_go_into_the_table_of_mounts_whether_there_is_one_or_not() {
        let mounts = [("4a-b".to_owned(), "/data:ro".to_owned())];
        let bytes = manifest_with(Overrides { mounts: &mounts, ..Default::default() });
        let filesystem = filesystem(&bytes);
        let Some(Value::Tuple(told)) = filesystem.root().get("mounts") else { panic!("none") };
        assert_eq!(told.get("4a-b").unwrap().text(), Some(&b"/data:ro"[..]));
    }

    #[test]
    fn nothing_is_told_that_nobody_asked_for_or_that_the_image_says() {
        let bytes = manifest();
        assert_eq!(Overrides::default().patch(&filesystem(&bytes)).unwrap(), None);
        let exit = Overrides { exit_status: true, ..Default::default() };
        let with_exit = manifest_with(exit);
        let filesystem = filesystem(&with_exit);
        assert_eq!(filesystem.root().get("debug_exit").unwrap().text(), Some(&b"t"[..]));
        assert_eq!(exit.patch(&filesystem).unwrap(), None);
        let (args, env) = (["a", "b"].map(str::to_owned), [("X".to_owned(), "1".to_owned())]);
        let same = Overrides { args: &args, env: &env, ..exit };
        assert_eq!(same.patch(&filesystem).unwrap(), None);
    }
}
