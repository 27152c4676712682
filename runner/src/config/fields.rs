//! Every field `config.json` may have: its name, its type and what becomes of it here.
//!
//! One table. The parser, the list under `-v`, the README's table and the JSON schema are made from it or tested
//! against it. The names are those of nanovms/ops, `types/config.go`, of May 2026; `Runner` is ours.

pub use super::kind::Kind;
use Class::{Cloud, Image, Ops, Refused, Warned, Works};
use Kind::{
    AnyList, AnyMap, Balloon, Bus, Console, Cpus, DiskFormat, Disks, Entry, Flag, Interface, Ip4,
    Ip6, Mac, Map, Mask, Net, Nets, Number, Path, Ports, Section, Shares, Size, Text, Texts, Time,
    Which,
};

/// A field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The names from the top down, joined by dots: `RunConfig.Memory`.
    pub path: &'static str,
    /// What its value must be.
    pub kind: Kind,
    /// What becomes of it.
    pub class: Class,
    /// What it does, or why not and what to do instead.
    pub note: &'static str,
}

/// What becomes of a field that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It does what it says.
    Works,
    /// The guest boots without it, and a warning says so.
    Warned,
    /// It belongs to image building and is in the image already: accepted, listed under `-v`.
    Image,
    /// It belongs to clouds: accepted, listed under `-v`.
    Cloud,
    /// It is for the program ops itself: accepted, listed under `-v`.
    Ops,
    /// An error that says what to do instead.
    Refused,
}

const BRIDGE_ADDRESS: &str = "the host's bridges stay as they are: give it the address by \
    `sudo ip address add 10.0.0.1/24 dev br0`";
const NICS: &str =
    "the guest has one network device, whose addresses are in the image or in IPAddress";
const DEBUGGER: &str = "there is no debugger stub in this version: use `ops run -d`";
const BACKGROUND: &str = "a run stays in the foreground; start it in the background with \
    `systemd-run --user --same-dir runner -c config.json hello` on Linux, \
    `launchctl submit -l hello -- runner -c \"$PWD/config.json\" hello` on macOS";
const QMP: &str = "there is no QEMU to talk to: end a run with a signal, \
    read what became of it in --report FILE";

const fn field(path: &'static str, kind: Kind, class: Class, note: &'static str) -> Field {
    Field { path, kind, class, note }
}

