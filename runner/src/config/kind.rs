//! What the value of a field may be, and how to write it.

/// What a field's value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An object whose fields are in the table.
    Section,
    /// A string.
    Text,
    /// A string that names a file.
    Path,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number,
    /// A list of strings.
    Texts,
    /// An object of strings.
    Map,
    /// Networks by name, as an object of strings.
    Nets,
    /// An object nobody looks into.
    AnyMap,
    /// A list nobody looks into.
    AnyList,
    /// A memory size, as a string.
    Size,
    /// A number of CPUs.
    Cpus,
    /// An accelerator's name.
    Which,
    /// How much of a jail.
    Jail,
    /// A balloon, or its size.
    Balloon,
    /// Which consoles.
    Console,
    /// Where virtio devices are.
    Bus,
    /// A boot protocol's name.
    Entry,
    /// A time, as seconds or as a string.
    Time,
    /// An IPv4 address, as a string.
    Ip4,
    /// An IPv6 address, as a string.
    Ip6,
    /// An IPv4 network mask, as a string.
    Mask,
    /// What is in a disk's file.
    DiskFormat,
    /// A list of objects with the fields of `Runner.Disks[]`.
    Disks,
    /// A list of objects with the fields of `Runner.Shares[]`.
    Shares,
    /// A network interface's name.
    Interface,
    /// Which network.
    Net,
    /// A hardware address, as a string.
    Mac,
    /// A list of ports to forward.
    Ports,
    /// A socket device's path, with an address perhaps.
    Vsock,
}

impl Kind {
    /// What to write, for an error: what it is, and an example.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Kind::Section | Kind::AnyMap => "an object: { … }",
            Kind::Text => r#"a string: "…""#,
            Kind::Path => r#"a path: "file""#,
            Kind::Flag => "true or false, without quotes",
            Kind::Number => "a whole number without quotes: 1",
            Kind::Texts => r#"a list of strings: ["a", "b"]"#,
            Kind::Map => r#"an object of strings: {"NAME": "value"}"#,
            Kind::Nets => r#"an object of networks: {"NAME": "user"}"#,
            Kind::AnyList => "a list: [ … ]",
            Kind::Size => r#"a string such as "512M" or "2G""#,
            Kind::Cpus => "a whole number from 1, without quotes: 2",
            Kind::Which => r#"a string: "auto", "kvm", "hvf" or "off""#,
            Kind::Jail => r#"a string: "on", "strict" or "off""#,
            Kind::Balloon => r#"true, or a size as a string: "256M""#,
            Kind::Console => r#"a string: "serial" or "virtio""#,
            Kind::Bus => r#"a string: "mmio" or "pci""#,
            Kind::Entry => {
                r#"a string: "linux64", "linux32", "pvh", "multiboot", "arm64", "hvt" or "uhyve""#
            }
            Kind::Time => r#"seconds, or a string such as "500ms" or "2m""#,
            Kind::Ip4 => r#"an IPv4 address as a string: "10.0.2.15""#,
            Kind::Ip6 => r#"an IPv6 address as a string: "fd00::15""#,
            Kind::Mask => r#"a network mask as a string: "255.255.255.0""#,
            Kind::Interface => r#"a network interface's name: "tap0""#,
            Kind::Net => r#"a string such as "user", "none", "tap:tap0" or "bridge:br0""#,
            Kind::Mac => r#"a string such as "52:54:00:12:34:56""#,
            Kind::Ports => r#"a list of ports as strings: ["8080", "8443:443"]"#,
            Kind::Shares => {
                r#"a list of folders: [{"Path": "data", "Tag": "data", "ReadOnly": true}]"#
            }
            Kind::Vsock => r#"a socket's path: "v.sock", or "v.sock,cid=5""#,
            Kind::DiskFormat => r#"the format of a disk: "raw", "qcow2""#,
            Kind::Disks => r#"a list of disks: [{"Path": "disk.raw", "ReadOnly": true}]"#,
        }
    }
}