/// All fields, in the order of OPS's sources.
pub static FIELDS: &[Field] = &[
    field(
        "Args",
        Texts,
        Works,
        "the program's arguments after its own name, in place of the image's",
    ),
    field("DisableArgsCopy", Flag, Image, ""),
    field("BaseVolumeSz", Text, Image, ""),
    field("Boot", Text, Image, ""),
    field("UefiBoot", Text, Image, ""),
    field("Uefi", Flag, Image, "images with and without UEFI boot alike"),
    field("BuildDir", Text, Image, ""),
    field("CloudConfig", Section, Cloud, "with all its fields"),
    field("TargetConfig", Map, Cloud, ""),
    field("Debugflags", Texts, Image, ""),
    field("Dirs", Texts, Image, ""),
    field("Env", Map, Works, "variables for the guest, over those in the image"),
    field("Files", Texts, Image, ""),
    field("Force", Flag, Ops, ""),
    field("home", Text, Ops, "images are found by $OPS_HOME"),
    field("Kernel", Path, Works, "boots this kernel in place of the image's own"),
    field("KlibDir", Text, Image, ""),
    field("Klibs", Texts, Image, ""),
    field("MapDirs", Map, Image, ""),
    field(
        "Mounts",
        Map,
        Works,
        "volumes to attach and folders to share, as --mounts: `{\"data\": \"/data\", \"./logs\": \"/logs:ro\"}`",
    ),
    field("NameServers", Texts, Image, ""),
    field("NanosVersion", Text, Image, ""),
    field("NightlyBuild", Flag, Image, ""),
    field("NoTrace", Texts, Image, ""),
    field("ManifestPassthrough", AnyMap, Image, ""),
    field(
        "Program",
        Path,
        Works,
        "names the image when nothing else does: the last part of the path up to its first dot, as in OPS",
    ),
    field("ProgramPath", Text, Ops, ""),
    field("RebootOnExit", Flag, Image, "a run ends where such a guest reboots"),
    field("RunConfig", Section, Works, "see below"),
    field("LocalFilesParentDirectory", Text, Image, ""),
    field("TargetRoot", Text, Image, ""),
    field("TFSv4", Flag, Image, "both encodings are read"),
    field("Version", Text, Ops, "a package's version"),
    field("Language", Text, Ops, "a package's language"),
    field("Description", Text, Ops, "a package's description"),
    field("VolumesDir", Text, Ops, "volumes are looked for in ~/.ops/volumes, as by `ops run`"),
    field("PackageBaseURL", Text, Ops, ""),
    field("PackageManifestURL", Text, Ops, ""),
    field("CloudConfig.BucketName", Text, Cloud, ""),
    field("CloudConfig.BucketNamespace", Text, Cloud, ""),
    field("CloudConfig.ConfidentialVM", Flag, Cloud, ""),
    field("CloudConfig.DedicatedHostID", Text, Cloud, ""),
    field("CloudConfig.DomainName", Text, Cloud, ""),
    field("CloudConfig.StaticIP", Text, Cloud, ""),
    field("CloudConfig.EnableIPv6", Flag, Cloud, ""),
    field("CloudConfig.Flavor", Text, Cloud, ""),
    field("CloudConfig.ImageType", Text, Cloud, ""),
    field("CloudConfig.ImageName", Text, Cloud, ""),
    field("CloudConfig.InstanceProfile", Text, Cloud, ""),
    field("CloudConfig.KMS", Text, Cloud, ""),
    field("CloudConfig.Platform", Text, Cloud, ""),
    field("CloudConfig.ProjectID", Text, Cloud, ""),
    field("CloudConfig.RootVolume", AnyMap, Cloud, ""),
    field("CloudConfig.SecurityGroup", Text, Cloud, ""),
    field("CloudConfig.SkipImportVerify", Flag, Cloud, ""),
    field("CloudConfig.Spot", Flag, Cloud, ""),
    field("CloudConfig.Subnet", Text, Cloud, ""),
    field("CloudConfig.Tags", AnyList, Cloud, ""),
    field("CloudConfig.UserData", Text, Cloud, ""),
    field("CloudConfig.VPC", Text, Cloud, ""),
    field("CloudConfig.Zone", Text, Cloud, ""),
    field(
        "RunConfig.Accel",
        Flag,
        Works,
        "true: the host's accelerator, else software emulation; false: software emulation",
    ),
    field(
        "RunConfig.AtExit",
        Text,
        Refused,
        "nothing is started after a run: type `runner hello; COMMAND`",
    ),
    field(
        "RunConfig.Bridged",
        Flag,
        Works,
        "puts the guest into the bridge BridgeName, or br0, as --bridged",
    ),
    field("RunConfig.BridgeIPAddress", Text, Warned, BRIDGE_ADDRESS),
    field(
        "RunConfig.BridgeName",
        Interface,
        Works,
        "a bridge to put the guest into, as --bridgename",
    ),
    field("RunConfig.CanIPForward", Flag, Cloud, ""),
    field("RunConfig.CPUs", Cpus, Works, "number of virtual CPUs"),
    field(
        "RunConfig.GPUs",
        Number,
        Refused,
        "no device of the host is passed to the guest: use `ops run`",
    ),
    field("RunConfig.GPUType", Text, Ops, "see GPUs"),
    field("RunConfig.Debug", Flag, Refused, DEBUGGER),
    field("RunConfig.Gateway", Ip4, Works, "the guest's gateway, as --gateway"),
    field("RunConfig.GdbPort", Number, Refused, DEBUGGER),
    field("RunConfig.ImageName", Path, Works, "names the image when the command line does not"),
    field("RunConfig.InstanceGroup", Text, Cloud, ""),
    field("RunConfig.InstanceName", Text, Ops, "a run has no name"),
    field(
        "RunConfig.IPAddress",
        Ip4,
        Works,
        "the guest's own address in place of DHCP's, as --ip-address",
    ),
    field("RunConfig.IPv6Address", Ip6, Works, "the guest's own IPv6 address, as --ipv6-address"),
    field("RunConfig.Kernel", Path, Works, "as Kernel, and before it"),
    field("RunConfig.Memory", Size, Works, "guest memory: `512M`, `2G`; a plain number is MiB"),
    field("RunConfig.Mgmt", Text, Refused, QMP),
    field("RunConfig.Vga", Flag, Warned, "there is no display, the guest's console is on stdout"),
    field("RunConfig.Mounts", Texts, Works, "files attached as disks the guest can write"),
    field("RunConfig.AttachVolumeOnInstanceCreate", Flag, Cloud, ""),
    field("RunConfig.NetMask", Mask, Works, "the guest's network mask, as --netmask"),
    field("RunConfig.Nics", AnyList, Warned, NICS),
    field("RunConfig.Background", Flag, Refused, BACKGROUND),
    field("RunConfig.BackgroundDetach", Flag, Refused, BACKGROUND),
    field(
        "RunConfig.Ports",
        Ports,
        Works,
        "TCP ports that lead to the guest, as -p; `8080-8090` is a range, and on 127.0.0.1 unless an address is given",
    ),
    field("RunConfig.QMP", Flag, Refused, QMP),
    field("RunConfig.ShowDebug", Flag, Ops, ""),
    field("RunConfig.ShowErrors", Flag, Ops, "errors are always shown"),
    field("RunConfig.ShowWarnings", Flag, Ops, "warnings are always shown"),
    field("RunConfig.JSON", Flag, Ops, "see --report"),
    field("RunConfig.TapName", Interface, Works, "a tap device for the guest, as --tapname"),
    field("RunConfig.UDPPorts", Ports, Works, "the same for UDP, as --udp"),
    field("RunConfig.Verbose", Flag, Works, "says on stderr what is done"),
    field("RunConfig.VolumeSizeInGb", Number, Cloud, ""),
    field("RunConfig.ThreadsPerCore", Number, Cloud, ""),
    field(
        "Runner",
        Section,
        Works,
        "see below; OPS refuses this field, so keep it in a second file",
    ),
    field(
        "Runner.Accel",
        Which,
        Works,
        "as --accel, and before RunConfig.Accel: `auto`, `kvm`, `hvf`, `off`",
    ),
    field("Runner.Append", Text, Works, "added to the kernel's command line, as --append"),
    field(
        "Runner.Balloon",
        Balloon,
        Works,
        "true: memory that the guest has free goes back to the host, as --balloon; a size: so much in any case",
    ),
    field(
        "Runner.Blocks",
        Map,
        Works,
        "block storage of a Solo5 guest by its manifest's names, as --block: `{\"storage\": \"disk.raw,ro\"}`",
    ),
    field(
        "Runner.Channels",
        Map,
        Works,
        "ports of a virtio console by their names, each before a program that listens at a socket, as --channel: \
         `{\"agent\": \"agent.sock\"}`",
    ),
    field(
        "Runner.Console",
        Console,
        Works,
        "which consoles the guest has, as --console: `serial`, `virtio`",
    ),
    field(
        "Runner.Disks",
        Disks,
        Works,
        "disks to attach: a list of `{\"Path\": \"disk.raw\", \"ReadOnly\": true}`",
    ),
    field("Runner.Disks[].Path", Path, Works, "the disk's file"),
    field("Runner.Disks[].ReadOnly", Flag, Works, "the guest cannot write it"),
    field(
        "Runner.Disks[].Format",
        DiskFormat,
        Works,
        "what is in the file: `raw`, which is what it is unless this says `qcow2`",
    ),
    field(
        "Runner.Entry",
        Entry,
        Works,
        "how the kernel is entered, as --entry: `linux64`, `linux32`, `pvh`, `multiboot`, `arm64`, `hvt`, `uhyve`",
    ),
    field(
        "Runner.Ephemeral",
        Flag,
        Works,
        "throws away what the guest writes to its disks, as --ephemeral",
    ),
    field(
        "Runner.HostLoopback",
        Flag,
        Works,
        "the guest reaches the host's own services, as --host-loopback",
    ),
    field("Runner.Initrd", Path, Works, "initial ram disk, as --initrd"),
    field("Runner.Jail", Kind::Jail, Works, "as --jail: `on`, `strict`, `off`"),
    field(
        "Runner.LinkLocal",
        Flag,
        Works,
        "the guest reaches link-local addresses, as --link-local",
    ),
    field("Runner.Mac", Mac, Works, "the guest's hardware address, as --mac"),
    field(
        "Runner.Net",
        Net,
        Works,
        "which network, as --net, and before TapName and Bridged: `user`, `none`, `tap:NAME`, …",
    ),
    field(
        "Runner.Nets",
        Nets,
        Works,
        "networks of a Solo5 guest by its manifest's names, as --net: `{\"service\": \"user\"}`",
    ),
    field("Runner.Pcap", Path, Works, "where to write what goes over the network, as --pcap"),
    field(
        "Runner.PortWait",
        Time,
        Works,
        "for how long clients wait where the guest does not listen yet, as --port-wait",
    ),
    field("Runner.Report", Path, Works, "where to write the JSON record, as --report"),
    field(
        "Runner.Rng",
        Flag,
        Works,
        "true: an entropy device, as --rng; false: none, where a guest has one unasked",
    ),
    field(
        "Runner.Shares",
        Shares,
        Works,
        "folders to share: a list of `{\"Path\": \"data\", \"Tag\": \"data\", \"ReadOnly\": true}`",
    ),
    field("Runner.Shares[].Path", Path, Works, "the folder"),
    field(
        "Runner.Shares[].Tag",
        Text,
        Works,
        "by what the guest finds it; without, its number among the shares, from 1 on",
    ),
    field("Runner.Shares[].ReadOnly", Flag, Works, "the guest cannot change anything in it"),
    field("Runner.Stdin", Flag, Works, "a terminal on stdin is the guest's keyboard, as --stdin"),
    field("Runner.Timeout", Time, Works, "ends the run, as --timeout: `5`, `\"500ms\"`, `\"2m\"`"),
    field("Runner.Virtio", Bus, Works, "where virtio devices are, as --virtio: `mmio`, `pci`"),
    field(
        "Runner.Vsock",
        Kind::Vsock,
        Works,
        "a socket device before this socket of the host's, as --vsock: `v.sock`, `\"v.sock,cid=5\"`",
    ),
];

/// The place in [`FIELDS`] of the field whose path is `section` and then `name`, whatever the case of its letters.
pub(super) fn find(section: &str, name: &str) -> Option<usize> {
    FIELDS.iter().position(|field| {
        members_name(field, section).is_some_and(|own| own.eq_ignore_ascii_case(name))
    })
}

/// The path of what is likely meant by `name`, which is no field of `section`.
pub(super) fn nearest(section: &str, name: &str) -> Option<&'static str> {
    // No field's name is near to a name that long, and comparing takes time with the square of the length.
    if name.len() > 64 {
        return None;
    }
    let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
    let elsewhere = FIELDS
        .iter()
        .filter(|field| !field.path.contains("[]"))
        .filter(|field| {
            [field.path, last(field.path)].iter().any(|own| own.eq_ignore_ascii_case(name))
        })
        // Whoever runs an image here hardly means CloudConfig's ImageName.
        .min_by_key(|field| field.class == Cloud);
    if let Some(field) = elsewhere {
        return Some(field.path);
    }
    let name = name.to_ascii_lowercase();
    FIELDS
        .iter()
        .filter_map(|field| Some((field, members_name(field, section)?)))
        .map(|(field, own)| {
            let own = own.to_ascii_lowercase();
            (strsim::damerau_levenshtein(&own, &name), own.len(), field)
        })
        .filter(|(distance, len, _)| distance.saturating_mul(3) <= *len.max(&3))
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., field)| field.path)
}

/// The field's own name when it stands directly in `section`.
fn members_name(field: &Field, section: &str) -> Option<&'static str> {
    let name = match section {
        "" => field.path,
        _ => field.path.strip_prefix(section)?.strip_prefix('.')?,
    };
    (!name.contains('.')).then_some(name)
}
